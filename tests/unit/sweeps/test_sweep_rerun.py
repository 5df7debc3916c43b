"""rerun, with a run function that trains nothing; with the real one in tests/integration."""

from __future__ import annotations

import json

import pytest
from cells import alter

from sweeps.ledger import Attempt
from sweeps.rerun import UNNAMED, execution_here, load_record
from syncvis import gpus
from syncvis.errors import ConfigError, Interrupted, StorageError
from syncvis.execution import Execution
from syncvis.files import fingerprint


@pytest.fixture
def rerun(sweep, outputs, tmp_path, monkeypatch):
    """Train trial 1 of ``outputs`` again with the fake run."""
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    return lambda number=1: sweep("rerun", number, "--run", "fake_run:run")


def test_the_same_numbers_are_identical_and_lie_in_fresh_folders(rerun, tmp_path):
    for n in (1, 2):
        result = rerun()
        assert result.exit_code == 0
        assert f"2 steps in outputs/reruns/1-{n}" in result.output
        assert "identical: all metrics, AP of 0 videos, 3 rows" in result.output
    assert len((tmp_path / "started").read_text().split()) == 2


METRICS = {"AP": 42.0, "AP50": 43.0, "AP75": 41.0, "AR1": 42.0, "AR10": 42.0}
CHANGES = {
    "metrics AP: 42.25, now 42.0": {"metrics": METRICS | {"AP": 42.25}},
    "per_video: {'7': 1.0}, now None": {"per_video": {"7": 1.0}},
    "history 0 AP: 1.0, now 42.0": {"history": [{"step": 2, "AP": 1.0}]},
    "steps: 3, now 2": {"steps": 3},
}


@pytest.mark.parametrize(("line", "change"), CHANGES.items(), ids=list(CHANGES))
def test_another_result_is_told_with_both_numbers(rerun, outputs, line, change):
    alter(outputs, "UPDATE results SET result = :text", text=json.dumps(change))
    result = rerun()
    assert result.exit_code == 1
    assert result.output.endswith(f"1 differences:\n  {line}\n")


def test_every_loss_counts_to_the_last_bit(rerun, outputs):
    alter(
        outputs,
        "UPDATE metrics SET row = :row WHERE line = 1",
        row='{"step": 2, "loss": 1.0000000000000002, "lr": 0.1}',
    )
    assert "row 1 (step 2) loss: 1.0000000000000002, now 1.0" in rerun().output
    alter(outputs, "DELETE FROM metrics WHERE line = 1")
    assert "rows: 2, now 3" in rerun().output


def test_what_differs_every_time_does_not_count(rerun, outputs):
    row = '{"step": 1, "loss": 2.0, "lr": 0.1, "system/cpu": 0.5}'
    alter(outputs, "UPDATE metrics SET row = :row WHERE line = 0", row=row)
    assert rerun().exit_code == 0


def test_only_the_first_differences_are_shown(rerun, outputs):
    row = {"step": 1, "loss": 2.0, "lr": 0.1} | {f"loss/{n}": 1.0 for n in range(12)}
    alter(outputs, "UPDATE metrics SET row = :row WHERE line = 0", row=json.dumps(row))
    output = rerun().output
    assert "12 differences, the first 10:" in output
    assert "loss/9: 1.0, now None" in output
    assert "loss/10" not in output


def test_what_an_older_record_does_not_have_is_not_compared(rerun, outputs):
    stored = next(iter(outputs.view.results().values()))
    alter(outputs, "UPDATE results SET result = :text", text=json.dumps({"metrics": stored["metrics"]}))
    assert rerun().exit_code == 0


def test_what_is_not_as_it_was_is_warned_of_first(rerun):
    lines = rerun().output.splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert lines[: len(warnings)] == warnings
    assert any(line.startswith("warning: python: 3 in the record, 3.") for line in warnings)
    assert any(line.startswith("warning: commit: c0ffee in the record") for line in warnings)
    assert any(line.startswith("warning: threads: None in the record, 1 now") for line in warnings)
    assert not any(name in line for line in warnings for name in UNNAMED), "older records had no choice there"


