from __future__ import annotations

import optuna
import pytest

from sweeps.identity import this_worker
from sweeps.study import mirror, search
from syncvis.errors import StorageError


def result_of(cell):
    ap = 50.0 - abs(cell.axes["Nk"] - 10) + cell.seed / 10
    return {"metrics": {"AP": ap}, "history": [{"step": 1, "AP": 1.0}, {"step": 2, "AP": ap}]}


def finish(ledger, cells):
    by_hash = {cell.hash: cell for cell in cells}
    while (claim := ledger.claim(this_worker(), 60, list(by_hash))) is not None:
        ledger.finish(claim, result_of(by_hash[claim.cell_hash]))


def trials_of(file, name):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{file}").get_trials()


def test_every_done_cell_is_one_complete_trial_however_often_it_is_mirrored(ledger, plan_values, tmp_path):
    cells, file = plan_values([2, 10], seeds=[0, 1]), tmp_path / "optuna.db"
    ledger.add(cells, tmp_path / "runs")
    finish(ledger, cells[:2])
    assert [mirror(ledger, cells, file), mirror(ledger, cells, file)] == [2, 0]
    finish(ledger, cells)
    assert [mirror(ledger, cells, file), mirror(ledger, cells, file)] == [2, 0]
    trials = trials_of(file, "nk-smoke")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert [trial.user_attrs["cell_hash"] for trial in trials] == [cell.hash for cell in cells]
    last = trials[3]
    assert (last.params, last.value, last.user_attrs["seed"]) == ({"Nk": 10}, 50.1, 1)
    assert last.intermediate_values == {1: 1.0, 2: 50.1}
    assert last.user_attrs["run_dir"] == str(tmp_path / "runs" / cells[3].hash)


def test_a_changed_grid_gives_a_rebuilt_study(ledger, plan_values, tmp_path):
    file = tmp_path / "optuna.db"
    for values in ([2, 10], [2, 5, 16]):
        cells = plan_values(values)
        ledger.add(cells, tmp_path)
        finish(ledger, cells)
        mirror(ledger, cells, file)
    assert [trial.params["Nk"] for trial in trials_of(file, "nk-smoke")] == [2, 5, 16]


def test_a_result_without_a_number_is_no_complete_trial(ledger, plan_values, tmp_path):
    cells = plan_values([2])
    ledger.add(cells, tmp_path)
    ledger.finish(ledger.claim(this_worker(), 60), {"metrics": {"AP": float("nan")}, "history": []})
    mirror(ledger, cells, tmp_path / "optuna.db")
    assert [trial.state.name for trial in trials_of(tmp_path / "optuna.db", "nk-smoke")] == ["FAIL"]


def test_a_damaged_study_file_is_named(ledger, plan_values, tmp_path):
    cells, file = plan_values([2]), tmp_path / "optuna.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"optuna\.db.*delete it"):
        mirror(ledger, cells, file)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_counts_finished_cells_and_runs_only_new_ones(ledger, plan_values, tmp_path, sampler):
    cells = plan_values([1, 2, 5, 10, 16], seeds=[0, 1])
    ledger.add(cells, tmp_path)
    finish(ledger, cells[:3])
    ran = []

    def run(chosen):
        ran.extend(cell.hash for cell in chosen)
        finish(ledger, chosen)

    search(ledger, cells, sampler, 6, run, batch=2)
    assert len(ran) == len(set(ran)) == 3
    assert not set(ran) & {cell.hash for cell in cells[:3]}
    search(ledger, cells, sampler, 6, run, batch=2)
    assert len(ran) == 3
    search(ledger, cells, sampler, 99, run, batch=4)
    assert len(ledger.results()) == len(cells)
    assert len(ran) == 7


def test_search_goes_on_past_cells_that_are_given_up(ledger, plan_values, tmp_path):
    cells = plan_values([1, 2, 5])
    ledger.add(cells, tmp_path)

    def run(chosen):
        for cell in chosen:
            claim = ledger.claim(this_worker(), 60, [cell.hash])
            if cell.axes["Nk"] == 2:
                ledger.fail(claim, "NaN", final=True)
            else:
                ledger.finish(claim, result_of(cell))

    search(ledger, cells, "tpe", 3, run)
    assert ledger.status("nk", "smoke") == {"planned": 0, "running": 0, "done": 2, "gave_up": 1}
