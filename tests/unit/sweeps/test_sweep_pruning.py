from __future__ import annotations

import random
from dataclasses import replace

import optuna
import pytest

from sweeps.definition import Study
from sweeps.experiment import load_experiment, study_at
from sweeps.pruning import should_prune
from sweeps.trials import SearchRow, quiet

STEPS = 81
HYPERBAND = {"name": "hyperband", "min_resource": 3, "reduction_factor": 3}


@pytest.fixture
def study_with(write_experiment):
    def make(pruner, eval_every=0) -> Study:
        base = {"data": {"root": "data"}, "train": {"steps": STEPS, "eval_every": eval_every}}
        axes = {"Nk": {"key": "sync.num_selected", "values": list(range(1, 61))}}
        study = study_at(load_experiment(write_experiment(axes=axes)), "smoke")
        search = {"trials": 100, "pruner": pruner}
        return Study.model_validate({**study.model_dump(), "base": base, "search": search})

    return make


def row_at(position: int, state="running", reports=None, value=None) -> SearchRow:
    return SearchRow(position, {"Nk": position + 1}, 0, state, value, reports or {}, str(position))


def curve(quality: float, steps=range(3, STEPS + 1, 3)) -> dict[int, float]:
    return {step: quality * step / STEPS for step in steps}


def run_all(study: Study, qualities: list[float]) -> list[SearchRow]:
    """One run after the other, each asked after every report."""
    rows: list[SearchRow] = []
    for position, quality in enumerate(qualities):
        told: dict[int, float] = {}
        row = row_at(position)
        for step, value in curve(quality).items():
            told[step] = value
            row = replace(row, reports=dict(told))
            if should_prune(study, [*rows, row], position):
                row = replace(row, state="pruned")
                break
        rows.append(row if row.state == "pruned" else replace(row, state="done", value=quality))
    return rows


@pytest.mark.parametrize("pruner", [{"name": "median", "startup_trials": 3}, HYPERBAND], ids=["median", "hyperband"])
@pytest.mark.parametrize("seed", range(2))
def test_bad_runs_are_stopped_and_the_best_never(study_with, pruner, seed):
    qualities = [float(10 + n) for n in range(30)]
    random.Random(seed).shuffle(qualities)
    rows = run_all(study_with(pruner), qualities)
    best = max(range(30), key=qualities.__getitem__)
    assert rows[best].state == "done"
    bad = [row for row, quality in zip(rows, qualities, strict=True) if quality < 20 and row.position >= 10]
    assert sum(row.state == "pruned" for row in bad) >= 0.6 * len(bad) > 0
    steps = sum(max(row.reports) for row in rows)
    assert steps < 0.75 * 30 * STEPS


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_hyperband_decides_as_optuna_does_in_a_live_study(study_with, seed, factor):
    """Eight runs at a time in a live Optuna study; after each report the rebuilt one must say the same."""
    chance = random.Random(seed)
    settings = {**HYPERBAND, "reduction_factor": factor}
    study = study_with(settings)
    pruner = optuna.pruners.HyperbandPruner(min_resource=3, max_resource=STEPS, reduction_factor=factor)
    with quiet():
        live = optuna.create_study(study_name=study.name, direction="maximize", pruner=pruner)
        rows: list[SearchRow] = []
        decisions = []
        for _ in range(4):
            group = [(live.ask(), chance.uniform(0, 50)) for _ in range(8)]
            rows += [row_at(trial.number) for trial, _ in group]
            for step in range(3, STEPS, 3):
                for trial, quality in group:
                    row = rows[trial.number]
                    if row.state != "running":
                        continue
                    value = quality * step / STEPS + chance.uniform(-5, 5)
                    trial.report(value, step)
                    rows[trial.number] = row = replace(row, reports={**row.reports, step: value})
                    expected = trial.should_prune()
                    assert should_prune(study, rows, trial.number) is bool(expected)
                    decisions.append(expected)
                    if expected:
                        live.tell(trial, state=optuna.trial.TrialState.PRUNED)
                        rows[trial.number] = replace(row, state="pruned")
            for trial, quality in group:
                if rows[trial.number].state == "running":
                    live.tell(trial, quality)
                    rows[trial.number] = replace(rows[trial.number], state="done", value=quality)
    assert 8 < sum(decisions) < 32


def test_the_answer_does_not_change_when_it_is_asked_again(study_with):
    study = study_with(HYPERBAND)
    rows = [row_at(n, "done", curve(40.0 + n), 40.0 + n) for n in range(20)]
    rows += [row_at(20 + n, "running", {3: 0.1}) for n in range(20)]
    first = [should_prune(study, rows, 20 + n) for n in range(20)]
    assert [should_prune(study, list(reversed(rows)), 20 + n) for n in range(20)] == first
    assert any(first)
    assert not all(first)  # a bracket with a later first rung lets it go on


def test_the_median_waits_for_its_startup_and_warmup(study_with):
    done = [row_at(n, "done", curve(40.0), 40.0) for n in range(4)]
    bad = row_at(4, "running", {3: 0.1})
    later = replace(bad, reports={3: 0.1, 30: 0.1})

    def stops(settings, rows):
        return should_prune(study_with({"name": "median", **settings}), rows, 4)

    assert stops({"startup_trials": 4}, [*done, bad]) is True
    assert stops({"startup_trials": 4}, [*done, replace(bad, reports=curve(50.0, [3]))]) is False
    assert not stops({"startup_trials": 5}, [*done, bad])
    assert not stops({"startup_trials": 4, "warmup_steps": 30}, [*done, bad])
    assert stops({"startup_trials": 4, "warmup_steps": 30}, [*done, later])


@pytest.mark.parametrize("pruner", [{"name": "median", "startup_trials": 2}, HYPERBAND, "none"])
def test_a_run_is_never_stopped_at_its_last_step_or_without_a_report(study_with, pruner):
    study = study_with(pruner)
    done = [row_at(n, "done", curve(40.0), 40.0) for n in range(30)]
    for row in (
        row_at(30, "running", {STEPS: 0.1}),
        row_at(30),
        row_at(30, "done", {3: 0.1}, 0.1),
        row_at(30, "running", {3: float("nan")}),
        replace(row_at(30, "running", {3: 0.1}), axes={"Nk": 1000}),
    ):
        assert not should_prune(study, [*done, row], 30)
    assert not should_prune(study, done, 99)
    assert not should_prune(study.model_copy(update={"search": None}), [row_at(0, "running", {3: 1.0})], 0)


def test_hyperband_takes_the_first_evaluation_as_its_first_rung(study_with):
    rows = [row_at(n, "done", curve(40.0), 40.0) for n in range(30)]
    rows += [row_at(30 + n, "running", {9: 0.1}) for n in range(12)]

    def stopped(min_resource, eval_every):
        study = study_with({"name": "hyperband", "min_resource": min_resource}, eval_every)
        return [should_prune(study, rows, 30 + n) for n in range(12)]

    assert stopped(None, 9) == stopped(9, 0) != stopped(27, 0)
    assert not any(stopped(None, 0))
