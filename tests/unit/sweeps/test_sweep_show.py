"""show and log: the record of one trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cells import finish, take

from syncvis.files import write_text


def test_show_prints_all_that_a_result_holds(sweep, outputs):
    environment = {"torch": "2.8.0", "cpu": "Z80", "threads": "1"}
    finish(
        outputs, environment=environment, diff="abc", peak_memory_mb=123.5, command=["syncvis", "sweep"], extra={"a": 1}
    )
    output = sweep("show", 5).output
    for text in (
        "trial 5: done",
        "study  nk-smoke: Nk=10",
        "commit: c0ffee",
        "dirty: False",
        "diff: abc",
        "torch: 2.8.0",
        "cpu: Z80",
        "peak_memory_mb: 123.5",
        "data_fingerprint: f",
        "command: syncvis sweep",
        "AP: 50.0",
        "num_selected: 10",
        "steps: 2",
        "a: 1",
        "seed   0",
    ):
        assert text in output, text
    assert any(line.startswith("attempt 1: 20") and line.endswith("done") for line in output.splitlines())
    assert outputs.view.cell(5)["variant_hash"] in output


def test_long_parts_of_a_record_are_grouped_or_cut(sweep, outputs):
    fresh = [f"decoder.sync.{layer}.query.{kind}" for layer in range(9) for kind in ("weight", "bias")]
    fresh += ["decoder.class_embed.weight", "decoder.class_embed.bias", "scale"]
    command = ["worker.py", *(f"--option-{number}" for number in range(50))]
    finish(outputs, fresh_parameters=fresh, command=command)
    output = sweep("show", 5).output
    assert "fresh_parameters: 21 (decoder.sync 18, decoder.class_embed 2, model 1)\n" in output
    (line,) = [line for line in output.splitlines() if line.startswith("command: worker.py --option-0 ")]
    assert line.endswith("... (all of it with --json)")
    assert len(line) < 150
    assert json.loads(sweep("show", 5, "--json").stdout)["result"]["fresh_parameters"] == fresh


def test_show_counts_the_tries_of_the_whole_life_and_of_the_last_round(sweep, outputs):
    assert "tries  1: 1 failed\n" in sweep("show", 2).output
    assert "tries  1: 1 not ended\n" in sweep("show", 4).output
    assert "tries  0\n" in sweep("show", 5).output
    outputs.retry(numbers=[2])
    again = "since the last retry 0 of 3 failures, 0 of 10 deaths, 0 of 100 losses"
    assert f"tries  1: 1 failed; {again}\n" in sweep("show", 2).output
    outputs.fail(take(outputs), "RuntimeError: boom")
    claim = take(outputs)
    outputs.died(claim, "its process died of signal 9")
    counts = "1 of 3 failures, 1 of 10 deaths, 0 of 100 losses"
    for words in (["show", 2], ["log", 2]):
        assert f"tries  3: 2 failed, 1 died; since the last retry {counts}\n" in sweep(*words).output
    finish(outputs)
    output = sweep("show", 2).output
    assert "trial 2: done" in output
    assert "tries  4: 2 failed, 1 died, 1 done; since the last retry" in output


def test_show_as_json_is_the_whole_record(sweep, outputs):
    found = json.loads(sweep("show", 1, "--json").stdout)
    assert found["result"] == outputs.view.results()[found["cell_hash"]]
    assert found["config"] == json.loads(outputs.view.cell(1)["config"])
    assert found["studies"] == {"nk-smoke": {"Nk": 2}}
    assert [row["outcome"] for row in found["attempts"]] == ["done"]


@pytest.mark.parametrize(("number", "text"), [(2, "trial 2: given up"), (4, "worker host:1"), (5, "trial 5: planned")])
def test_show_of_trials_without_a_result(sweep, outputs, number, text):
    assert text in sweep("show", number).output


def test_log_prints_the_traceback_and_the_end_of_the_log(sweep, outputs):
    folder = Path(outputs.view.cell(2)["run_dir"])
    write_text(folder / "error.log", "Traceback: [bold]boom[/bold]\x1b[2J\n")
    write_text(folder / "attempt-1.log", "".join(f"line {n} of the log\n" for n in range(100)))
    output = sweep("log", 2, "--lines", 3).output
    assert "error  loss is nan" in output
    assert "host:1, failed: loss is nan" in output
    assert "Traceback: [bold]boom[/bold]" in output
    assert "\x1b" not in output
    assert output.rstrip().endswith("line 97 of the log\nline 98 of the log\nline 99 of the log")
    assert "line 96" not in output


def test_log_of_another_machine_says_where_it_is(sweep, outputs):
    output = sweep("log", 2).output
    assert f"{outputs.view.cell(2)['run_dir']}/error.log: cannot be read here (No such file or directory)" in output
