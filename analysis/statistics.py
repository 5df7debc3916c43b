"""Numbers over seeds: mean, spread, confidence interval, paired difference, slope. No NaN is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """What a set of seeds says about one quantity.

    Attributes:
        mean: Mean of the finite values; NaN without any.
        spread: Sample standard deviation (n - 1); NaN for fewer than two values.
        n: How many finite values the mean is over.
        planned: How many there should be; larger than ``n`` when a run is missing, failed or not finite.
        invalid: How many runs finished with a value that is not finite.
        low: Lower end of the 95 % t confidence interval of the mean; NaN for fewer than two values.
        high: Upper end of it.
    """

    mean: float
    spread: float
    n: int
    planned: int
    invalid: int
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the confidence interval exists and zero lies outside of it."""
        return self.low > 0 or self.high < 0


def summarise(values: Sequence[float], planned: int | None = None) -> Summary:
    """Summarise one value per finished seed, NaN included; ``planned`` defaults to their number."""
    finite = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    n, invalid = len(finite), len(values) - len(finite)
    planned = len(values) if planned is None else planned
    mean = float(finite.mean()) if n else math.nan
    if n < 2:
        return Summary(mean, math.nan, n, planned, invalid, math.nan, math.nan)
    spread = float(finite.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread / math.sqrt(n)
    return Summary(mean, spread, n, planned, invalid, mean - half, mean + half)


def paired_difference(ours: Mapping[int, float], other: Mapping[int, float]) -> Summary:
    """Summarise ``ours - other`` seed by seed, over the seeds that both have; the others count as planned."""
    common = sorted(ours.keys() & other.keys())
    return summarise([ours[seed] - other[seed] for seed in common], planned=len(ours.keys() | other.keys()))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of y over x; NaN for fewer than two different x, or a value that is not finite."""
    if len(set(x)) < 2 or not np.isfinite([*x, *y]).all():
        return math.nan
    centred = np.asarray(x, dtype=np.float64) - np.mean(x)
    return float(centred @ np.asarray(y, dtype=np.float64) / (centred @ centred))
