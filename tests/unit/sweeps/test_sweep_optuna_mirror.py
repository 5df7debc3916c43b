from __future__ import annotations

import threading
from dataclasses import replace

import optuna
import pytest

from sweeps.experiment import load_experiment, study_at
from sweeps.optuna_mirror import mirror
from sweeps.trials import SearchRow, quiet
from syncvis.errors import StorageError


@pytest.fixture
def study_over(write_experiment):
    def make(values, seeds=(0, 1)):
        path = write_experiment(axes={"Nk": {"key": "sync.num_selected", "values": values}}, seeds=list(seeds))
        return study_at(load_experiment(path), "smoke")

    return make


def rows_of(study, state="done"):
    return [
        SearchRow(c.position, c.axes, c.seed, state, 50.0 + n, {1: 1.0, 2: 50.0 + n}, c.hash, 7 + n, f"runs/{c.hash}")
        for n, c in enumerate(study.cells())
    ]


def trials_of(url, name="nk-smoke"):
    with quiet():
        return optuna.load_study(study_name=name, storage=url).get_trials()


def test_every_finished_cell_is_one_trial_however_often_it_is_mirrored(study_over, tmp_path):
    study, url = study_over([2, 10]), f"sqlite:///{tmp_path / 'new' / 'optuna.db'}"
    first, second, third, fourth = rows_of(study)
    rows = [first, replace(second, state="running"), replace(third, state="pruned"), replace(fourth, state="gave_up")]
    assert [mirror([(study, rows)], url), mirror([(study, rows)], url)] == [3, 0]
    assert mirror([(study, [first, second, third, fourth])], url) == 3
    trials = trials_of(url)
    assert [(trial.user_attrs["number"], trial.state.name) for trial in trials] == [
        (7, "COMPLETE"), (9, "PRUNED"), (10, "FAIL"), (8, "COMPLETE"), (9, "COMPLETE"), (10, "COMPLETE"),
    ]  # fmt: skip
    kept = trials[3]
    assert (kept.params, kept.value, kept.intermediate_values) == ({"Nk": 10}, 51.0, {1: 1.0, 2: 51.0})
    expected = {"cell_hash": second.hash, "seed": 0, "number": 8, "state": "done", "run_dir": f"runs/{second.hash}"}
    assert kept.user_attrs == expected


def test_a_changed_space_gives_a_rebuilt_study_and_a_changed_seed_list_does_not(study_over, tmp_path):
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for values, seeds, new in (([2, 10], [0], 2), ([2, 10], [0, 1], 2), ([2, 5, 16], [0], 3)):
        study = study_over(values, seeds)
        assert mirror([(study, rows_of(study))], url) == new
    assert [trial.params["Nk"] for trial in trials_of(url)] == [2, 5, 16]


def test_a_value_that_is_no_number_is_a_failed_trial(study_over, tmp_path):
    study, url = study_over([2]), f"sqlite:///{tmp_path / 'optuna.db'}"
    mirror([(study, [replace(rows_of(study)[0], value=float("nan"))])], url)
    assert [trial.state.name for trial in trials_of(url)] == ["FAIL"]


def test_several_at_once_add_each_trial_once(study_over, tmp_path):
    study, url, added = study_over([1, 2, 5, 10, 16]), f"sqlite:///{tmp_path / 'optuna.db'}", []
    threads = [threading.Thread(target=lambda: added.append(mirror([(study, rows_of(study))], url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(added), len(trials_of(url))) == ([0, 0, 10], 10)


def test_errors_name_the_place_without_the_password(study_over, tmp_path):
    study, file = study_over([2]), tmp_path / "optuna.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"optuna\.db.*delete it"):
        mirror([(study, rows_of(study))], f"sqlite:///{file}")
    for url, words in (
        ("postgresql+psycopg://me:secret@localhost:1/sweeps", "me:***@localhost:1/sweeps"),
        ("mysql://me:secret@host/sweeps", "Optuna storage"),
        ("no url secret", "Optuna storage"),
    ):
        with pytest.raises(StorageError) as caught:
            mirror([(study, rows_of(study))], url)
        assert words in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
