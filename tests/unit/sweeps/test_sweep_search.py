from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from statistics import mean

import pytest

import sweeps.search
from sweeps.definition import Cell, Study
from sweeps.experiment import load_experiment, study_at
from sweeps.search import next_cell, study_of
from sweeps.trials import SearchRow
from syncvis.errors import ConfigError

SYNC = {
    "off": {"sync": None, "method.structure": "video_only"},
    "cosine": {"sync.aggregation": "query_similarity"},
    "classes": {"sync.aggregation": "class_prediction"},
}
WHEN = {"sync": ["cosine", "classes"]}
FINITE = {
    "sync": {"variants": SYNC},
    "Nk": {"key": "sync.num_selected", "values": [1, 2, 5, 10], "when": WHEN},
    "momentum": {"key": "sync.momentum", "values": [0.1, 0.2, 0.3], "when": WHEN},
}  # 1 + 2 * 4 * 3 points
RANGES = {
    "sync": {"variants": SYNC},
    "Nk": {"key": "sync.num_selected", "range": {"low": 1, "high": 40}, "when": WHEN},
    "momentum": {"key": "sync.momentum", "range": {"low": 0.001, "high": 1.0, "log": True}, "when": WHEN},
}
MOMENTUM = {"momentum": {"key": "sync.momentum", "range": {"low": 0.001, "high": 1.0, "log": True}}}
Objective = Callable[[Cell], float]


@pytest.fixture
def study_over(write_experiment):
    def make(axes, seeds=(0,), trials=1000, **search) -> Study:
        path = write_experiment(axes=axes, seeds=list(seeds), search={"trials": trials, **search})
        return study_at(load_experiment(path), "smoke")

    return make


def seeded(study: Study, seed: int) -> Study:
    assert study.search is not None
    return study.model_copy(update={"search": study.search.model_copy(update={"seed": seed})})


def ap_of(cell: Cell) -> float:
    """Best at sync=classes, Nk=17, momentum=0.05."""
    if cell.config.sync is None:
        return 20.0
    kind = {"query_similarity": 25.0, "class_prediction": 30.0}[cell.config.sync.aggregation]
    distance = abs(cell.config.sync.num_selected - 17) / 4 + 4 * abs(math.log10(cell.config.sync.momentum / 0.05))
    return kind - distance


def row_of(cell: Cell, state="done", value: float | None = None) -> SearchRow:
    return SearchRow(cell.position, cell.axes, cell.seed, state, value, {}, cell.hash)


def proposed(
    study: Study, number: int, rows: Sequence[SearchRow] = (), objective: Objective = ap_of
) -> list[SearchRow]:
    """The rows after so many more cells, each finished before the next one is chosen."""
    rows = list(rows)
    for _ in range(number):
        cell = next_cell(study, rows)
        if cell is None:
            break
        rows.append(row_of(cell, "done", objective(cell)))
    return rows


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_hundred_proposals_are_valid_and_all_different(study_over, sampler):
    study = study_over(RANGES, seeds=(0, 1, 2, 3), sampler=sampler)
    rows = proposed(study, 100)
    assert len({row.hash for row in rows}) == len({(str(row.axes), row.seed) for row in rows}) == 100
    assert [row.position for row in rows] == list(range(100))
    assert all(study.holds(row.axes) for row in rows)
    assert {len(row.axes) for row in rows} == {1, 3}


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_finite_space_is_used_up_to_its_last_cell(study_over, sampler):
    study = study_over(FINITE, seeds=(0, 1), sampler=sampler)
    rows = proposed(study, 99)
    assert {row.hash for row in rows} == {cell.hash for cell in study.cells()}
    assert len(rows) == 50
    assert next_cell(study, rows) is None


def test_the_grid_goes_in_its_stated_order_and_refuses_ranges_without_an_end(study_over):
    study = study_over(FINITE, seeds=(1, 0), sampler="grid")
    assert [row.hash for row in proposed(study, 60)] == [cell.hash for cell in study.cells()]
    with pytest.raises(ConfigError, match=r"axes\.momentum\.range: a range without a step has no grid"):
        next_cell(study_over(RANGES, sampler="grid"), [])


def test_trials_counts_every_cell_whatever_became_of_it(study_over):
    study = study_over(RANGES, trials=4)
    rows = proposed(study, 3)
    rows = [replace(rows[0], state="gave_up"), replace(rows[1], state="pruned"), replace(rows[2], state="running")]
    cell = next_cell(study, rows)
    assert cell is not None
    assert next_cell(study, [*rows, row_of(cell, "planned")]) is None


def test_a_point_gets_its_seeds_in_order(study_over):
    study = study_over({"Nk": {"key": "sync.num_selected", "values": [1, 2]}}, seeds=(5, 3, 4), sampler="random")
    seen: dict[str, list[int]] = {}
    for row in proposed(study, 6):
        seen.setdefault(str(row.axes), []).append(row.seed)
    assert list(seen.values()) == [[5, 3, 4], [5, 3, 4]]


def test_points_of_one_config_are_proposed_once(study_over):
    kinds = {"variants": {"one": {}, "same": {"sync.momentum": 0.05}, "other": {"sync.momentum": 0.1}}}
    assert len(proposed(study_over({"kind": kinds}), 9)) == 2


