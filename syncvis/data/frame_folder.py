"""A folder of images as the frames of one video: which they are, their order, and what is worth saying about them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from syncvis.data.file_names import is_hidden, natural
from syncvis.data.frames import Header, read_header
from syncvis.data.turns import UPRIGHT
from syncvis.data.video_file import is_video_file
from syncvis.errors import DataError

KINDS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""The suffixes of each kind of image that is read."""

_KIND_OF = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes}
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)")


@dataclass(frozen=True)
class FrameFolder:
    """The images of a folder.

    Attributes:
        names: in natural order.
        passed: how many other things there are, by what they are.
    """

    folder: Path
    names: tuple[str, ...]
    passed: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> FrameFolder:
        """List a folder.

        Raises:
            DataError: It cannot be listed, or has no images, or several kinds of them.
        """
        by_kind: dict[str, list[str]] = defaultdict(list)
        try:
            for path in folder.iterdir():
                by_kind[_kind(path)].append(path.name)
        except OSError as error:
            raise DataError(
                f"cannot be listed ({error.strerror})", file=folder, fix="correct its permissions"
            ) from None
        kinds = [kind for kind in KINDS if kind in by_kind]
        if len(kinds) != 1:
            raise _several(folder, by_kind, kinds) if kinds else _empty(folder, by_kind)
        passed = {kind: len(names) for kind, names in sorted(by_kind.items()) if kind not in KINDS}
        return cls(folder, tuple(sorted(by_kind[kinds[0]], key=lambda name: (natural(name), name))), passed)

    def look(self) -> tuple[tuple[int, int], list[str]]:
        """Read all headers: height and width of the frames, and what is worth saying.

        Raises:
            DataError: Files are no images, or of several sizes.
        """
        headers = self._headers()
        sizes = Counter(found.size for found in headers.values())
        if len(sizes) > 1:
            raise self._sizes_differ(headers, sizes)
        remarks = [*self._passed_over(), *_numbering(self.names)]
        if turned := sum(found.turn != UPRIGHT for found in headers.values()):
            remarks.append(f"{turned} of {len(headers)} frames are turned by EXIF; masks are of the turned frames")
        if several := [name for name, found in headers.items() if found.has_more]:
            files = f"{len(several)} of {len(headers)} files"
            remarks.append(f"{files} hold several pictures, of which the first is read ({_of(several)})")
        return next(iter(sizes)), remarks

    def _headers(self) -> dict[str, Header]:
        headers, damaged = {}, []
        for name in self.names:
            try:
                headers[name] = read_header(self.folder / name)
            except DataError as error:
                damaged.append(error)
        if damaged:
            rest = f"; {_counted(len(damaged) - 1, 'other frame')} cannot be read either" if damaged[1:] else ""
            raise DataError(f"{damaged[0].problem}{rest}", file=damaged[0].file, fix=damaged[0].fix)
        return headers

    def _sizes_differ(self, headers: Mapping[str, Header], sizes: Counter[tuple[int, int]]) -> DataError:
        parts = []
        for (height, width), count in sizes.most_common():
            first = next(name for name, found in headers.items() if found.size == (height, width))
            parts.append(f"{count} of {height} x {width} ({first}{', ...' if count > 1 else ''})")
        turned = sum(found.turn.transposed for found in headers.values())
        exif = f"; EXIF turns {turned} of them by 90 degrees" if 0 < turned < len(headers) else ""
        problem = f"has frames of {len(sizes)} sizes (height x width): {', '.join(parts[:5])}{exif}"
        return DataError(problem, file=self.folder, fix="give one folder per video, with frames of one size")

    def _passed_over(self) -> Iterator[str]:
        if self.passed:
            yield f"passed over: {', '.join(_counted(count, kind) for kind, count in self.passed.items())}"


def _kind(path: Path) -> str:
    if is_hidden(path.name):
        return "hidden file"
    if path.is_dir():
        return "folder"
    kind = "video file" if is_video_file(path.name) else _KIND_OF.get(path.suffix.lower(), "other file")
    return kind if path.is_file() else "other file"


def _several(folder: Path, by_kind: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> DataError:
    found = ", ".join(f"{len(by_kind[kind])} {kind} ({min(by_kind[kind], key=natural)})" for kind in kinds)
    fix = "leave the frames of one video there, in one kind of file"
    return DataError(f"has images of {len(kinds)} kinds: {found}", file=folder, fix=fix)


def _empty(folder: Path, by_kind: Mapping[str, Sequence[str]]) -> DataError:
    for kind in ("video file", "folder"):
        if names := sorted(by_kind.get(kind, ()), key=natural):
            fix = f"give one {kind}, such as {folder / names[0]}"
            return DataError(f"has no images, but {_counted(len(names), kind)}: {_of(names)}", file=folder, fix=fix)
    suffixes = ", ".join(_KIND_OF)
    there = f", but {', '.join(_counted(len(by_kind[kind]), kind) for kind in sorted(by_kind))}" if by_kind else ""
    return DataError(f"has no images{there}", file=folder, fix=f"give a folder of frames ({suffixes}), or a video file")


def _numbering(names: Sequence[str]) -> Iterator[str]:
    """Whether the numbers in the names speak against one video in this order."""
    split = [_LAST_NUMBER.fullmatch(Path(name).stem) for name in names]
    patterns = list(dict.fromkeys(f"{found[1]}#{found[3]}" if found else "names without a number" for found in split))
    if len(patterns) > 1:
        yield f"the names are of {len(patterns)} kinds ({_of(patterns)}), taken in natural order: one video?"
        return
    numbers = [int(found[2]) for found in split if found]
    if twice := [name for name, before, after in zip(names[1:], numbers, numbers[1:], strict=False) if before == after]:
        yield f"{_counted(len(twice), 'frame number')} there twice ({_of(twice)}): are these frames of one video?"
        return
    steps = Counter(after - before for before, after in pairwise(numbers))
    usual, count = min(steps.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
    odd = [(before, after) for before, after in pairwise(numbers) if after - before != usual]
    if odd and 2 * count > len(numbers) - 1:  # else they may be times
        jumps = ", ".join(f"from {before} to {after}" for before, after in odd[:3])
        rest = f" and at {len(odd) - 3} other places" if len(odd) > 3 else ""
        yield f"frame numbers jump {jumps}{rest} (usual step {usual})"


def _of(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
