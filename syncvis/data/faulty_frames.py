"""Frames that a reader would stumble over, told by video instead of one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

MOST = 5
"""Videos that are told one by one, and runs of ids that are listed."""


@dataclass(frozen=True)
class Faulty:
    """Frames of one video with the same fault.

    Attributes:
        length: frames of the whole video.
        frames: the names of those with the fault, or what else tells them.
    """

    video: int | None
    length: int
    frames: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return len(self.frames) == self.length > 1


def grouped(faulty: Sequence[Faulty], state: str, noun: str = "video", examples: bool = False) -> list[str]:
    """``["videos 1, 2: all 8 frames missing", "video 3: 1 (v3/00007.png)"]``.

    Args:
        state: what is wrong with the frames: "missing".
        noun: what a video is called; "image" for a file of single images.
        examples: name a frame also of videos of which all frames have the fault.
    """
    whole: dict[int, list[Faulty]] = defaultdict(list)
    for one in faulty:
        if one.is_whole:
            whole[one.length].append(one)
    if len(whole) > MOST:
        parts = [_all([one for same in whole.values() for one in same], noun, examples)]
    else:
        parts = [_all(same, noun, examples) for same in whole.values()]
    some = [one for one in faulty if not one.is_whole]
    parts += [_some(one, noun) for one in some[:MOST]]
    lines = [f"{who}: {count} frame{'s' * (count != '1')} {state}{example}" for who, count, example in parts[:1]]
    lines += [f"{who}: {count}{' frames' * count.startswith('all')}{example}" for who, count, example in parts[1:]]
    if len(some) > MOST:
        rest = sum(len(one.frames) for one in some[MOST:])
        lines.append(f"{len(some) - MOST} more {noun}s: {rest}")
    return lines


def _all(same: Sequence[Faulty], noun: str, examples: bool) -> tuple[str, str, str]:
    lengths = {one.length for one in same}
    count = f"all {lengths.pop()}" if len(lengths) == 1 else f"all {sum(one.length for one in same)}"
    return _named([one.video for one in same], noun), count, f" ({same[0].frames[0]}, ...)" if examples else ""


def _some(one: Faulty, noun: str) -> tuple[str, str, str]:
    more = ", ..." if len(one.frames) > 1 else ""
    return _named([one.video], noun), str(len(one.frames)), f" ({one.frames[0]}{more})"


def _named(ids: Sequence[int | None], noun: str) -> str:
    """``videos 1, 2, 5 to 9``."""
    known = sorted({number for number in ids if number is not None})
    if not known:
        return f"{len(ids)} {noun}s without an id" if len(ids) > 1 else f"a {noun} without an id"
    runs = [[number for _, number in run] for _, run in groupby(enumerate(known), lambda pair: pair[1] - pair[0])]
    shown = [word for run in runs[:MOST] for word in _run(run)]
    rest = sum(map(len, runs[MOST:]))
    return f"{noun}{'s' * (len(known) > 1)} {', '.join(shown)}" + (f" and {rest} more" if rest else "")


def _run(run: Sequence[int]) -> list[str]:
    return [f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run))
