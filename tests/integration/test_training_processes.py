"""Two processes train as one: over gloo, told their places as torchrun does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import logged_rows, tiny_config
from processes import Scenario, even_draws, in_two_processes
from safetensors.torch import load_file
from torch import Tensor

from syncvis.config import RunConfig
from syncvis.data.loader import TrainClips
from syncvis.data.synthetic import SyntheticConfig, write_synthetic
from syncvis.data.ytvis import VideoDataset
from syncvis.methods import build
from syncvis.training.checkpoint import save_weights
from syncvis.training.run import run

# The gradient is clipped far below AdamW's epsilon, where its steps are proportional to it: rounding stays rounding.
# Coarsest maps of 2 x 3 cells and more: a group norm of two numbers turns rounding into gradients.
CHANGES: dict[str, Any] = {
    "data.short_side": [64],
    "train.steps": 3,
    "train.lr": 1.0,
    "train.warmup": 0,
    "train.clip_norm": 1e-9,
    "train.weight_decay": 0,
    "train.backbone_lr_scale": 1,
    "train.checkpoint_every": 10,
}
CONFIG_ERROR, NON_FINITE, INTERRUPTED = 2, 6, 75


@pytest.fixture(scope="module")
def even_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two instances each, both seen in every frame: whatever one divides by, it is the same for each clip."""
    looks = {"objects": (2, 2), "size": (0.4, 0.4), "reentry": 0, "occlusion": 0, "speed": 0, "camera": 0}
    config = SyntheticConfig(train=4, valid=3, test=1, stills=0, frames=4, height=32, width=64, **looks)
    return write_synthetic(tmp_path_factory.mktemp("even") / "data", config, 0)


@pytest.fixture(scope="module")
def uneven_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny videos, the second of them without instances."""
    root = tmp_path_factory.mktemp("uneven")
    (root / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
    (root / "valid.json").write_bytes((tiny_data / "valid.json").read_bytes())
    tree = json.loads((tiny_data / "train.json").read_text())
    empty = tree["videos"][1]["id"]
    tree["annotations"] = [a for a in tree["annotations"] if a["video_id"] != empty]
    (root / "train.json").write_text(json.dumps(tree))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Noisy weights: fresh ones sample maps exactly at the borders of cells, where the gradient jumps."""
    torch.manual_seed(1)
    model = build(tiny_config(), 6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_weights(path, model, {})
    return str(path)


@pytest.fixture(scope="module")
def even(even_data: Path, start: str) -> RunConfig:
    return tiny_config(CHANGES | {"train.batch_size": 4, "train.init": start}, even_data)


@pytest.fixture(scope="module")
def uneven(uneven_data: Path, start: str) -> RunConfig:
    return tiny_config(CHANGES | {"train.eval_every": 2, "train.init": start}, uneven_data)


@pytest.fixture(scope="module")
def together(
    even: RunConfig, uneven: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[tuple[int, str]]]]:
    """The folder of all runs in two processes, and per run the exit code and output of both."""
    folder = tmp_path_factory.mktemp("together")
    for name, config in {"even": even, "uneven": uneven}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def words(config: str, out: str, *more: str) -> tuple[str, ...]:
        return (str(folder / f"{config}.yaml"), *more, "--out", str(folder / out))

    scenarios = {
        "even": Scenario(words("even", "even")),
        "even, in passes": Scenario(words("even", "passes", "train.accumulate=2")),
        "uneven": Scenario(words("uneven", "uneven")),
        "stopped": Scenario(words("uneven", "stopped"), "SIGTERM", 0),
        "continued": Scenario(words("uneven", "stopped", "--checkpoint-activations")),
        "frozen": Scenario(words("uneven", "frozen", "train.trained=[decoder]")),
        "odd": Scenario(words("uneven", "odd", "train.batch_size=3")),
        "nan": Scenario(words("uneven", "nan"), "nan", 2),
    }
    first, second = in_two_processes(list(scenarios.values()))
    return folder, dict(zip(scenarios, map(list, zip(first, second, strict=True)), strict=True))


def _clips(config: RunConfig) -> TrainClips:
    dataset = VideoDataset.load(Path(config.data.root), "train.json")
    return TrainClips(dataset, config.data, config.train.batch_size, config.seed)


def _weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model.safetensors")


