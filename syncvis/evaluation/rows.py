"""The rows of a results.json checked: what is wrong is told of all of them at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from syncvis.data.formats import recognise_results
from syncvis.data.jsonfile import WHOLE, kind_name, misfit, near
from syncvis.errors import DataError
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import Job, Size, Tube, tube_of
from syncvis.ops import masks
from syncvis.predictions import RLE

# Bad rows, and ids of categories, that an error names.
_SHOWN, _IDS = 3, 10


class Row(NamedTuple):
    """A row of the file without its masks."""

    number: int
    video_id: int
    label: int
    score: float


class RowReader:
    """Checks row after row, and goes on behind a bad one: what is wrong is told of all of them at once."""

    def __init__(
        self,
        path: Path,
        category_ids: Sequence[int],
        left_out: list[str] | None,
        videos: Mapping[int, GroundTruthVideo],
    ) -> None:
        self._path, self._left_out, self._videos = path, left_out, videos
        self._labels = {category_id: label for label, category_id in enumerate(category_ids)}
        self._rows, self._bad, self._first = 0, 0, list[tuple[int, DataError]]()

    def jobs(self, rows: Iterable[Any]) -> Iterator[Job[Row]]:
        """The masks of the good rows."""
        for n, row in enumerate(rows):
            self._rows += 1
            if self._left_out is not None and self._of_other_category(row):
                self._left_out.append(f"row {n}: category_id {row['category_id']}")
                continue
            try:
                job = self._job(n, row)
            except DataError as error:
                self._refuse(n, error, row)
            else:
                yield job

    def read_one_by_one(self, job: Job[Row]) -> Tube | None:
        """Masks of which one is damaged or has its counts in another form."""
        number = job.place.number
        try:
            return _read_one_by_one(job.frames, f"{self._path}: row {number}: segmentations")
        except DataError as error:
            self._refuse(number, error)
            return None

    def refuse_bad_rows(self) -> None:
        """Raises DataError if there were any."""
        if self._bad < 2:
            for _, error in self._first:
                raise error
            return
        shown = [f"row {n}: {_in_row(error, n, self._path)}" for n, error in self._first]
        rest = f"; and {self._bad - len(shown)} more" if self._bad > len(shown) else ""
        problem = f"{self._bad} of {self._rows} rows are wrong: {'; '.join(shown)}{rest}"
        raise DataError(problem, file=self._path, fix=f"in row {self._first[0][0]} {self._first[0][1].fix}")

    def _refuse(self, number: int, error: DataError, row: Any = None) -> None:
        if not self._bad and (other := recognise_results([row])):
            raise DataError(f"is {other.name}", file=self._path, key=f"row {number}", fix=other.fix) from None
        self._bad += 1
        self._first = sorted([*self._first, (number, error)], key=itemgetter(0))[:_SHOWN]

    def _of_other_category(self, row: Any) -> bool:
        category_id = row.get("category_id") if isinstance(row, dict) and "segmentations" in row else None
        return type(category_id) is int and category_id not in self._labels

    def _job(self, number: int, row: Any) -> Job[Row]:
        place = f"row {number}"
        video_id, label, score, frames = _parse_row(row, self._labels, self._path, place)
        seen = next((t for t, rle in enumerate(frames) if rle), None)
        where = f"{self._path}: {place}: segmentations[{seen}]"
        size = (0, 0) if seen is None else masks.check_size(frames[seen], where)
        if video := self._videos.get(video_id):
            _check_fit(frames, size, video, self._path, place)
        return Job(Row(number, video_id, label, score), frames, size)


def _in_row(error: DataError, number: int, path: Path) -> str:
    """What is wrong in a row, without the file and the row."""
    place = f"{error.key or str(error.file).removeprefix(f'{path}: ')}: {error.problem}"
    return place.removeprefix(f"row {number}: ")


def _parse_row(row: Any, labels: dict[int, int], path: Path, place: str) -> tuple[int, int, float, list[Any]]:
    if not isinstance(row, dict):
        raise DataError(f"is {kind_name(row)}, not an object", file=path, key=place, fix="write one object a track")
    video_id, score, category_id = row.get("video_id"), row.get("score"), row.get("category_id")
    if type(video_id) is not int:
        raise _wrong(row, "video_id", path, place)
    if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= sys.float_info.max:
        raise _wrong(row, "score", path, place)
    if type(category_id) is not int:
        raise _wrong(row, "category_id", path, place)
    if category_id not in labels:
        known = ", ".join([*map(str, sorted(labels)[:_IDS]), *(["..."] if len(labels) > _IDS else [])])
        problem, fix = f"is {category_id}, not one of the ids {known}", "use the ids of the annotations' categories"
        raise DataError(problem, file=path, key=f"{place}: category_id", fix=fix)
    frames = row.get("segmentations")
    if not isinstance(frames, list) or not frames:
        raise _wrong(row, "segmentations", path, place)
    return video_id, labels[category_id], float(score), frames


def _check_fit(frames: Sequence[Any], size: Size, video: GroundTruthVideo, path: Path, place: str) -> None:
    key = f"{place}: segmentations"
    if len(frames) != video.length:
        problem = f"has {len(frames)} frames, video {video.id} has {video.length}"
        raise DataError(problem, file=path, key=key, fix="give one mask (or null) for every frame")
    if size not in ((0, 0), (video.height, video.width)):
        problem = f"the masks are {size[0]} x {size[1]} pixels, video {video.id} {video.height} x {video.width}"
        problem, fix = f"{problem} (height x width)", "give masks the size of their video"
        if size == (video.width, video.height):
            problem = f"{problem}: height and width are swapped"
            fix = "write size as [height, width]; encode the masks again if their arrays were transposed"
        raise DataError(problem, file=path, key=key, fix=fix)


def _read_one_by_one(frames: Sequence[RLE | None], where: str) -> Tube:
    for t, rle in enumerate(frames):
        if rle:
            masks.runs(rle, f"{where}[{t}]")
    sizes = {tuple(rle["size"]) for rle in frames if rle}
    if len(sizes) > 1:
        shown = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)[:2])
        raise DataError(f"masks have different sizes: {shown}", file=where, fix="give all masks the size of the video")
    height, width = sizes.pop()
    return tube_of(frames, (height, width), lambda t: f"{where}[{t}]")


def _wrong(row: dict[str, Any], key: str, path: Path, place: str) -> DataError:
    """The error of a value that is not what is wanted, or not there."""
    wanted, fix = _WANTED[key]
    if key in row:
        problem, meant = ("is an empty list", "") if row[key] == [] else misfit(row[key], wanted)
        return DataError(problem, file=path, key=f"{place}: {key}", fix=f"write {meant or fix}")
    other = near(key, row)
    fix = f"name it {key!r}" if other else f"add {key!r}, {fix}"
    return DataError(f"is missing{other}", file=path, key=f"{place}: {key}", fix=fix)


_WANTED = {
    "video_id": (WHOLE, "the id of a video, a whole number"),
    "score": ("a finite number", "a finite number"),
    "category_id": (WHOLE, "the id of a category, a whole number"),
    "segmentations": ("a list", "a list with an RLE or null for every frame"),
}
"""What a value has to be, and what to write."""
