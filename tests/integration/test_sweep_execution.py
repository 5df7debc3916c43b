"""How trials are carried out: told on the command line, resolved where they run, noted with every attempt."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sweeping import NK, Place, ends
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.placement.slurm import SlurmSettings
from syncvis.execution import PLAIN, Execution

ASKED = Execution("cpu", 3, 2, checkpoint_activations=True, deterministic=True)
ONE = [(1, 1)]


def told(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place.folder / "told").read_text().splitlines()]


@pytest.fixture
def inside(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The sweep's folder as that of this process, whose own threads are as before in the end."""
    monkeypatch.chdir(place.folder)
    for name, value in PLAIN.environment().items():
        monkeypatch.setenv(name, value)
    return place


def command(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "250"}, catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output
    return result


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_a_worker_carries_out_its_trials_as_it_is_told_and_notes_it(place: Place) -> None:
    place.add()
    words = ["-m", "sweeps.worker", place.storage, "--run", place.run, "--poll", "0.05", *ASKED.words()]
    ends(place.start(*words, OMP_NUM_THREADS="7"))
    assert told(place) == [ASKED.to_json() | {"omp": "3"}]
    assert [row["execution"] for row in place.view.attempts()] == [{"processes": 1} | ASKED.to_json()]


@pytest.mark.parametrize("placement", [None, SlurmSettings("local")], ids=["here", "jobs"])
@pytest.mark.parametrize("place", ONE, indirect=True)
def test_every_placement_hands_it_on(place: Place, placement: SlurmSettings | None) -> None:
    if placement:
        pytest.importorskip("submitit")
    place.sweep(execution=ASKED, placement=placement, workers=1)
    assert told(place) == [ASKED.to_json() | {"omp": "3"}]


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_an_attempt_that_fails_notes_it_too_and_defaults_are_those_of_the_machine(place: Place) -> None:
    place.set("fail-1", "boom")
    place.sweep(5, workers=1)
    noted = [row["execution"] for row in place.view.attempts()]
    assert noted == [{"processes": 1} | replace(PLAIN, loader_workers=0).to_json()] * 3


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_two_processes_are_told_the_same_and_their_number_is_noted(place: Place) -> None:
    place.set("ticks", 3)
    place.sweep(run="fake_ranks:run", processes=2, workers=1, execution=ASKED)
    (result,) = place.view.results().values()
    assert result["told"] == [ASKED.to_json()] * 2
    assert [row["execution"] for row in place.view.attempts()] == [{"processes": 2} | ASKED.to_json()]


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_it_is_shown_exported_and_used_again(inside: Place) -> None:
    place = inside
    place.sweep(execution=ASKED, workers=1)
    shown = command("show", 1).output
    assert "on cpu with 3 threads and 2 loader processes, checkpoint activations, deterministic, done" in shown
    (attempt,) = json.loads(command("show", 1, "--json").output)["attempts"]
    assert attempt["execution"] == {"processes": 1} | ASKED.to_json()
    (row,) = json.loads(command("export", "--what", "attempts", "--format", "json").output)
    assert {name: row[name] for name in ("processes", *ASKED.to_json())} == attempt["execution"]
    output = command("rerun", 1, "--run", place.run).output
    assert "identical" in output
    assert told(place)[1] == ASKED.to_json() | {"omp": "3"}


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_a_trial_of_two_processes_is_trained_again_by_two(inside: Place) -> None:
    place = inside
    place.set("ticks", 3)
    place.sweep(run="fake_ranks:run", processes=2, workers=1)
    output = command("rerun", 1, "--run", "fake_ranks:run").output
    assert "warning: processes: None in the record, 2 now" in output  # its environment is not the real one
    assert list((place.folder / "outputs" / "reruns").iterdir())
    assert (place.folder / "ranks").read_text().split() == ["2", "2"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("place", ONE, indirect=True)
def test_a_sweep_in_a_job_stops_in_good_order_at_its_time_limit(place: Place, number: signal.Signals) -> None:
    place.set("seconds", 30)
    sweep = place.start_sweep()
    place.wait_until_running(1)
    deadline = time.monotonic() + 20
    while not (place.folder / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sweep.send_signal(number)
    output = ends(sweep, 75)
    assert "stopping after a checkpoint" in output
    assert "run the same command again to continue" in output
    assert [row["outcome"] for row in place.view.attempts()] == ["released"]
    assert place.view.counts([NK])["planned"] == 1
    assert Path(place.view.cells()[0]["run_dir"], "checkpoint").exists()


@pytest.mark.parametrize("place", ONE, indirect=True)
def test_no_further_signal_of_a_batch_system_cuts_the_checkpoint_short(place: Place) -> None:
    place.set("seconds", 30)
    place.set("stubborn", "")
    sweep = place.start_sweep()
    place.wait_until_running(1)
    deadline = time.monotonic() + 20
    while not (place.folder / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        sweep.send_signal(number)
        time.sleep(0.7)  # longer than the sweep takes to notice
    assert sweep.poll() is None
    (place.folder / "stubborn").unlink()
    ends(sweep, 75)
    assert [row["outcome"] for row in place.view.attempts()] == ["released"]