def _assert_same_training(together: Path, alone: Path, start: str | None) -> None:
    """The same losses per step and the same way of the weights; rounding alone moves them by up to 1e-5."""
    for found, wanted in zip(logged_rows(together), logged_rows(alone), strict=True):
        # A rounding can open a cell of an attention mask: little for a loss, more for the norm of the gradient.
        assert found.pop("gradient_norm", 0) == pytest.approx(wanted.pop("gradient_norm", 0), rel=2e-3)
        assert found == pytest.approx(wanted, rel=1e-5)
    assert start is not None
    before, found, wanted = load_file(start), _weights(together), _weights(alone)
    assert max((wanted[name] - before[name]).abs().max().item() for name in before) > 1e-2
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=3e-5)


def _alone(config: RunConfig, out: Path, **train: int) -> Path:
    with even_draws():
        run(config.model_copy(update={"train": config.train.model_copy(update=train)}), out)
    return out


def test_parts_that_do_not_learn_stay_bit_equal(
    together: tuple[Path, dict[str, list[tuple[int, str]]]], start: str
) -> None:
    folder, ended = together
    assert [code for code, _ in ended["frozen"]] == [0, 0]
    before, after = load_file(start), _weights(folder / "frozen")
    moved = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == {"decoder"}
    parameters = json.loads((folder / "frozen" / "result.json").read_text())["parameters"]
    assert parameters["total"] == parameters["decoder"] > 0 == parameters["backbone"]
    assert parameters["frozen"] > 0


def test_the_even_clips_are_even(even: RunConfig) -> None:
    targets = [target for step in range(3) for target in _clips(even).batch(step).targets]
    assert all(len(target.labels) == 2 and target.present.all() for target in targets)


def test_both_processes_succeed_and_the_first_one_speaks(together: Any) -> None:
    _, ends = together
    for name in ("even", "even, in passes", "uneven", "continued"):
        (first, text), (second, silence) = ends[name]
        assert (first, second, silence) == (0, 0, ""), text
        assert [line.startswith("initial weights") for line in text.splitlines()] == [True, False, False]


@pytest.mark.parametrize(("out", "accumulate"), [("even", 1), ("even", 2), ("passes", 1)])
def test_two_processes_equal_one(together: Any, even: RunConfig, tmp_path: Path, out: str, accumulate: int) -> None:
    """Both with half of the batch, at once or in passes; alone with the whole batch, or its halves in passes."""
    alone = _alone(even, tmp_path / "alone", accumulate=accumulate)
    _assert_same_training(together[0] / out, alone, even.train.init)


def test_two_processes_equal_one_where_only_one_has_instances(together: Any, uneven: RunConfig, tmp_path: Path) -> None:
    counts = [[len(t.labels) for t in _clips(uneven).batch(step).targets] for step in range(3)]
    assert any(0 in step for step in counts)
    _assert_same_training(together[0] / "uneven", _alone(uneven, tmp_path / "alone"), uneven.train.init)


def test_a_signal_to_one_process_stops_both_and_both_continue(together: Any) -> None:
    folder, ends = together
    assert [code for code, _ in ends["stopped"]] == [INTERRUPTED] * 2
    assert [text.count("stopped after step 1.") for _, text in ends["stopped"]] == [1, 0]
    assert logged_rows(folder / "stopped") == logged_rows(folder / "uneven")
    found, wanted = _weights(folder / "stopped"), _weights(folder / "uneven")
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def test_the_first_process_writes_one_run_folder(together: Any) -> None:
    folder, _ = together
    names = {"config.yaml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "overlays", "result.json"}
    assert {path.name for path in (folder / "uneven").iterdir()} - {"source"} == names  # of code that is not committed
    result = json.loads((folder / "uneven" / "result.json").read_text())
    assert result["environment"]["processes"] == "2"
    assert [row["step"] for row in result["history"]] == [2, 3]
    assert len(result["per_video"]) == 2
    steps = [row["step"] for row in logged_rows(folder / "uneven")]
    assert steps == [1, 2, 2, 3, 3]  # with the evaluations after steps 2 and 3


def test_clips_that_cannot_be_shared(together: Any) -> None:
    (first, text), (second, silence) = together[1]["odd"]
    assert (first, second, silence) == (CONFIG_ERROR, CONFIG_ERROR, "")
    assert text.startswith("error: train.batch_size: 3 clips cannot be shared by 2 processes in 1 passes. Fix: ")
    assert text.count("\n") == 1
    assert not (together[0] / "odd").exists()


def test_a_loss_that_is_not_finite_in_one_process_ends_both(together: Any) -> None:
    (first, text), (second, silence) = together[1]["nan"]
    assert (first, second, silence) == (NON_FINITE, NON_FINITE, "")
    assert "is not finite at step 2" in text
    assert [row["step"] for row in logged_rows(together[0] / "nan") if "loss" in row] == [1, 2]
