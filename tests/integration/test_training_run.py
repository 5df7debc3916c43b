"""The seam ``run``: resuming, killing, workers and failures, on tiny videos."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import STRUCTURES, logged_rows, tiny_config
from safetensors.torch import load_file, save_file

from syncvis.config import RunConfig
from syncvis.errors import ConfigError, DataError, Interrupted, NonFiniteLossError, StorageError
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.source import Source, read_patch
from syncvis.training import provenance as provenance_module
from syncvis.training import run as run_module
from syncvis.training import validation as validation_module
from syncvis.training.checkpoint import save_weights
from syncvis.training.log import MetricsLog
from syncvis.training.result import load_result
from syncvis.training.run import RunResult, Runtime, run

Outcome = tuple[dict[str, torch.Tensor], list[dict[str, float]], dict[str, float], list[dict[str, float]]]


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> RunConfig:
    return tiny_config({"train.eval_every": 3, "eval.topk": 4}, tiny_data)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(config, out)
    return out


def _outcome(out: Path) -> Outcome:
    result = json.loads((out / "result.json").read_text())
    return load_file(out / "model.safetensors"), logged_rows(out), result["metrics"], result["history"]


def _assert_same(found: Outcome, wanted: Outcome) -> None:
    assert found[1:] == wanted[1:]
    assert found[0].keys() == wanted[0].keys()
    assert all(torch.equal(tensor, found[0][name]) for name, tensor in wanted[0].items())


def _after(steps: int) -> Callable[[], bool]:
    """True when asked for the ``steps``-th time."""
    calls: list[int] = []
    return lambda: calls.append(1) or len(calls) >= steps  # type: ignore[func-returns-value]


def test_what_a_run_leaves_behind(config: RunConfig, whole: Path) -> None:
    names = {"config.yaml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "overlays", "result.json"}
    assert {path.name for path in whole.iterdir()} == names
    assert sorted(path.suffix for path in (whole / "overlays").iterdir()) == [".npz", ".npz", ".png", ".png"]
    result = json.loads((whole / "result.json").read_text())
    assert set(result["metrics"]) >= {"AP", "AP50", "AP75", "AR1", "AR10"}
    assert (result["cell_hash"], result["variant_hash"]) == (config.cell_hash, config.variant_hash)
    assert result["steps"] == 6
    assert [row["step"] for row in result["history"]] == [3, 6]
    assert result["config"] == config.model_dump(mode="json")
    assert set(result["tracking"]) == {"switches", "purity", "coverage", "lost"}
    assert result["per_video_tracking"].keys() == result["per_video"].keys()
    assert 0 < result["seconds"]["startup"] < result["seconds"]["total"]
    assert result["environment"]["torch"]
    assert result["environment"]["loader_workers"] == "0"
    assert result["parameters"]["total"] == sum(n for name, n in result["parameters"].items() if name != "total")
    assert yaml.safe_load((whole / "config.yaml").read_text()) == result["config"]
    training = [row for row in logged_rows(whole) if "loss" in row]
    assert [row["step"] for row in training] == [1, 2, 3, 4, 5, 6]
    for row in training:
        terms = [value for name, value in row.items() if name.startswith("loss/")]
        assert len(terms) == 9  # frame, clip and sub-clips; class, mask and dice
        assert sum(terms) == pytest.approx(row["loss"], rel=1e-4)


def test_a_precision_that_the_device_has_not_is_refused_before_the_data_is_looked_at(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(precision: str, device: torch.device) -> None:
        raise ConfigError(f"{precision} on {device}")

    monkeypatch.setattr(run_module, "require_arithmetic", refuse)
    monkeypatch.setattr(run_module, "look", None)
    with pytest.raises(ConfigError, match=r"^float32 on cpu$"):
        run(config, tmp_path / "run")


def test_a_finished_run_is_not_run_again(config: RunConfig, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "train", None)
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    result = run(config, whole)
    assert isinstance(result, RunResult)
    assert result.to_json() == json.loads((whole / "result.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.parametrize("stops", [(3,), (1, 1, 2)], ids=str)
def test_an_interrupted_run_ends_bit_for_bit_the_same(
    config: RunConfig, whole: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    out = tmp_path / "run"
    for steps in stops:
        with pytest.raises(Interrupted, match="run the same command to continue"):
            run(config, out, Runtime(should_stop=_after(steps)))
        assert not (out / "result.json").exists()
    run(config, out)
    _assert_same(_outcome(out), _outcome(whole))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_signal_stops_the_run_with_a_checkpoint(config: RunConfig, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        run(config, tmp_path / "run", Runtime(should_stop=lambda: signal.raise_signal(signal.SIGTERM) or False))  # type: ignore[func-returns-value]
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert signal.getsignal(signal.SIGTERM) is before


KILLED = """
import os, signal, sys
from pathlib import Path
from syncvis.config import load_config
from syncvis.training.run import Runtime, run
calls = []
def kill():
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return False
run(load_config(sys.argv[1]), Path(sys.argv[2]), Runtime(should_stop=kill))
"""


def test_a_killed_run_ends_bit_for_bit_the_same(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    """Killed after step 5, when the last checkpoint is of step 4: the row of step 5 is not there twice."""
    path, out = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(out)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [row["step"] for row in logged_rows(out)][-1] == 5
    with (out / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')  # a line that was being written
    run(config, out)
    _assert_same(_outcome(out), _outcome(whole))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_loader_processes_change_nothing(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    run(config, tmp_path / "run", Runtime(loader_workers=2))
    _assert_same(_outcome(tmp_path / "run"), _outcome(whole))


@pytest.mark.parametrize("option", ["checkpoint_activations", "deterministic"])
def test_how_a_run_is_carried_out_changes_nothing(config: RunConfig, whole: Path, tmp_path: Path, option: str) -> None:
    run(config, tmp_path / "run", Runtime(**{option: True}))
    _assert_same(_outcome(tmp_path / "run"), _outcome(whole))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("evaluation", "steps"), [(1, 3), (2, 6)])
def test_a_run_stopped_in_an_evaluation_ends_bit_for_bit_the_same(
    config: RunConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: int, steps: int
) -> None:
    """After the first of two videos: the evaluation is made again, once."""
    predict, calls = validation_module.predict_one, list[int]()

    def signalled_between(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 * evaluation - 1:
            signal.raise_signal(signal.SIGUSR1)
        return predict(*args)

    monkeypatch.setattr(validation_module, "predict_one", signalled_between)
    with pytest.raises(Interrupted, match="stopped in an evaluation"):
        run(config, tmp_path / "run")
    assert len(calls) == 2 * evaluation - 1
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["progress"]["step"] == steps
    run(config, tmp_path / "run")
    _assert_same(_outcome(tmp_path / "run"), _outcome(whole))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_ends_bit_for_bit_the_same_after_an_interruption(
    config: RunConfig, tmp_path: Path, precision: str
) -> None:
    lower = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    run(lower, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(lower, tmp_path / "run", Runtime(should_stop=_after(3)))
    run(lower, tmp_path / "run")
    _assert_same(_outcome(tmp_path / "run"), _outcome(tmp_path / "whole"))
    scales = [row.get("loss_scale") for row in logged_rows(tmp_path / "run") if "loss" in row]
    assert scales[0] == {"bf16": None, "fp16": 2.0**16}[precision]


def test_passes_that_the_batch_cannot_be_cut_into(config: RunConfig, tmp_path: Path) -> None:
    uncut = config.model_copy(update={"train": config.train.model_copy(update={"accumulate": 4})})
    with pytest.raises(ConfigError, match=r"train\.batch_size: 2 clips cannot be shared by 1 processes in 4 passes"):
        run(uncut, tmp_path / "run")


def test_what_ran_before_in_the_process_changes_nothing(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    torch.rand(7)
    run(config, tmp_path / "run")
    _assert_same(_outcome(tmp_path / "run"), _outcome(whole))


def test_another_seed_is_another_run(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    other = config.model_copy(update={"seed": 1})
    run(other, tmp_path / "run")
    assert _outcome(tmp_path / "run")[1] != _outcome(whole)[1]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_runs(structure: str, tiny_data: Path, tmp_path: Path) -> None:
    placement = {} if structure == "frame_only" else {"subclips.placement": "decode"}
    result = run(tiny_config({"train.steps": 1} | placement | STRUCTURES[structure], tiny_data), tmp_path / "run")
    assert 0 <= result.metrics["AP"] <= 100


def test_a_run_without_steps_evaluates(tiny_data: Path, tmp_path: Path) -> None:
    result = run(tiny_config({"train.steps": 0}, tiny_data), tmp_path / "run")
    assert result.steps == 0
    assert [row["step"] for row in result.history] == [0]


def test_starting_from_weights(config: RunConfig, whole: Path, tiny_data: Path, tmp_path: Path) -> None:
    init = str(whole / "model.safetensors")
    started = tiny_config({"train.init": init, "train.steps": 0}, tiny_data)
    result = run(started, tmp_path / "run")
    assert (result.fresh_parameters, result.initial_weights) == ([], "")
    assert result.init_fingerprint == hashlib.sha256(Path(init).read_bytes()).hexdigest()[:16]
    assert json.loads((whole / "result.json").read_text())["init_fingerprint"] is None
    tensors = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(x, tensors[name]) for name, x in load_file(init).items())


def test_what_starts_fresh_is_said_and_recorded(
    whole: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = load_file(whole / "model.safetensors")
    cut = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.sync.")}
    head = {name: torch.cat([x, x]) if ".class_embed." in name else x for name, x in cut.items()}
    save_file(head, tmp_path / "init.safetensors")
    result = run(tiny_config({"train.init": str(tmp_path / "init.safetensors"), "train.steps": 0}, tiny_data), tmp_path)
    words = "fresh: class head (13 classes in the file, 6 here), exchange (decoder.sync)"
    assert result.initial_weights == words
    assert json.loads((tmp_path / "result.json").read_text())["initial_weights"] == words
    assert caplog.messages == [f"initial weights {tmp_path / 'init.safetensors'}: {words}"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_run(config: RunConfig, whole: Path, tmp_path: Path, finished: bool) -> None:
    out = whole
    if not finished:
        out = tmp_path / "run"
        with pytest.raises(Interrupted):
            run(config, out, Runtime(should_stop=_after(1)))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(StorageError, match="choose another --out"):
        run(config.model_copy(update={"seed": 5}), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_an_output_folder_that_is_a_file(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError, match="file"):
            run(config, out)
    assert (tmp_path / "file").read_text() == "x"


def test_a_loss_that_is_not_finite_names_step_and_term(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = Mask2FormerVIS.losses
    steps: list[int] = []

    def third_is_nan(self: Mask2FormerVIS, batch: Any, **named: Any) -> dict[str, torch.Tensor]:
        found = losses(self, batch, **named)
        steps.append(1)
        return found | ({"clip/layer1/dice": found["clip/layer1/dice"] * float("nan")} if len(steps) == 3 else {})

    monkeypatch.setattr(Mask2FormerVIS, "losses", third_is_nan)
    with pytest.raises(NonFiniteLossError, match=r"clip/layer1/dice is not finite at step 2"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_run_that_diverges(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="not finite at step"):
        run(tiny_config({"train.lr": 1e20, "train.warmup": 0}, tiny_data), tmp_path / "run")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    config: RunConfig, whole: Path, tiny_data: Path, tmp_path: Path, value: float
) -> None:
    model = run_module.build(config, 6)
    model.decoder.stacks[0].heads.mask_embed[0].weight.data[0, 0] = value  # type: ignore[union-attr]
    save_weights(tmp_path / "bad.safetensors", model, {})
    bad = tiny_config({"train.init": str(tmp_path / "bad.safetensors")}, tiny_data)
    with pytest.raises(NonFiniteLossError, match="at step 0"):
        run(bad, tmp_path / "run")


def test_the_log_drops_what_lies_beyond_the_resume_point(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    MetricsLog(path, 2, lambda line, row: None).write({"step": 3, "loss": 1.5})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.5}\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, r"valid\.json: annotations: has no annotated instance"),
        (
            {"categories": None},
            r"valid\.json: categories: differ from those of train\.json: only in valid\.json: 'moon'",
        ),
    ],
)
def test_a_validation_split_that_cannot_be_scored_is_refused_before_training(
    tiny_data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    tree = json.loads((tiny_data / "valid.json").read_text())
    more = [*tree["categories"], {"id": 99, "name": "moon"}]
    change = {key: more if value is None else value for key, value in change.items()}
    (tmp_path / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
    (tmp_path / "train.json").write_bytes((tiny_data / "train.json").read_bytes())
    (tmp_path / "valid.json").write_text(json.dumps({**tree, **change}))
    with pytest.raises(DataError, match=message):
        run(tiny_config({}, tmp_path), tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget a peak of memory")
def test_peak_memory_is_that_of_the_run_not_of_what_the_process_did_before(config: RunConfig, tmp_path: Path) -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    gigabytes = b"x" * (2 * 2**30)
    del gigabytes
    assert run(config, tmp_path / "run").peak_memory_mb < resident + 1024


def test_a_finished_run_is_not_looked_at_again(
    whole: Path, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "look", lambda *_: pytest.fail("the data were looked at"))
    shutil.copytree(whole, tmp_path / "run")
    assert run(config, tmp_path / "run").metrics == load_result(whole, config.cell_hash).metrics  # type: ignore[union-attr]


def test_what_is_good_to_know_is_logged_before_the_first_step(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Classes in another order are found by their names: the result is that of the old order."""
    tree = json.loads((tiny_data / "valid.json").read_text())
    metrics = []
    for name, categories in (("old", tree["categories"]), ("new", tree["categories"][::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
        (tmp_path / name / "train.json").write_bytes((tiny_data / "train.json").read_bytes())
        (tmp_path / name / "valid.json").write_text(json.dumps({**tree, "categories": categories}))
        done = run(tiny_config({"train.steps": 1}, tmp_path / name), tmp_path / name / "run")
        metrics.append((done.metrics, done.per_category))
    assert [record.message.split(": ")[:2] for record in caplog.records] == [
        ["note", str(tmp_path / "new" / "valid.json")]
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_not_committed_stays_with_a_run_that_is_asked_to_keep_it(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    source = Source("c" * 40, "a" * 16, ("syncvis/a.py",), b"the patch\n", ("big.bin: binary",))
    for module in (run_module, provenance_module):
        monkeypatch.setattr(module, "snapshot", lambda plugins=(): source)
    run(config, tmp_path, Runtime(keep_source=kept))
    stored = json.loads((tmp_path / "result.json").read_text())
    assert (stored["commit"], stored["dirty"], stored["diff"], stored["source"]) == (
        "c" * 40,
        True,
        source.diff,
        "a" * 16,
    )
    assert (stored["changed"], stored["left_out"]) == (["syncvis/a.py"], ["big.bin: binary"])
    assert read_patch(tmp_path, stored["diff"]) == (b"the patch\n" if kept else b"")
