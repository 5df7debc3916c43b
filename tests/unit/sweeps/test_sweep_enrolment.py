"""A study that has begun meets its experiment again: the same, grown, or another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cells import NK, finish, take

from sweeps.choosing import grow
from sweeps.enrolment import enrol
from sweeps.experiment import load_experiment, study_at
from syncvis.errors import ConfigError, StorageError

Enrol = Callable[..., None]


@pytest.fixture
def enrolled(ledger, write_experiment, tmp_path) -> Enrol:
    """Enrol the experiment that these keys make, as `sweep run` does."""

    def call(change: str = "none", **changes: Any) -> None:
        study = study_at(load_experiment(write_experiment(**changes)), "smoke")
        enrol(ledger, study, tmp_path / "runs", change)

    return call


def over(*values: Any) -> dict[str, Any]:
    return {"axes": {"Nk": {"key": "sync.num_selected", "values": list(values)}}}


def members(ledger) -> list[tuple[Any, int, int, str]]:
    """(label, seed, trial number, state) in plan order; the label with its type."""
    return [(repr(row["axes"]["Nk"]), row["seed"], row["number"], row["state"]) for row in ledger.view.rows([NK])]


@pytest.mark.parametrize("values", [(10, 2), (2.0, 10), (10.0, 2.0)])
def test_reordered_values_and_equal_numbers_are_the_same_study(ledger, enrolled, values):
    enrolled(**over(2, 10))
    finish(ledger)
    before, cells = members(ledger), ledger.view.cells()
    enrolled(**over(*values), seeds=[1, 0])
    assert ledger.view.cells() == cells
    assert sorted(members(ledger)) == sorted(before)
    order = [repr(int(value)) for value in values] * 2
    assert [label for label, *_ in members(ledger)] == order
    assert [seed for _, seed, *_ in members(ledger)] == [1, 1, 0, 0]


def test_a_grown_study_keeps_the_labels_that_it_has(ledger, enrolled):
    enrolled(**over(2, 10), seeds=[0])
    finish(ledger)
    with pytest.raises(ConfigError, match=r"begun: axis Nk: value 5 added\. Fix: --extend adds to it \(results are"):
        enrolled(**over(2.0, 5, 10.0), seeds=[0])
    assert [label for label, *_ in members(ledger)] == ["2", "10"]
    enrolled("extend", **over(2.0, 5, 10.0), seeds=[0])
    assert members(ledger) == [("2", 0, 1, "done"), ("5", 0, 3, "planned"), ("10", 0, 2, "planned")]


def test_true_is_another_value_than_one(ledger, enrolled):
    enrolled(**over(1, 10))
    take(ledger)
    with pytest.raises(ConfigError, match=r"value 1 dropped; axis Nk: value true added\. Fix: --replace drops"):
        enrolled(**over(True, 10))


def test_before_the_first_claim_nothing_is_asked_and_labels_are_the_files(ledger, enrolled):
    enrolled(**over(2, 10), seeds=[0])
    enrolled(**over(2.0, 16), seeds=[0])
    assert [label for label, *_ in members(ledger)] == ["2.0", "16"]


def search_over(log: bool, high: float = 0.5, trials: int = 8) -> dict[str, Any]:
    numbers = {"low": 0.001, "high": high, "log": log}
    axes = {"Nk": {"key": "sync.momentum", "range": numbers}}
    return {"axes": axes, "search": {"sampler": "random", "trials": trials}, "seeds": [0]}


def test_another_scale_of_a_range_is_refused_with_what_it_would_do(ledger, enrolled):
    enrolled(**search_over(log=False))
    assert grow(ledger, [NK])
    finish(ledger)
    words = (
        r"from 0\.001 to 0\.5 \(linear\) -> sync\.momentum in numbers from 0\.001 to 0\.5 \(logarithmic\)\. "
        r"Fix: --out starts another one, --replace goes on with cells of both scales in one study"
    )
    for change in ("none", "extend"):
        with pytest.raises(ConfigError, match=words):
            enrolled(change, **search_over(log=True))
    enrolled("replace", **search_over(log=True))
    assert [state for *_, state in members(ledger)] == ["done"]


def test_a_search_that_is_replaced_keeps_the_cells_that_are_still_in_it_and_goes_on(ledger, enrolled):
    enrolled(**search_over(log=False))
    for _ in range(6):
        assert grow(ledger, [NK])
        finish(ledger)
    values = [float(label) for label, *_ in members(ledger)]
    kept = [value for value in values if value <= 0.3]
    assert 0 < len(kept) < 6
    enrolled("replace", **search_over(log=False, high=0.3))
    assert [float(label) for label, *_ in members(ledger)] == kept
    assert len(ledger.view.results()) == 6
    assert grow(ledger, [NK])
    assert [row["position"] for row in ledger.view.rows([NK])] == list(range(len(kept) + 1))


def test_a_definition_of_another_version_can_only_be_replaced(ledger, enrolled, plan_values, tmp_path):
    ledger.add(NK, {"name": "nk-smoke", "old": 1}, plan_values([2, 10]), tmp_path / "runs")
    finish(ledger)
    with pytest.raises(StorageError, match="definition of nk-smoke"):
        enrolled("extend", **over(2, 10))
    enrolled("replace", **over(2, 10), seeds=[0])
    assert [state for *_, state in members(ledger)] == ["done", "planned"]
