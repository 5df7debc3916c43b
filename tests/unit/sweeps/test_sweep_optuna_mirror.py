from __future__ import annotations

import threading
from dataclasses import replace

import optuna
import pytest
from optuna.storages import RDBStorage

from sweeps.database import psycopg_url
from sweeps.experiment import load_experiment, study_at
from sweeps.ledger import Ledger
from sweeps.optuna_mirror import mirror, storage_url
from sweeps.trials import SearchRow, quiet
from sweeps.view import StudyKey
from syncvis.errors import StorageError


@pytest.fixture
def study_over(write_experiment):
    def make(values, seeds=(0, 1)):
        path = write_experiment(axes={"Nk": {"key": "sync.num_selected", "values": values}}, seeds=list(seeds))
        return study_at(load_experiment(path), "smoke")

    return make


def rows_of(study, state="done"):
    return [
        SearchRow(
            c.position,
            c.axes,
            c.seed,
            state,
            50.0 + n,
            {1: 1.0, 2: 50.0 + n},
            c.hash,
            7 + n,
            f"runs/{c.hash}",
            attempt=1,
            started=1000.25 + n,
            finished=1100.75 + n,
        )
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
    trials = trials_of(url)
    assert states(trials) == [(7, "COMPLETE"), (9, "PRUNED"), (10, "FAIL")]
    assert mirror([(study, [first, second, third, fourth])], url) == 4  # two ended anew, so that all are added again
    trials = trials_of(url)
    assert states(trials) == [(7, "COMPLETE"), (8, "COMPLETE"), (9, "COMPLETE"), (10, "COMPLETE")]
    kept = trials[1]
    assert (kept.params, kept.value, kept.intermediate_values) == ({"Nk": 10}, 51.0, {1: 1.0, 2: 51.0})
    expected = {"cell_hash": second.hash, "seed": 0, "number": 8, "state": "done", "attempt": 1}
    assert kept.user_attrs == expected | {"run_dir": f"runs/{second.hash}"}


def states(trials):
    return [(trial.user_attrs["number"], trial.state.name) for trial in trials]


def test_a_trial_begins_and_ends_when_its_cell_did(study_over, tmp_path):
    study, url = study_over([2, 10], [0]), f"sqlite:///{tmp_path / 'optuna.db'}"
    rows = [replace(row, state=state) for row, state in zip(rows_of(study), ("done", "gave_up"), strict=True)]
    mirror([(study, rows)], url)
    times = [(trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()) for trial in trials_of(url)]
    assert times == [(1000.25, 1100.75), (1001.25, 1101.75)]


def test_a_cell_that_is_tried_again_leaves_no_trial_behind(study_over, tmp_path):
    study, url = study_over([2, 10], [0]), f"sqlite:///{tmp_path / 'optuna.db'}"
    first, second = rows_of(study)
    lost = replace(second, state="gave_up")
    mirror([(study, [first, lost])], url)
    assert mirror([(study, [first, replace(second, state="planned")])], url) == 1
    assert states(trials_of(url)) == [(7, "COMPLETE")]
    assert mirror([(study, [first, replace(lost, attempt=2)])], url) == 1
    assert mirror([(study, [first, replace(lost, attempt=3)])], url) == 2
    assert states(trials_of(url)) == [(7, "COMPLETE"), (8, "FAIL")]
    assert trials_of(url)[1].user_attrs["attempt"] == 3


def test_two_trials_of_one_cell_become_one(study_over, tmp_path):
    study, url = study_over([2], [0]), f"sqlite:///{tmp_path / 'optuna.db'}"
    mirror([(study, rows_of(study))], url)
    with quiet():
        told = optuna.load_study(study_name="nk-smoke", storage=url)
        told.add_trial(told.get_trials()[0])
    assert mirror([(study, rows_of(study))], url) == 1
    assert states(trials_of(url)) == [(7, "COMPLETE")]


def test_a_postgresql_database_holds_the_mirror_beside_the_ledger(study_over, postgres):
    study, place = study_over([2, 10], [0]), postgres.database("mirror")
    Ledger(place).add(StudyKey("nk", "smoke"), study.model_dump(mode="json"), study.cells(), "runs")
    first, second = rows_of(study)
    url = psycopg_url(place)
    assert mirror([(study, [first, replace(second, state="gave_up")])], url) == 2
    assert mirror([(study, [first, replace(second, attempt=2)])], url) == 2
    assert Ledger(place).view.counts()["planned"] == 2
    storage = RDBStorage(storage_url(url))
    assert states(trials_of(storage)) == [(7, "COMPLETE"), (8, "COMPLETE")]
    storage.remove_session()
    storage.engine.dispose()


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
