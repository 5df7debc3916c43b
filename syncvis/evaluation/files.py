"""A ground truth and a results.json, file against file: ``syncvis eval-results``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from syncvis.errors import DataError
from syncvis.evaluation.annotations import read_truth
from syncvis.evaluation.results import read_results
from syncvis.evaluation.summary import Evaluation
from syncvis.evaluation.truth import AnnotatedVideo, GroundTruthVideo
from syncvis.evaluation.ytvis import evaluate
from syncvis.predictions import VideoPrediction


def evaluate_files(
    truth: Path, results: Path, details: bool = False, remarks: list[str] | None = None
) -> tuple[Evaluation, list[str]]:
    """The evaluation, and the places of rows that were left out as their category is not in the ground truth.

    Args:
        remarks: takes what an evaluation server would not accept in how the results are packed.

    Raises:
        DataError: A file is damaged or the two do not fit together; the error names the file, the key and the fix.
            No row is of a category of the ground truth.
        StorageError: A file cannot be read.
    """
    annotated = read_truth(truth)
    left_out: list[str] = []
    predictions = read_results(results, annotated.category_ids, left_out, annotated.videos, remarks)
    if left_out and not predictions:
        problem = f"no row is of a category of {truth.name}: it has {_categories(left_out)}, the annotations "
        fix = "use the ids of the annotations' categories"
        raise DataError(f"{problem}{_ids(annotated.category_ids)}", file=results, key="category_id", fix=fix)
    try:
        return evaluate(annotated.videos, predictions, annotated.names, details), left_out
    except DataError as error:
        source = truth if str(error.file).startswith("ground truth") else results
        raise DataError(error.problem, file=source, key=str(error.file), fix=error.fix) from None


def render(evaluation: Evaluation, left_out: list[str]) -> str:
    """The twelve official numbers at full precision, then what else there is, in percent."""
    official = [f"{name:6}{value}" for name, value in evaluation.official.items()]
    what = f"{len(left_out)} row(s) of categories that are not in the ground truth left out"
    notes = [f"{what}: {_categories(left_out)}"] if left_out else []
    head = "official evaluator's numbers, 0 to 1 (-1: no instance)"
    return "\n".join([head, *official, "", "in percent:", str(evaluation), *notes])


def read_predictions(
    results: Path, split: Path, videos: Sequence[AnnotatedVideo], category_ids: Sequence[int]
) -> tuple[dict[int, VideoPrediction], list[str]]:
    """The tracks for the videos of a split, labelled or not, by video; and remarks on what does not fit it.

    Args:
        split: the file of the videos, for errors.

    Raises:
        DataError: Rows are damaged or do not fit their video or the categories, or none is of a video of the split.
    """
    remarks: list[str] = []
    shapes = [GroundTruthVideo(video.id, video.height, video.width, len(video), ()) for video in videos]
    found = {p.video_id: p for p in read_results(results, category_ids, None, shapes, remarks)}
    known = {video.id for video in videos}
    strange = sorted(found.keys() - known)
    if strange and len(strange) == len(found):
        problem = f"no video of it is in {split.name}: it has {_ids(strange)}, the split {_ids(sorted(known))}"
        raise DataError(problem, file=results, key="video_id", fix="give the split that was predicted")
    if strange:
        part = f"{len(strange)} of {len(found)} videos of {results.name}"
        remarks.append(f"{part} left out, as they are not in {split.name}: {_ids(strange)}")
    return found, remarks


def _categories(left_out: Sequence[str]) -> str:
    """The ids in the places of rows that were left out."""
    return _ids(sorted({int(place.rpartition(" ")[2]) for place in left_out}))


def _ids(ids: Sequence[int], most: int = 5) -> str:
    return ", ".join([*map(str, ids[:most]), *(["..."] if len(ids) > most else [])])
