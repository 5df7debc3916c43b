"""What an evaluation says, as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from syncvis.errors import one_line
from syncvis.evaluation.matching import THRESHOLDS, Floats

Key = TypeVar("Key")

OFFICIAL = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Details:
    """What the official evaluator does not say.

    Attributes:
        per_length: AP in percent of the videos of so many frames.
        per_occlusion: AP in percent of the videos whose boxes overlap so much (:mod:`syncvis.evaluation.occlusion`).
        errors: of each kind, how many there are (``count``) and the AP50 that would be gained without them (``AP50``);
            see :mod:`syncvis.evaluation.errors`.
        tracking: switches, purity, coverage, lost; see :mod:`syncvis.evaluation.tracking`.
    """

    per_length: dict[str, float]
    per_occlusion: dict[str, float]
    errors: dict[str, dict[str, float]]
    tracking: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Average precision and recall in percent.

    A value is NaN, that is undefined, where the ground truth has no instance to find (crowds do not count).

    Attributes:
        metrics: AP, AP50, AP75, AR1, AR10.
        per_category: AP of every category that has an instance.
        per_video: AP of every video that has an instance, over its own tracks: the mean over its categories.
        per_size: AP of small, medium and large instances.
        without_prediction: videos that the predictions do not mention; they count as videos without a track.
        official: the twelve numbers of the official evaluator, as it gives them: 0 to 1, -1 where undefined.
        details: only if asked for.
    """

    metrics: dict[str, float]
    per_category: dict[str, float]
    per_video: dict[int, float]
    per_size: dict[str, float]
    without_prediction: tuple[int, ...] = ()
    official: dict[str, float] = field(default_factory=dict)
    details: Details | None = None

    def __str__(self) -> str:
        lines = [_row(self.metrics), "AP by size: " + _row(self.per_size), "AP by category:"]
        lines += _column(self.per_category)
        if not self.per_category:
            lines.append("  none: the ground truth has no instance, so AP and AR are undefined")
        if self.without_prediction:
            lines.append(f"{len(self.without_prediction)} video(s) without prediction")
        return "\n".join(lines + ([] if self.details is None else _details(self.details)))

    def to_json(self) -> dict[str, Any]:
        """All numbers at full precision on the official scale, 0 to 1; null where undefined."""
        found: dict[str, Any] = {
            "official": self.official,
            "per_category": _fractions(self.per_category),
            "per_video": _fractions(self.per_video),
            "without_prediction": list(self.without_prediction),
        }
        if self.details is not None:
            found["per_length"] = _fractions(self.details.per_length)
            found["per_occlusion"] = _fractions(self.details.per_occlusion)
            found["errors"] = {k: {**v, "AP50": _fraction(v["AP50"])} for k, v in self.details.errors.items()}
            found["tracking"] = {k: None if math.isnan(v) else v for k, v in self.details.tracking.items()}
        return found


def official(precision: Floats, recall: Mapping[int, Floats]) -> dict[str, float]:
    """The twelve numbers, 0 to 1, NaN where undefined.

    Args:
        precision: (K, A, L) of each class; the area ranges are all, small, medium and large.
        recall: for 1, 10 and 100 tracks, (K, A, L).
    """
    at = {name: int(np.argmin(abs(THRESHOLDS - iou))) for name, iou in (("AP50", 0.5), ("AP75", 0.75))}
    values = [precision[:, 0], *(precision[:, 0, place] for place in at.values())]
    values += [precision[:, a] for a in (1, 2, 3)]
    values += [recall[most][:, 0] for most in (1, 10, 100)] + [recall[100][:, a] for a in (1, 2, 3)]
    return {name: mean(value) for name, value in zip(OFFICIAL, values, strict=True)}


def mean(values: Floats) -> float:
    """Over what is defined; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def defined(values: Mapping[Key, float]) -> dict[Key, float]:
    """Without the undefined ones."""
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _fractions(percents: Mapping[Any, float]) -> dict[str, float | None]:
    return {str(key): _fraction(value) for key, value in percents.items()}


def _fraction(percent: float) -> float | None:
    return None if math.isnan(percent) else percent / 100


def _row(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {_percent(value)}" for name, value in values.items())


def _column(values: Mapping[str, float]) -> list[str]:
    names = [one_line(name) for name in values]
    width = max(map(len, names), default=0)
    return [f"  {name:{width}}  {_percent(value)}" for name, value in zip(names, values.values(), strict=True)]


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def _details(details: Details) -> list[str]:
    errors = [f"  {k:10}  {v['count']:6.0f}  {_percent(v['AP50'])}" for k, v in details.errors.items()]
    rates = {name: 100 * value for name, value in details.tracking.items() if name != "switches"}
    return [
        "AP by frames:",
        *_column(details.per_length),
        "AP by occlusion (mean box overlap rate of the video):",
        *_column(details.per_occlusion),
        "errors at IoU 0.5: number, AP50 gained without them",
        *errors,
        f"tracking: switches {details.tracking['switches']:.0f}  {_row(rates)}",
    ]
