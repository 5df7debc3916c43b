"""What a user should know of a video file that can be read: that it was cut, and that it has other pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

_SHARE, _FRAMES = 0.02, 3
"""What has to be missing at the end before a file counts as cut: more than both of this share and these frames."""


class Remark(NamedTuple):
    """``code``: a kind of finding of ``syncvis data check``."""

    code: str
    text: str


class Packet(NamedTuple):
    """What is kept of a coded frame; times are in the stream's unit."""

    pts: int | None
    duration: int | None
    is_discard: bool
    is_corrupt: bool


def read_packets(container: Any, stream: Any) -> list[Packet]:
    """All of a stream."""
    packets = (packet for packet in container.demux(stream) if packet.size)
    return [Packet(packet.pts, packet.duration, packet.is_discard, packet.is_corrupt) for packet in packets]


def moving(container: Any) -> list[Any]:
    """The tracks of pictures without covers."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def other_pictures(container: Any) -> Iterator[Remark]:
    """Pictures of the file that are not read."""
    tracks, covers = moving(container), len(container.streams.video) - len(moving(container))
    if len(tracks) > 1:
        sizes = ", ".join(f"{context.height} x {context.width}" for track in tracks if (context := track.codec_context))
        yield Remark("video-tracks", f"has {len(tracks)} video tracks ({sizes}), of which the first is read")
    if covers:
        yield Remark("video-tracks", "has a cover picture, which is not read")


def cut(container: Any, stream: Any, packets: Sequence[Packet], times: NDArray[np.int64]) -> Iterator[Remark]:
    """Whether the frames end clearly before the header says, or within one.

    Of containers whose length is only known by reading them to the end (ts, mpg, ogv, wmv), a cut cannot be seen.

    Args:
        packets: all of the stream.
        times: (T,) when each frame is shown, in the stream's unit of time.
    """
    promised, shared = _promised(container, stream)
    if len(times) and promised is not None:
        unit = float(stream.time_base)
        last = max((packet.pts or 0) + (packet.duration or 0) for packet in packets if not packet.is_discard)
        end = max(last, int(times[-1])) * unit - min(0.0, int(times[0]) * unit)
        step = unit * int(np.diff(times).max(initial=0)) or promised / max(len(times), stream.frames, 1)
        least = max(_SHARE * promised, _FRAMES * step)
        if promised - end > least and not (shared and promised - _end_of_all(container) <= least):
            frames = round(len(times) * promised / end) if end > 0 else 0
            about = f", about {frames} frames" if frames else ""
            text = f"its header promises {promised:.2f} s{about}, but it ends after {end:.2f} s, {len(times)} frames"
            yield Remark("video-cut", f"is cut: {text}")
            return
    if (
        packets and packets[-1].is_corrupt and not _is(container, "mpeg")
    ):  # there it says that something is missing before
        yield Remark("video-cut", f"is cut: it ends within a frame, after {len(times)} frames")


def _promised(container: Any, stream: Any) -> tuple[float | None, bool]:
    """Seconds that the header says, and whether this is the length of the file, which sound may have made longer."""
    if _is(container, "mov") and stream.duration:
        return float(stream.duration * stream.time_base), False
    if _is(container, "avi") and stream.frames:
        return float(stream.frames * stream.time_base), False
    if _is(container, "matroska"):
        own = [_seconds(text) for key, text in stream.metadata.items() if key.upper().startswith("DURATION")]
        if own and own[0] is not None:
            return own[0], False
    if (_is(container, "matroska") or _is(container, "flv")) and container.duration:
        return container.duration / 1e6, True
    return None, False


def _is(container: Any, name: str) -> bool:
    return name in container.format.name


def _seconds(text: str) -> float | None:
    """Of hours:minutes:seconds."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _end_of_all(container: Any) -> float:
    """Seconds after which nothing more comes, of sound neither."""
    container.seek(0)
    packets = (packet for packet in container.demux() if packet.size and packet.pts is not None)
    return max((float((packet.pts + (packet.duration or 0)) * packet.time_base) for packet in packets), default=0.0)
