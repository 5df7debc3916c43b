"""What a finished run leaves behind."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syncvis.errors import StorageError
from syncvis.files import finite, write_text
from syncvis.training.step import Row

NAME = "result.json"


@dataclass(frozen=True)
class RunResult:
    """A finished run, as in result.json. AP values are percent, times seconds; undefined numbers are NaN, there null.

    Attributes:
        tracking: switches, purity, coverage and lost of the last evaluation, over all videos
            (:mod:`syncvis.evaluation.tracking`).
        per_video_tracking: the same of every video.
        seconds: ``train`` and ``eval`` over all times that the run was continued; of the last time, ``startup`` up to
            the first step and ``total``.
        environment: versions and hardware, equal for runs that were made alike.
        commit: of the source tree; None if it is not in a repository.
        dirty: whether the tree differs from it.
        diff: SHA-256 of what differs, see :class:`syncvis.source.Source`; None where nothing does.
        source: fingerprint of the code alone, whatever the commit, ``plugins`` included; None in old records.
        changed: files of the code that differ from the commit.
        left_out: what of the difference is not kept, each with the reason.
        plugins: file -> SHA-256, of the modules of one's own that the run used.
        workbench: ``source`` without them.
        command: words of the command line, without secrets and folders.
        init_fingerprint: of the file ``train.init``, see :func:`syncvis.files.fingerprint`; None without one.
        text_fingerprint: of the file of class-name embeddings that the method reads; None without one.
        fresh_parameters: names of the tensors that this file did not bring; none without a file.
        initial_weights: the same by part, and whose classes the class head is of, see :mod:`syncvis.training.start`.
        features: frames whose features were read from the feature cache or computed, and bytes, since the run was last
            continued, see :class:`syncvis.feature_cache.Counts`; empty where it was not used.
    """

    cell_hash: str
    variant_hash: str
    seed: int
    scale: str
    metrics: dict[str, float]
    per_category: dict[str, float]
    per_video: dict[str, float]
    history: list[Row]
    steps: int
    seconds: dict[str, float]
    peak_memory_mb: float
    parameters: dict[str, int]
    environment: dict[str, str]
    commit: str | None
    dirty: bool
    data_fingerprint: str
    diff: str | None = None
    source: str | None = None
    changed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    plugins: dict[str, str] = field(default_factory=dict)
    workbench: str | None = None
    command: list[str] = field(default_factory=list)
    tracking: dict[str, float] = field(default_factory=dict)
    per_video_tracking: dict[str, dict[str, float]] = field(default_factory=dict)
    init_fingerprint: str | None = None
    text_fingerprint: str | None = None
    fresh_parameters: list[str] = field(default_factory=list)
    initial_weights: str = ""
    features: dict[str, int] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = finite(asdict(self))
        return found

    def save(self, out: Path) -> None:
        """Write ``out/result.json``."""
        write_text(out / NAME, json.dumps(self.to_json(), indent=1, allow_nan=False))


def load_result(out: Path, cell_hash: str) -> RunResult | None:
    """The stored result of a finished run; None if the folder has none.

    Raises:
        StorageError: The file is damaged, or belongs to a run with another config.
    """
    path = out / NAME
    if not os.path.exists(path):
        return None
    try:
        result = _parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(f"is not a run result ({error})", file=path, fix="delete it to run again") from None
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="mend its rights") from None
    if result.cell_hash != cell_hash:
        problem = f"belongs to run {result.cell_hash}, not to {cell_hash}"
        raise StorageError(problem, file=path, fix="choose another --out")
    return result


def _parse(tree: dict[str, Any]) -> RunResult:
    result = RunResult(**tree)
    for values in (result.metrics, result.tracking, *result.per_video_tracking.values(), *result.history):
        values |= {name: math.nan for name, value in values.items() if value is None}
    return result
