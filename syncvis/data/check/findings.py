"""What a check can find: a table of kinds, and findings that carry the edits which would mend them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from syncvis.data.check.forms import YOUTUBE_VIS, Form
from syncvis.data.faulty_frames import Faulty
from syncvis.errors import DataError


class Severity(StrEnum):
    """How bad a finding is; ``exit_code`` is that of a check which finds nothing worse."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def exit_code(self) -> int:
        return {Severity.ERROR: DataError.exit_code, Severity.WARNING: 1, Severity.NOTE: 0}[self]


@dataclass(frozen=True)
class Kind:
    """A kind of finding. Error: cannot be trained or evaluated; warning: suspicious; note: good to know."""

    severity: Severity
    title: str


_ERRORS = {
    "json": "the file is not a JSON object",
    "foreign-format": "the file is in another format",
    "top-level": "a top-level list is missing or empty",
    "entry": "an entry is not an object",
    "number-spelling": "a whole number is written as text or with a decimal point",
    "category-id": "a category has no whole number as its id",
    "category-duplicate-id": "two categories share an id",
    "category-name": "a category has no name",
    "video-id": "a video has no whole number as its id",
    "video-duplicate-id": "two videos share an id",
    "video-size": "height and width are missing or impossible",
    "video-image-size": "all images of a video differ from its height and width",
    "video-frames": "a video lists no frames",
    "video-file": "a video file is missing or cannot be read",
    "video-length": "length differs from the number of frames",
    "video-limit": "a video has more frames or annotations than can be read",
    "file-name": "a frame has no usable file name",
    "file-name-outside": "a file name leaves the folder of the frames",
    "frames-folder": "the folder of the frames is missing",
    "missing-frame": "a frame is not on the disk",
    "unreadable-image": "a frame cannot be read",
    "image-bomb": "a frame has more pixels than any video may have",
    "image-size": "a frame is of another size than the JSON says",
    "no-instances": "a file of COCO shows no instance that is no crowd",
    "annotation-id": "an annotation has no whole number as its id",
    "annotation-duplicate-id": "two annotations share an id",
    "unknown-video": "an annotation is of no video in the file",
    "unknown-category": "an annotation is of no category in the file",
    "iscrowd-type": "iscrowd is no number",
    "area-invalid": "an area is not a finite number from 0",
    "segmentations": "an annotation has no list of masks",
    "mask-count": "not one mask (or null) per frame",
    "mask-spelling": "a mask is written in a way that is not read",
    "mask-type": "a mask is neither null, an RLE nor polygons",
    "mask-size": "a mask is of another size than its video",
    "mask-damaged": "an RLE cannot be decoded",
    "polygon": "a polygon is not three or more finite points",
    "polygon-far-outside": "a polygon leaves the frame by more than a pixel",
}
_WARNINGS = {
    "category-duplicate-name": "two categories share a name",
    "file-name-duplicate": "a video shows a file twice",
    "shared-frames": "two videos show the same files",
    "video-cut": "a video file ends before its header says",
    "annotation-size": "height, width or length of an annotation differ from its video",
    "iscrowd": "iscrowd is not 0 or 1",
    "polygon-outside": "a polygon leaves the frame by up to a pixel",
    "mask-empty": "a mask has no pixel",
    "empty-track": "an annotation has no mask in any frame",
    "identical-tracks": "two annotations of a video have the same masks",
    "box-count": "not one box (or null) per frame",
    "box-missing": "a mask has no box",
    "box-without-mask": "a box has no mask",
    "box-invalid": "a box is not four finite numbers with a positive size",
    "box-outside": "a box leaves the frame",
    "box-differs": "a box differs from its mask",
    "area-count": "not one area (or null) per frame",
    "area-missing": "a mask has no area",
    "area-without-mask": "an area has no mask",
    "area-differs": "an area differs from its mask",
}
_NOTES = {
    "category-similar-name": "two names of categories differ only in case or space",
    "category-unused": "a category has no annotation",
    "category-gap": "the ids of the categories have gaps",
    "no-annotations": "the file has no annotations",
    "video-without-annotations": "a video has no annotation",
    "frames-turned": "frames are turned when they are shown",
    "video-part": "only the first frames of a video file are read",
    "video-tracks": "a video file has other pictures, which are not read",
    "several-pictures": "an image file holds several pictures, of which the first is read",
    "frame-order": "frames are not in the order of their names",
    "file-name-case": "file names are one on Windows and macOS",
    "frozen-end": "the last masks of a track are identical",
    "box-convention": "the boxes are of another convention",
    "overlap": "two annotations cover nearly the same pixels",
}

KINDS: dict[str, Kind] = {
    code: Kind(severity, title)
    for severity, titles in ((Severity.ERROR, _ERRORS), (Severity.WARNING, _WARNINGS), (Severity.NOTE, _NOTES))
    for code, title in titles.items()
}
"""Every code, worst first."""


@dataclass(frozen=True)
class Edit:
    """Put ``value`` at ``path`` (keys and positions from the top of the JSON), or drop what is there."""

    path: tuple[str | int, ...]
    value: Any = None
    drop: bool = False


@dataclass(frozen=True)
class Mend:
    """How ``--fix`` mends a finding, or ``--drop`` gets rid of it: in words, and as edits."""

    how: str
    edits: tuple[Edit, ...]

    @property
    def drops(self) -> bool:
        """Whether something is lost: done only when asked for with ``--drop``."""
        return any(edit.drop for edit in self.edits)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a part, before it is known where the part stands."""

    code: str
    text: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a key of ``KINDS``.
        key: where in the JSON, such as ``annotations[3].bboxes[7]``.
        video, annotation, image: ids, None where there is none or it is not a whole number; a file has videos or, as
            those of COCO, images.
        frame: position in the video, from 0.
        mend: what ``--fix``, or ``--drop``, does about it; None if it takes a human.
    """

    code: str
    key: str
    text: str
    video: int | None = None
    frame: int | None = None
    annotation: int | None = None
    mend: Mend | None = None
    image: int | None = None

    @property
    def severity(self) -> Severity:
        return KINDS[self.code].severity


@dataclass(frozen=True)
class Report:
    """All findings in one JSON file.

    Attributes:
        sizes: how many videos and frames, or images, annotations and categories.
        missing: the frames that are not on the disk and that nothing can mend, by video.
    """

    source: Path
    findings: tuple[Finding, ...]
    sizes: dict[str, int]
    form: Form = YOUTUBE_VIS
    missing: tuple[Faulty, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return Counter(finding.severity for finding in self.findings)[severity]


def dropped_entries(edits: Iterable[Edit]) -> dict[str, int]:
    """How many entries of each list the edits drop, counted once each."""
    places = {edit.path for edit in edits if edit.drop}
    return dict(sorted(Counter(str(path[0]) for path in places).items()))


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the worst: 0 nothing or notes only, 1 warnings, 3 errors."""
    return max((finding.severity.exit_code for finding in findings), default=0)
