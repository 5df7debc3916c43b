"""The commands that plan, watch and export, called as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pandas as pd
import pytest
import sqlalchemy as sa
from cells import NK, alter, claim_of, finish, sweep_often, take

from sweeps.commands import status as status_module
from sweeps.database import attempts, cells, members
from sweeps.enrolment import enrol
from sweeps.experiment import load_experiment, plan_cells, study_at
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.errors import ConfigError, StorageError


def lines_of(output):
    return [[part for part in re.split(r"\s*│\s*|\s{2,}", line.strip()) if part] for line in output.split("\n")]


@pytest.fixture
def two_experiments(write_experiment, tmp_path):
    """Two experiments with one common cell per seed, both in a ledger in which two cells have ended."""
    nk = write_experiment("nk")
    write_experiment("other", axes={"Nk": {"key": "sync.num_selected", "values": [10, 16]}})
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    ledger.add(NK, {}, plan_cells(load_experiment(nk), "smoke"), "outputs/runs")
    finish(ledger)
    ledger.fail(take(ledger), "loss is nan", final=True)
    return ledger


def test_plan_counts_cells(sweep, two_experiments):
    lines = lines_of(sweep("plan", "--scale", "smoke").output)
    nk, other, every = (
        next(line for line in lines if line[:1] == [name])
        for name in ("nk-smoke", "other-smoke", "all, each cell once")
    )
    assert nk[1:7] == ["4", "4", "1", "0", "1", "2"]
    assert other[1:7] == ["4", "2", "0", "0", "1", "2"]
    assert every[1:7] == ["6", "6", "1", "0", "1", "4"]


def test_plan_of_what_was_never_run_has_no_number_and_makes_no_files(sweep, write_experiment, tmp_path):
    write_experiment("nk")
    output = sweep("plan", "--scale", "smoke", "--price", "3").output
    line = next(line for line in lines_of(output) if line[:1] == ["nk-smoke"])
    assert line == ["nk-smoke", "4", "4", "0", "0", "0", "4", *["–"] * 3]
    assert "hours of" not in output
    assert not (tmp_path / "outputs").exists()


def test_plan_tells_hours_and_cost_from_measured_attempts(sweep, two_experiments):
    ledger = two_experiments
    ledger.release(take(ledger))
    take(ledger)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 7200 WHERE outcome = 'done'")  # 2 steps in 2 hours
    alter(ledger, "UPDATE attempts SET started = 0, ended = 1800 WHERE outcome = 'failed'")
    alter(ledger, "UPDATE attempts SET started = 0, ended = 900 WHERE outcome = 'released'")
    output = sweep("plan", "nk", "--scale", "smoke", "--price", "2.5", "--workers", "4").output
    line = next(line for line in lines_of(output) if line[:1] == ["nk-smoke"])
    assert line[6:] == ["2", "3.6e+03 (0)", "4.00", "10.00"]
    assert "left: 4.00 hours of one process, 1.00 with 4" in output
    spent = next(line for line in output.splitlines() if line.startswith("spent"))
    assert spent.startswith("spent: 2.75 hours of processes, cost 6.88")
    assert "done 2.00 h in 1" in spent
    assert "failed 0.50 h in 1" in spent
    assert "given back 0.25 h in 1" in spent
    assert "running 0.00 h in 1" in spent


def test_plan_does_not_count_steps_that_a_running_cell_has_done(sweep, two_experiments):
    alter(two_experiments, "UPDATE attempts SET started = 0, ended = 7200 WHERE outcome = 'done'")
    two_experiments.record(take(two_experiments), {0: '{"step": 1, "loss": 1.0}'})
    line = next(line for line in lines_of(sweep("plan", "nk", "--scale", "smoke").output) if line[:1] == ["nk-smoke"])
    assert line[-1] == "3.00"


def test_plan_takes_rates_of_cells_alike_but_not_of_others(sweep, two_experiments, write_experiment):
    alter(two_experiments, "UPDATE attempts SET started = 0, ended = 7200 WHERE outcome = 'done'")
    alike = next(
        line for line in lines_of(sweep("plan", "other", "--scale", "smoke").output) if line[:1] == ["other-smoke"]
    )
    assert alike[-2:] == ["3.6e+03 (0)", "6.00"]
    write_experiment("frames", axes={"T": {"key": "data.frames", "values": [2, 3]}})
    other = next(
        line for line in lines_of(sweep("plan", "frames", "--scale", "smoke").output) if line[:1] == ["frames-smoke"]
    )
    assert other[-2:] == ["–", "–"]
    both = sweep("plan", "other", "frames", "--scale", "smoke").output
    assert "left: 6.00 hours of one process" in both
    assert "and 4 cells not measured" in both


def test_plan_of_a_search_counts_what_it_will_still_choose(sweep, write_experiment, tmp_path):
    axes = {"Nk": {"key": "sync.num_selected", "range": {"low": 1, "high": 40}}}
    path = write_experiment("nk", search={"sampler": "random", "trials": 7}, seeds=[0], axes=axes)
    study, ledger = study_at(load_experiment(path, "smoke"), "smoke"), Ledger(tmp_path / "outputs" / "ledger.db")
    before = next(line for line in lines_of(sweep("plan", "nk", "--scale", "smoke").output) if line[:1] == ["nk-smoke"])
    assert before[1:] == ["7", "7", "0", "0", "0", "7", "–", "–"]
    enrol(ledger, study, tmp_path / "outputs" / "runs")
    for position, value in enumerate([2, 10]):
        ledger.append(NK, study.cell({"Nk": value}, 0, position))
    finish(ledger)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 7200")
    line = next(line for line in lines_of(sweep("plan", "nk", "--scale", "smoke").output) if line[:1] == ["nk-smoke"])
    assert line[1:] == ["7", "7", "1", "0", "0", "6", "3.6e+03 (0)", "12.00"]


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("nk", "--sampler", "random", "--trials", "2"), "2"),
        (("nk", "--trials", "3"), "3"),
        (("nk", "--sampler", "tpe"), "4"),
        (("find", "--trials", "1"), "1"),
        (("find", "--sampler", "grid"), "2"),
    ],
)
def test_plan_is_of_what_run_does_with_the_same_options(sweep, write_experiment, monkeypatch, words, size):
    write_experiment("nk")
    write_experiment("find", search={"sampler": "random", "trials": 9}, seeds=[0])

    def planned():
        lines = lines_of(sweep("plan", *words, "--scale", "smoke").output)
        return next((line[1], line[6]) for line in lines if line[:1] == [f"{words[0]}-smoke"])

    before = planned()
    monkeypatch.setattr("sweeps.cli.left", lambda *_: [])
    monkeypatch.setattr("sweeps.cli.Sweep.run", lambda sweep: 0)
    sweep("run", *words, "--scale", "smoke")
    (stored,) = Ledger("outputs/ledger.db").view.studies().values()
    search = stored.definition["search"]
    assert (size, size) == before == planned()
    assert str(search["trials"] if search else stored.size) == size


def test_a_range_without_an_end_cannot_be_counted(sweep, write_experiment):
    write_experiment("lr", axes={"lr": {"key": "train.lr", "range": {"low": 0.1, "high": 0.5}}})
    with pytest.raises(ConfigError, match=r"lr\.yaml: axes: has a range without an end. Fix: give --trials"):
        sweep("plan", "lr", "--sampler", "random", "--scale", "smoke")
    assert "5" in sweep("plan", "lr", "--sampler", "random", "--trials", "5", "--scale", "smoke").output


def planned_cells(sweep, *words):
    lines = lines_of(sweep("plan", *words, "--scale", "smoke").output)
    return next(line[1:3] for line in lines if line[:1] and line[0].endswith("-smoke"))


@pytest.mark.parametrize("search", [None, *({"sampler": name, "trials": 7} for name in ("grid", "random", "tpe"))])
@pytest.mark.parametrize("step", [0.2, 0.3])
def test_plan_counts_the_points_of_a_stepped_range(sweep, write_experiment, search, step):
    axis = {"key": "sync.momentum", "range": {"low": 0.1, "high": 0.7, "step": step}}
    write_experiment("m", axes={"m": axis}, seeds=[0], **({"search": search} if search else {}))
    points = {0.2: 4, 0.3: 3}[step]
    assert planned_cells(sweep, "m") == [str(points)] * 2
    assert planned_cells(sweep, "m", "--sampler", "random", "--trials", "2") == ["2", "2"]


WHOLE = {"key": "sync.num_selected"}


@pytest.mark.parametrize(
    ("axis", "sampler", "said"),
    [
        (
            WHOLE | {"range": {"low": 1.5, "high": 4}},
            "random",
            "X=1.5: sync.num_selected: Input should be a valid integer",
        ),
        (WHOLE | {"range": {"low": 1.0, "high": 4.0}}, "tpe", "sync.num_selected: Input should be a valid integer"),
        (WHOLE | {"range": {"low": 1, "high": 4, "step": 0.5}}, "random", "X=1.5: sync.num_selected"),
        (WHOLE | {"range": {"low": 0, "high": 4}}, "random", "X=0: sync.num_selected"),
        (WHOLE | {"range": {"low": 1, "high": 4, "step": 0.5}}, "grid", "X=1.5: sync.num_selected"),
        ({"key": "sync.momentum", "range": {"low": 0.5, "high": 1.5}}, "random", "X=1.5: sync.momentum"),
        ({"key": "sync.momentum", "range": {"low": 0.1, "high": 0.7}}, "grid", "a range without a step has no grid"),
        ({"key": "sync.momentun", "values": [0.1]}, "random", "did you mean 'momentum'?"),
        ({"key": "sync.order", "values": ["frame_first", "frame_last"]}, "tpe", "X=frame_last: sync.order"),
    ],
    ids=str,
)
def test_plan_refuses_what_run_could_not_run(sweep, write_experiment, tmp_path, axis, sampler, said):
    write_experiment("x", axes={"X": axis}, seeds=[0], search={"sampler": sampler, "trials": 3})
    texts = []
    for command in ("plan", "run"):
        with pytest.raises(ConfigError) as error:
            sweep(command, "x", "--scale", "smoke")
        texts.append(str(error.value))
    assert texts[0] == texts[1]
    assert said in texts[0]
    ledger = tmp_path / "outputs" / "ledger.db"
    assert not ledger.exists() or not Ledger(ledger).view.studies()


@pytest.mark.parametrize(("command", "module"), [("run", "sweeps.cli"), ("work", "sweeps.commands.work")])
def test_the_time_limit_of_a_trial_is_an_option_of_run_and_work(sweep, outputs, monkeypatch, command, module):
    told = []
    monkeypatch.setattr("sweeps.cli.left", lambda *_: [])
    monkeypatch.setattr("sweeps.commands.work.open_in", lambda *_: [])
    fake = SimpleNamespace(run=lambda: 0)
    monkeypatch.setattr(f"{module}.Sweep", lambda _, __, options, ___: told.append(options.trial_timeout) or fake)
    scale = ["--scale", "smoke"] if command == "run" else []
    for words in ([], ["--trial-timeout", "90"]):
        assert sweep(command, "nk", *scale, *words).exit_code == 0
    assert told == [None, 90]


def test_status_shows_states_running_trials_and_failures_without_any_file(sweep, outputs, tmp_path):
    (tmp_path / "experiments" / "nk.yaml").unlink()
    output = sweep("status", "experiments/nk.yaml").output
    lines = lines_of(output)
    assert ["nk-smoke", "1", "1", "1", "1", "1"] in lines
    (running,) = (line for line in lines if line[:1] == ["4"])
    assert running[:-1] == ["4", "nk: Nk=8, seed 0", "1/2", "12.50", "1", "host:1"]
    failure = next(line for line in output.splitlines() if "loss is nan" in line)
    assert failure.startswith("trial 2, nk: Nk=4, seed 0, given up: loss is nan")
    assert failure.endswith("error.log)")


def test_status_does_not_say_that_nothing_runs_while_the_first_cell_runs(sweep, outputs, monkeypatch):
    monkeypatch.setattr("sweeps.overview.durations", lambda *_: [])
    output = sweep("status").output
    assert ["nk-smoke", "1", "1", "1", "1", "1"] in lines_of(output)
    assert "cells per hour" not in output
    assert "nothing runs" not in output


@pytest.mark.parametrize("seconds", [60, 7200])
def test_status_tells_what_is_left_of_a_lease_however_long_it_is(sweep, outputs, seconds):
    take(outputs, seconds)
    (running,) = (line for line in lines_of(sweep("status").output) if line[:1] == ["5"])
    left = int(running[-1].removesuffix(" s left"))
    assert seconds - 30 < left <= seconds


def test_status_tells_speed_and_the_time_left(sweep, outputs):
    alter(outputs, "UPDATE attempts SET started = 0, ended = 1800 WHERE ended IS NOT NULL")
    assert "2.0 cells per hour, about 1 h 00 min left" in sweep("status", "nk").output


def test_status_frees_the_cells_of_dead_workers(sweep, outputs):
    alter(outputs, "UPDATE cells SET lease_until = 0, worker = 'somebody' WHERE state = 'running'")
    output = sweep("status", "nk-smoke", "--scale", "smoke").output
    assert ["nk-smoke", "2", "0", "1", "1", "1"] in lines_of(output)
    assert "planned again: process somebody died or hung" in output
    assert "2 cells are planned, and nothing runs" in output


def test_status_shows_text_of_others_as_it_is(sweep, outputs, tmp_path):
    alter(outputs, "UPDATE members SET axes = :axes", axes=json.dumps({"Nk": "[red]8[/red]\x1b[31m\x9b2J\x07"}))
    output = sweep("status").output
    assert "Nk=[red]8[/red][31m2J" in output
    assert not {"\x1b", "\x9b", "\x07"} & set(output)


def test_status_watches_until_ctrl_c(sweep, outputs, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            outputs.release(claim_of(outputs, 4))
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status_module.time, "sleep", sleep)
    result = sweep("status", "--watch")
    assert (result.exit_code, len(looks)) == (0, 3)
    assert ["nk-smoke", "2", "0", "1", "1", "1"] in lines_of(result.output)


def test_status_is_quick_for_ten_thousand_trials(sweep, outputs):
    (first,) = outputs.view.read(sa.select(cells).where(cells.c.number == 1))
    rows = [first | {"cell_hash": f"{n:016x}", "number": n} for n in range(6, 10_001)]
    place = {"experiment": "nk", "scale": "smoke", "axes": "{}"}
    one = {"attempt": 1, "worker": "w", "started": 0.0, "ended": 1.0, "outcome": "done"}
    failed = {"state": "gave_up", "error": "boom"}
    rows = [row | (failed if row["number"] % 2 else {}) for row in rows]

    def fill(connection):
        connection.execute(cells.insert(), rows)
        connection.execute(
            members.insert(), [place | {"cell_hash": r["cell_hash"], "position": r["number"]} for r in rows]
        )
        connection.execute(attempts.insert(), [one | {"cell_hash": r["cell_hash"]} for r in rows])

    outputs._database.run(fill)
    started = time.perf_counter()
    output = sweep("status").output
    assert time.perf_counter() - started < 2
    assert "and 4978 more" in output


def table(output):
    return list(csv.DictReader(io.StringIO(output)))


def test_export_writes_a_row_per_cell(sweep, outputs, tmp_path):
    (tmp_path / "experiments" / "nk.yaml").unlink()
    rows = table(sweep("export", "nk").stdout)
    assert [row["state"] for row in rows] == ["done", "gave_up", "pruned", "running", "planned"]
    assert list(rows[0])[:7] == ["experiment", "scale", "number", "Nk", "seed", "state", "AP"]
    done = rows[0]
    assert (done["Nk"], done["AP"], done["commit"], done["dirty"], done["attempts"]) == (
        "2",
        "42.0",
        "c0ffee",
        "False",
        "1",
    )
    assert float(done["wall_seconds"]) >= 0
    for row in rows[1:]:
        assert row["AP"] == row["AP50"] == row["commit"] == row["train_seconds"] == ""
    assert rows[1]["error"] == "loss is nan"


def test_export_of_two_studies_names_the_axes_of_both(sweep, two_experiments, tmp_path):
    other = plan_cells(load_experiment(tmp_path / "experiments" / "other.yaml"), "smoke")
    two_experiments.add(StudyKey("other", "smoke"), {}, other, "outputs/runs")
    rows = json.loads(sweep("export", "--format", "json").stdout)
    assert len(rows) == 8
    assert len({row["number"] for row in rows}) == 6
    assert len({tuple(row) for row in rows}) == 1
    assert sum(row["AP"] == 42.0 for row in rows) == 1
    assert [row["AP"] for row in rows if row["state"] != "done"] == [None] * 7


def test_export_of_metrics_attempts_and_videos(sweep, plan_values, add, tmp_path):
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    add(ledger, plan_values([2, 4]))
    finish(ledger, per_video={"7": 40.0, "9": 44.0}, per_video_tracking={"7": {"switches": 1.0}})
    ledger.release(take(ledger))
    finish(ledger)
    rows = table(sweep("export", "--what", "metrics").stdout)
    assert [(row["number"], row["line"], row["step"], row["loss"]) for row in rows[:3]] == [
        ("1", "0", "1", "2.0"),
        ("1", "1", "2", "1.0"),
        ("1", "2", "2", ""),
    ]
    assert {row["attempt"] for row in rows[3:]} == {"2"}
    attempts = table(sweep("export", "--what", "attempts").stdout)
    assert [(row["number"], row["attempt"], row["outcome"]) for row in attempts] == [
        ("1", "1", "done"),
        ("2", "1", "released"),
        ("2", "2", "done"),
    ]
    videos = json.loads(sweep("export", "--what", "videos", "--format", "json").stdout)
    assert [(row["number"], row["video"], row["AP"], row["switches"]) for row in videos] == [
        (1, "7", 40.0, 1.0),
        (1, "9", 44.0, None),
    ]


def test_export_to_parquet_keeps_types(sweep, outputs, tmp_path):
    with pytest.raises(ConfigError, match="--to"):
        sweep("export", "--format", "parquet")
    sweep("export", "--format", "parquet", "--to", "trials.parquet")
    frame = pd.read_parquet(tmp_path / "trials.parquet")
    assert frame["Nk"].tolist() == [2, 4, 6, 8, 10]
    assert frame["AP"].notna().tolist() == [True, False, False, False, False]
    assert frame.dtypes["number"] == "int64"
    alter(outputs, 'UPDATE members SET axes = \'{"Nk": "all"}\' WHERE position = 1')
    sweep("export", "--format", "parquet", "--to", "trials.parquet")
    assert pd.read_parquet(tmp_path / "trials.parquet")["Nk"].tolist() == ["2", "all", "6", "8", "10"]


@pytest.mark.parametrize("text", ["=1+1", "+SVFM", "-x", "@SUM(A1)", "\t=1"])
def test_export_leaves_no_formula_in_a_csv(sweep, outputs, text):
    alter(outputs, "UPDATE cells SET error = :text", text=text)
    alter(outputs, "UPDATE members SET axes = :axes", axes=json.dumps({text: text}))
    rows = table(sweep("export").stdout)
    assert {row["error"] for row in rows} == {f"'{text}"}
    assert {row[f"'{text}"] for row in rows} == {f"'{text}"}


def test_an_axis_named_like_a_column_keeps_its_own(sweep, outputs):
    alter(outputs, 'UPDATE members SET axes = \'{"state": 1, "AP": 2}\'')
    row = table(sweep("export").stdout)[0]
    assert (row["axis.state"], row["state"], row["axis.AP"], row["AP"]) == ("1", "done", "2", "42.0")


def test_eight_processes_that_export_to_one_file_never_tear_it(sweep, outputs, tmp_path):
    claim = claim_of(outputs, 4)
    outputs.record(claim, {line: json.dumps({"step": line, "loss": line / 7}) for line in range(1000)})
    words = ["export", "--what", "metrics", "--to", "all.csv"]
    sweep(*words)
    whole, over, torn = (tmp_path / "all.csv").read_bytes(), threading.Event(), []

    def watch():
        while not over.wait(0.0005):
            torn.extend([content] if (content := (tmp_path / "all.csv").read_bytes()) != whole else [])

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweeps.cli"])
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        processes = [context.Process(target=sweep_often, args=(tmp_path, words, 2)) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        over.set()
        watching.result()
    assert [process.exitcode for process in processes] == [0] * 8
    assert not torn
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_unknown_experiments_and_scales_are_config_errors(sweep, write_experiment, command):
    write_experiment("nk")
    with pytest.raises(ConfigError, match=r"no experiment 'nkk'.*did you mean 'nk'"):
        sweep(command, "nkk", "--scale", "smoke")
    with pytest.raises(ConfigError, match="scale 'paper'"):
        sweep(command, "nk", "--scale", "paper")
    assert sweep(command, "nk", "--scale", "huge").exit_code == 2


@pytest.mark.parametrize("command", ["status", "export", "stop", "resume", "retry"])
def test_unknown_studies_are_config_errors(sweep, outputs, command):
    with pytest.raises(ConfigError, match=r"ledger.db: there is no study 'nk-smok' \(did you mean 'nk-smoke'\?\)"):
        sweep(command, "nk-smok")


@pytest.mark.parametrize("command", [["show", 9], ["log", 9], ["rerun", 9], ["retry", 9]], ids=str)
def test_unknown_trials_are_config_errors(sweep, outputs, command):
    with pytest.raises(ConfigError, match="there is no trial 9"):
        sweep(*command)


COMMANDS = [["status"], ["export"], ["retry", "1"], ["stop"], ["resume"], ["show", 1], ["log", 1], ["rerun", 1], ["gc"]]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_without_a_ledger_all_say_so_and_make_none(sweep, tmp_path, command):
    with pytest.raises(StorageError, match=r"outputs/ledger.db: there is no ledger yet. Fix: give the --out"):
        sweep(*command)
    assert not (tmp_path / "outputs").exists()


def test_a_lost_ledger_is_not_taken_for_a_new_one(sweep, outputs, tmp_path):
    for path in (tmp_path / "outputs").glob("ledger.db*"):
        if path.suffix != ".marker":
            path.unlink()
    with pytest.raises(StorageError, match="it has held results"):
        sweep("status")


def test_planning_imports_neither_torch_nor_optuna_nor_wandb():
    heavy = ("torch", "optuna", "wandb", "pandas", "pyarrow")
    code = f"import sys, sweeps.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
