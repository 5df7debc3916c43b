"""Hours and cost of cells at scale paper: from counted FLOPs, then from what was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from cells import alter, finish, take

from sweeps.commands import plan
from sweeps.estimate import PUBLISHED
from sweeps.experiment import load_experiment, plan_cells, study_at
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.config import RunConfig, load_config
from syncvis.training.cost import clip_flops

ROOT = Path(__file__).parents[3]
TERA = 10**12
PAPER = StudyKey("nk", "paper")
AXES = {"T": {"key": "data.frames", "values": [2, 3]}}
EIGHT = {"environment": {"processes": "8"}}


class Counts:
    """Stands for the count: so many TFLOP a clip as it has frames."""

    def __init__(self) -> None:
        self.asked: list[RunConfig] = []

    def __call__(self, configs: Sequence[RunConfig]) -> list[int | None]:
        self.asked += configs
        return [None if config.plugins else config.data.frames * TERA for config in configs]


@pytest.fixture
def counts(monkeypatch) -> Counts:
    found = Counts()
    monkeypatch.setattr("syncvis.preflight.flops.clip_flops", found)
    return found


@pytest.fixture
def paper(write_experiment, counts, tmp_path):
    """An experiment at scale paper of clips of 2 and 3 frames, two seeds each: a step is 20 and 30 TFLOP."""
    base = {"data": {"root": "data"}, "sync": {"order": "video_first"}, "train": {"steps": 3600, "batch_size": 10}}
    (tmp_path / "experiments" / "base" / "paper.yaml").write_text(yaml.safe_dump(base))
    return write_experiment("nk", axes=AXES)


@pytest.fixture
def ledger(paper, tmp_path) -> Ledger:
    """The ledger of ``outputs`` with the planned cells: frames 2 and 3, then the same with the other seed."""
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    ledger.add(PAPER, {}, plan_cells(load_experiment(paper), "paper"), "outputs/runs")
    return ledger


def row_of(output, name="nk-paper"):
    return next(re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if line.split()[:1] == [name])


def last_columns(sweep, *words):
    """GPU-hours and cost."""
    return row_of(sweep("plan", *words, "--scale", "paper").output)[-2:]


def test_hours_follow_from_flops(sweep, paper):
    output = sweep("plan", "--scale", "paper", "--tflops", "4", "--price", "3").output
    assert "GPU-hours" in output
    assert row_of(output)[6:] == ["4", "–", "~25.0", "~75.0"]  # 2 cells of 3600 s x 20 / 4, 2 of 3600 s x 30 / 4
    assert "~ estimated from counted FLOPs at 4 TFLOP/s per GPU, i.e. 1.3 % of an A100's 312 TFLOP/s half" in output
    assert "(--tflops); not counted: evaluation, loading, sampling" in output
    assert "cost at 3.00 per GPU-hour (--price)" in output
    assert "left: ~25.0 GPU-hours, ~3.12 hours on 8 GPUs" in output
    assert "not measured" not in output


def test_without_options_rate_and_price_are_stated(sweep, paper):
    output = sweep("plan", "--scale", "paper", "--workers", "4").output
    hours = 100 / PUBLISHED
    assert row_of(output)[-2:] == [f"~{hours:.1f}", f"~{hours * plan.PRICE:.1f}"]
    assert f"at {PUBLISHED} TFLOP/s per GPU" in output
    assert "(VITA's R50 training as published, docs/sweeps.md; --tflops sets another)" in output
    assert f"cost at {plan.PRICE:.2f} per GPU-hour" in output
    assert f"left: ~{hours:.1f} GPU-hours, ~{hours / 4:.2f} hours on 4 GPUs" in output


def test_the_published_rate_is_that_of_vita():
    """16 hours on 8 GPUs."""
    config = load_config(ROOT / "experiments" / "recipes" / "vita_ytvis_2019_r50.yaml")
    flops = clip_flops(config, 40) * config.train.batch_size * config.train.steps
    assert flops / (16 * 3600 * 8) / TERA == pytest.approx(PUBLISHED, abs=0.05)


def test_a_done_cell_measures_its_kind_and_the_rate_of_the_others(sweep, ledger):
    finish(ledger, steps=3600, **EIGHT)  # 72,000 TFLOP in 1800 s on 8 GPUs: 5 TFLOP/s
    alter(ledger, "UPDATE attempts SET started = 0, ended = 1800")
    output = sweep("plan", "--scale", "paper").output
    assert row_of(output)[3:] == ["1", "0", "0", "3", "0.5 (0)", "~16.0", "~32.0"]  # 4 as measured, 2 x 3600 s x 30 / 5
    assert "~ estimated from counted FLOPs at 5 TFLOP/s per GPU, i.e. 1.6 %" in output
    assert "(measured on 1 cell, all that they did included)" in output
    assert "spent: 4.00 GPU-hours, cost 8.00 (done 4.00 h in 1 attempts)" in output
    assert last_columns(sweep, "--tflops", "10") == ["~10.0", "~20.0"]  # 4 as measured, 2 x 3600 s x 30 / 10


def test_once_all_kinds_are_measured_nothing_is_counted(sweep, ledger, counts):
    for _ in range(2):
        finish(ledger, steps=3600, **EIGHT)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 1800")
    output = sweep("plan", "--scale", "paper").output
    assert row_of(output)[-3:] == ["0.5 (0)", "8.00", "16.00"]
    assert "estimated" not in output
    assert counts.asked == []


def test_attempts_without_a_result_were_made_by_as_many_processes_as_the_last_done_cell(sweep, ledger):
    finish(ledger, steps=3600, **EIGHT)
    ledger.fail(take(ledger), "loss is nan", final=True)
    ledger.release(take(ledger))
    alter(ledger, "UPDATE attempts SET started = 0, ended = 900")
    output = sweep("plan", "--scale", "paper").output
    assert "spent: 6.00 GPU-hours" in output
    assert "failed 2.00 h in 1, given back 2.00 h in 1 attempts" in output


def test_steps_that_are_done_are_not_left(sweep, ledger):
    ledger.record(take(ledger), {0: '{"step": 1800, "loss": 1.0}'})
    assert last_columns(sweep, "--tflops", "4") == ["~22.5", "~45.0"]


def test_cells_of_a_search_that_are_not_chosen_cost_what_its_base_costs(sweep, paper, write_experiment):
    frames = study_at(load_experiment(paper), "paper").base_config().data.frames
    write_experiment("nk", axes=AXES, search={"sampler": "random", "trials": 3})
    assert last_columns(sweep, "nk", "--tflops", "100") == [f"~{3 * frames / 10:.2f}", f"~{6 * frames / 10:.2f}"]


def test_what_cannot_be_counted_is_named(sweep, paper, write_experiment):
    axes = {"by": {"key": "sync.aggregation", "values": ["class_prediction", "not_here:choose"]}}
    write_experiment("nk", axes=axes, seeds=[0])
    output = sweep("plan", "--scale", "paper", "--tflops", "20").output
    frames = study_at(load_experiment(paper), "paper").base_config().data.frames
    assert row_of(output)[-2:] == [f"~{frames / 2:.2f} + 1 cell not counted", f"~{frames:.2f} + 1 cell not counted"]
    assert "– not counted: code of one's own that is not allowed, or a model that cannot be" in output
    assert "and 1 cell not counted" in output


def test_other_scales_count_no_flops_and_have_no_price(sweep, write_experiment, counts):
    write_experiment("nk")
    output = sweep("plan", "--scale", "smoke", "--tflops", "4").output
    assert "– not measured yet: no cell of that kind is done" in output
    assert counts.asked == []
    for word in ("GPU", "cost", "~"):
        assert word not in output


def test_cells_that_stand_in_two_studies_are_paid_once(sweep, paper, write_experiment):
    write_experiment("other", axes={"T": {"key": "data.frames", "values": [3, 4]}})
    output = sweep("plan", "nk", "other", "--scale", "paper", "--tflops", "4").output
    assert row_of(output)[-2] == "~25.0"
    assert row_of(output, "other-paper")[-2] == "~20.0"
    assert "left: ~45.0 GPU-hours" in output


def test_a_ledger_of_both_scales_mixes_no_rates(sweep, ledger, write_experiment, tmp_path):
    ledger.add(
        StudyKey("nk", "smoke"), {}, plan_cells(load_experiment(write_experiment("nk", axes=AXES)), "smoke"), "r"
    )
    for _ in range(4):
        take(ledger)
    finish(ledger)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 36000 WHERE outcome = 'done'")
    assert last_columns(sweep, "--tflops", "4") == ["~25.0", "~50.0"]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("done", [0, 1])
def test_a_narrow_console_gets_whole_numbers_and_names(sweep, paper, tmp_path, monkeypatch, columns, done):
    key = StudyKey("components@vita_ytvis_2019_swin_l", "paper")
    study = study_at(load_experiment(paper), "paper")
    study = study.model_copy(update={"name": key.name, "experiment": key.experiment})
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    ledger.add(key, {}, study.cells(), "outputs/runs")
    for _ in range(done):
        finish(ledger, steps=3600, **EIGHT)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 1800")
    monkeypatch.setattr("sweeps.commands.plan.studies_of", lambda *_: [study])
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = sweep("plan", "--scale", "paper").output.split("~ estimated")[0].splitlines()
    assert max(map(len, lines)) <= columns
    number = next(index for index, line in enumerate(lines) if "components" in line)
    assert lines[number].split()[-2:] == (["~16.0", "~32.0"] if done else ["~15.9", "~31.7"])
    assert "".join(line.split()[0] for line in lines[number : number + 2] if line.strip()) == key.name


def test_notes_of_the_axes_are_printed_once(sweep, paper, monkeypatch):
    study = study_at(load_experiment(paper), "paper").model_copy(update={"notes": ("T: not known", "T: 8 as released")})
    monkeypatch.setattr("sweeps.commands.plan.studies_of", lambda *_: [study, study])
    output = sweep("plan", "--scale", "paper").output
    assert [output.count(line) for line in ("\nT: not known\n", "\nT: 8 as released\n")] == [1, 1]


def test_rates_are_those_of_the_same_precision_and_of_what_learns(sweep, ledger, write_experiment, tmp_path):
    finish(ledger, steps=3600, **EIGHT)
    alter(ledger, "UPDATE attempts SET started = 0, ended = 1800")
    write_experiment("nk", axes={"p": {"key": "train.precision", "values": ["float32", "bf16"]}, **AXES}, seeds=[9])
    output = sweep("plan", "nk", "--scale", "paper", "--tflops", "4").output
    assert json.loads(ledger.view.cell(1)["config"])["train"]["precision"] == "float32"
    assert row_of(output)[-2] == "~24.0"  # 4 as measured; 20 / 4 and twice 30 / 4 hours


def test_a_plan_at_scale_paper_imports_no_torch(paper, tmp_path):
    code = """
import sys
from sweeps.cli import app
from syncvis.preflight import flops
flops.ask = lambda module, questions, *_: [dict(flops=10**12) for _ in questions]
app(["plan", "--scale", "paper", "--tflops", "10"], standalone_mode=False)
print(sorted({"torch", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "~4.00 GPU-hours" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
