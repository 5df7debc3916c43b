from __future__ import annotations

import math

import pytest

from analysis.statistics import paired_difference, slope, summarise


def test_three_seeds_by_hand() -> None:
    summary = summarise([1.0, 2.0, 6.0])
    assert (summary.mean, summary.n, summary.planned, summary.invalid) == (3.0, 3, 3, 0)
    assert summary.spread == pytest.approx(math.sqrt(7))  # ((-2)^2 + (-1)^2 + 3^2) / 2
    # t(0.975, 2 degrees of freedom) = 4.302653, times sqrt(7 / 3)
    assert summary.high - summary.mean == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)
    assert summary.mean - summary.low == pytest.approx(summary.high - summary.mean)


def test_one_seed_has_a_mean_but_no_spread() -> None:
    summary = summarise([5.0])
    assert (summary.mean, summary.n) == (5.0, 1)
    assert math.isnan(summary.spread)
    assert math.isnan(summary.low)
    assert not summary.excludes_zero


def test_nan_is_counted_and_not_averaged() -> None:
    summary = summarise([10.0, math.nan, 20.0], planned=4)
    assert (summary.mean, summary.n, summary.planned, summary.invalid) == (15.0, 2, 4, 1)


def test_no_value_at_all() -> None:
    summary = summarise([], planned=2)
    assert math.isnan(summary.mean)
    assert (summary.n, summary.planned) == (0, 2)


def test_pairing_by_seed_sees_what_unpaired_spread_hides() -> None:
    summary = paired_difference({0: 10.0, 1: 20.0, 2: 31.0}, {2: 30.0, 0: 9.0, 1: 19.0, 3: 99.0})
    assert (summary.mean, summary.spread, summary.n, summary.planned) == (1.0, 0.0, 3, 4)
    assert summary.excludes_zero


def test_slope() -> None:
    assert slope([2, 4, 6], [1.0, 2.0, 6.0]) == pytest.approx(1.25)
    assert math.isnan(slope([2, 2], [1.0, 2.0]))
    assert math.isnan(slope([2, 4], [1.0, math.nan]))