def test_chance_takes_over_where_the_sampler_clings_to_a_point_that_is_used_up(study_over, monkeypatch):
    """The best point has one cell only, and beside it is a range without an end."""
    monkeypatch.setattr(sweeps.search, "PATIENCE", 1)
    study = study_over({"sync": RANGES["sync"], "momentum": RANGES["momentum"]}, startup=4)
    rows = proposed(study, 30, objective=lambda cell: 90.0 if cell.config.sync is None else 0.0)
    assert len({row.hash for row in rows}) == 30


@pytest.mark.parametrize("axes", [FINITE, RANGES], ids=["finite", "ranges"])
def test_a_resumed_search_goes_on_as_if_it_had_never_stopped(study_over, axes):
    study = study_over(axes, seeds=(0, 1), startup=5)
    whole = proposed(study, 24)
    resumed: list[SearchRow] = []
    for _ in range(8):
        resumed = proposed(Study.model_validate(study.model_dump(mode="json")), 3, resumed)
    assert resumed == whole
    assert len({row.hash for row in whole}) == 24
    assert proposed(seeded(study, 1), 5) != whole[:5]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_cells_that_run_side_by_side_are_different(study_over, sampler):
    study = study_over(FINITE, sampler=sampler, startup=4)
    rows = proposed(study, 8)
    while len(rows) < 24:
        for state in ("running", "running", "planned", "running"):
            cell = next_cell(study, rows)
            assert cell is not None
            rows.append(row_of(cell, state))
        assert len({row.hash for row in rows}) == len(rows)
        rows = [replace(row, state="done", value=30.0) if row.state != "done" else row for row in rows]


def test_running_cells_drive_tpe_to_other_places(study_over):
    """Four at a time draw from a wide range: no two of them sit on the same number."""
    study = study_over(MOMENTUM, startup=8)
    rows = proposed(study, 20)
    for _ in range(4):
        rows.append(row_of(next_cell(study, rows), "running"))
    values = sorted(row.axes["momentum"] for row in rows[20:])
    assert len(set(values)) == 4
    assert all(above > 1.01 * below for below, above in itertools.pairwise(values))


def test_tpe_needs_fewer_cells_than_chance_to_come_near_the_optimum(study_over):
    def needed(study: Study) -> int:
        rows: list[SearchRow] = []
        while len(rows) < 60 and not any(row.value is not None and row.value > 28.5 for row in rows):
            rows = proposed(study, 1, rows)
        return len(rows)

    tpe, chance = (study_over(RANGES, sampler=sampler) for sampler in ("tpe", "random"))
    seeds = range(8)
    assert mean(needed(seeded(tpe, s)) for s in seeds) < 0.75 * mean(needed(seeded(chance, s)) for s in seeds)


def test_rows_become_trials(study_over):
    study = study_over(FINITE, seeds=(0, 1))
    cells = study.cells()
    nk, off = cells[1], cells[0]
    rows = [
        row_of(off, "done", 40.0),
        replace(row_of(nk, "pruned"), position=2, reports={20: 3.0, 10: 9.0}),
        replace(row_of(nk, "gave_up"), position=3),
        replace(row_of(nk, "done", math.nan), position=4),
        replace(row_of(nk, "done", math.inf), position=5),
        replace(row_of(nk, "planned"), position=6),
        replace(row_of(nk, "running"), position=7, reports={10: 1.0, 20: math.nan}),
        replace(row_of(nk, "done", 1.0), position=8, axes={"sync": "cosine", "Nk": 3, "momentum": 0.1}),
    ]
    told = study_of(study, list(reversed(rows)))
    trials = told.get_trials()
    assert told.study_name == "nk-smoke"
    states = ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "FAIL", "RUNNING", "RUNNING", "FAIL"]
    assert [trial.state.name for trial in trials] == states
    assert [trial.number for trial in trials] == list(range(9))
    assert (trials[0].value, trials[0].params) == (40.0, {"sync": "off"})
    assert (trials[2].value, trials[2].intermediate_values) == (3.0, {10: 9.0, 20: 3.0})
    assert trials[2].params == {"sync": "cosine", "Nk": 1, "momentum": 0.1}
    assert trials[7].intermediate_values == {10: 1.0}
    assert next_cell(study, rows) is not None


def test_floats_are_readable_and_stay_within_their_range(study_over):
    rows = proposed(study_over(MOMENTUM, seeds=(0, 1), sampler="random"), 50)
    assert Counter(row.seed for row in rows)[0] >= 48  # proposals hardly repeat; with one seed for all they would
    values = [row.axes["momentum"] for row in rows]
    assert all(0.001 <= value <= 1.0 and value == float(f"{value:.4g}") for value in values)
    magnitudes = Counter(math.floor(math.log10(value)) for value in values)
    assert all(magnitudes[power] > 5 for power in (-3, -2, -1))


def test_a_study_without_search_settings_says_what_to_write(study_over):
    study = study_over(FINITE).model_copy(update={"search": None})
    with pytest.raises(ConfigError, match=r"nk\.yaml: search: .*trials: 20"):
        next_cell(study, [])


def test_nothing_is_printed(study_over, capfd):
    text = io.StringIO()
    with redirect_stderr(text):
        proposed(study_over(RANGES, startup=3), 8)
    assert (text.getvalue(), *capfd.readouterr()) == ("", "", "")