def test_another_number_of_loader_processes_is_warned_of(rerun, outputs):
    text = json.dumps({**next(iter(outputs.view.results().values())), "environment": {"loader_workers": "4"}})
    alter(outputs, "UPDATE results SET result = :text", text=text)
    assert "warning: loader_workers: 4 in the record, 0 now" in rerun().output


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        (None, 8, ("cuda", 5, 8)),
        (None, 2, ("cuda", 5, 1)),
        (None, 0, ("cpu", 0, 8)),
        ("cpu", 8, ("cpu", 0, 8)),
        ("cuda", 8, ("cuda", 5, 8)),
    ],
)
def test_it_is_carried_out_as_it_was_where_the_machine_allows_it(outputs, monkeypatch, device, there, expected):
    was = Execution("cuda", 3, 5, checkpoint_activations=True, deterministic=True)
    outputs.keep_execution(Attempt(outputs.view.cell(1)["cell_hash"], 1), was.to_json(), 8)
    monkeypatch.setattr(gpus, "count", lambda: there)
    found, processes = execution_here(load_record(outputs.view, outputs.view.cell(1)), device)
    assert (found.device, found.loader_workers, processes) == expected
    assert (found.threads, found.checkpoint_activations, found.deterministic) == (3, True, True)


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_trained(rerun, monkeypatch, sweep, tmp_path):
    monkeypatch.setattr(gpus, "count", lambda: 0)
    with pytest.raises(ConfigError, match="GPUs: 1 needed, this machine shows 0"):
        sweep("rerun", 1, "--run", "fake_run:run", "--device", "cuda")
    assert not (tmp_path / "outputs" / "reruns").exists()


def test_other_initial_weights_under_the_name_of_the_record_are_warned_of(rerun, outputs, tmp_path):
    alter(outputs, "UPDATE cells SET config = json_set(config, '$.train.init', 'start.safetensors')")
    with pytest.raises(StorageError, match=r"start\.safetensors: cannot be read \(No such file"):
        rerun()
    assert not (tmp_path / "outputs" / "reruns").exists()
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"first")
    first = fingerprint(start)
    alter(outputs, "UPDATE results SET result = json_set(result, '$.init_fingerprint', :it)", it=first)
    assert "train.init" not in rerun().output
    start.write_bytes(b"second")
    now = fingerprint(start)
    line = f"warning: fingerprint of train.init (start.safetensors): {first} in the record, {now} now"
    assert line in rerun().output.splitlines()


def test_other_class_name_embeddings_under_the_name_of_the_record_are_warned_of(rerun, outputs, tmp_path):
    method = {"name": "tmt_vis", "text": "text.safetensors"}
    alter(outputs, "UPDATE cells SET config = json_set(config, '$.method', json(:it))", it=json.dumps(method))
    text = tmp_path / "text.safetensors"
    text.write_bytes(b"first")
    first = fingerprint(text)
    alter(outputs, "UPDATE results SET result = json_set(result, '$.text_fingerprint', :it)", it=first)
    assert "method.text" not in rerun().output
    text.write_bytes(b"second")
    line = f"warning: fingerprint of method.text (text.safetensors): {first} in the record, {fingerprint(text)} now"
    assert line in rerun().output.splitlines()


@pytest.mark.parametrize(("number", "state"), [(2, "given up"), (3, "pruned"), (4, "running"), (5, "planned")])
def test_only_done_trials_can_be_compared(rerun, number, state, tmp_path):
    with pytest.raises(ConfigError, match=f"trial {number} is {state}, so nothing can be compared"):
        rerun(number)
    assert not (tmp_path / "outputs" / "reruns").exists()


def test_a_config_of_another_version_is_refused(rerun, outputs):
    alter(outputs, 'UPDATE cells SET config = \'{"scale": "smoke", "hyperspace": 1}\' WHERE number = 1')
    with pytest.raises(ConfigError, match=r"config of trial 1: .*hyperspace"):
        rerun()


def test_an_interrupted_rerun_says_how_to_go_on(rerun, monkeypatch):
    def interrupted(*_):
        raise Interrupted("stopped")

    monkeypatch.setattr("fake_run.run", interrupted)
    with pytest.raises(Interrupted, match=r"reruns/1-1: stopped. Fix: the same command begins again, in a new folder"):
        rerun()
