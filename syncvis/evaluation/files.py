"""A ground truth and a results.json, file against file: ``syncvis eval-results``."""

from __future__ import annotations

from pathlib import Path

from syncvis.errors import DataError
from syncvis.evaluation.annotations import read_truth
from syncvis.evaluation.results import read_results
from syncvis.evaluation.summary import Evaluation
from syncvis.evaluation.ytvis import evaluate


def evaluate_files(truth: Path, results: Path, details: bool = False) -> tuple[Evaluation, list[str]]:
    """The evaluation, and the places of rows that were left out as their category is not in the ground truth.

    Raises:
        DataError: A file is damaged or the two do not fit together; the error names the file, the key and the fix.
        StorageError: A file cannot be read.
    """
    annotated = read_truth(truth)
    left_out: list[str] = []
    predictions = read_results(results, annotated.category_ids, left_out, annotated.videos)
    try:
        return evaluate(annotated.videos, predictions, annotated.names, details), left_out
    except DataError as error:
        source = truth if str(error.file).startswith("ground truth") else results
        raise DataError(error.problem, file=source, key=str(error.file), fix=error.fix) from None


def render(evaluation: Evaluation, left_out: list[str]) -> str:
    """The twelve official numbers at full precision, then what else there is, in percent."""
    official = [f"{name:6}{value}" for name, value in evaluation.official.items()]
    notes = [f"{len(left_out)} row(s) of categories that are not in the ground truth left out"] if left_out else []
    head = "official evaluator's numbers, 0 to 1 (-1: no instance)"
    return "\n".join([head, *official, "", "in percent:", str(evaluation), *notes])
