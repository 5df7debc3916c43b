"""retry, stop and resume: what is told to workers through the ledger."""

from __future__ import annotations

import pytest
from cells import alter, claim_of, take

from sweeps.commands import steer
from sweeps.view import StudyKey
from syncvis.errors import ConfigError


def state(ledger, number):
    return ledger.view.cell(number)["state"]


def test_retry_plans_given_up_trials_by_number(sweep, outputs):
    output = sweep("retry", 2, 1).output
    assert "trial 1 is done, not given up" in output
    assert "1 trial planned again" in output
    assert [state(outputs, n) for n in (1, 2, 3)] == ["done", "planned", "pruned"]
    assert outputs.view.cell(2)["failures"] == 0


@pytest.mark.parametrize("words", [["nk-smoke"], ["nk"], ["--all"], ["nk", 2]], ids=str)
def test_retry_plans_given_up_trials_of_studies(sweep, outputs, words):
    outputs.fail(take(outputs), "again", final=True)
    assert "2 trials planned again" in sweep("retry", *words).output
    assert outputs.view.counts()["gave_up"] == 0


def test_retry_leaves_other_studies_alone(sweep, outputs):
    outputs.add(StudyKey("other", "small"), {}, [], "runs")
    assert "0 trials planned again" in sweep("retry", "other").output
    assert state(outputs, 2) == "gave_up"


@pytest.mark.parametrize("words", [[], ["2", "--all"]], ids=str)
def test_retry_must_be_told_what(sweep, outputs, words):
    with pytest.raises(ConfigError, match="name trials or studies, or give --all alone"):
        sweep("retry", *words)
    assert state(outputs, 2) == "gave_up"


def test_stop_waits_until_no_trial_runs_and_resume_takes_it_back(sweep, outputs, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(outputs.view.is_stopping())
        if len(looks) == 3:
            outputs.release(claim_of(outputs, 4))

    monkeypatch.setattr(steer.time, "sleep", sleep)
    output = sweep("stop").output
    assert looks == [True] * 3
    assert output.splitlines()[:3] == ["asked to stop: nk-smoke", "1 still runs", "none runs"]
    assert outputs.claim("host:boot:9:9", 60) is None
    assert "nk-smoke (asked to stop)" in sweep("status").output
    assert "may run again: nk-smoke" in sweep("resume").output
    assert outputs.claim("host:boot:9:9", 60) is not None


def test_stop_does_not_wait_for_dead_workers(sweep, outputs):
    alter(outputs, "UPDATE cells SET lease_until = 0, worker = 'somebody' WHERE state = 'running'")
    assert "none runs" in sweep("stop", "nk-smoke").output


def test_stop_without_waiting_asks_the_named_studies_alone(sweep, outputs):
    outputs.add(StudyKey("other", "small"), {}, [], "runs")
    output = sweep("stop", "--scale", "smoke", "--no-wait").output
    assert "asked to stop: nk-smoke\n" in output
    assert "still" not in output
    assert {key.name: study.stopping for key, study in outputs.view.studies().items()} == {
        "nk-smoke": True,
        "other-small": False,
    }
