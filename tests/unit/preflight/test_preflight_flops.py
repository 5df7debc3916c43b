"""FLOPs that a plan asks for: those of the dry run, counted by another process, once for all that cost the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.config import RunConfig, load_config
from syncvis.preflight import flops as module
from syncvis.preflight.asking import Answer, ask
from syncvis.preflight.classes import CLASSES
from syncvis.preflight.flops import clip_flops
from syncvis.training.count import answer
from syncvis.training.dry_run import dry_run

RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"
LITTLE = ("data.frames=2", "data.short_side=[64]", "model.decoder.layers=3", "model.pixel_decoder.layers=1")


class Counted:
    """What processes were asked, answered in this one: importing torch takes seconds."""

    def __init__(self) -> None:
        self.questions: list[Any] = []

    def __call__(self, _module: str, questions: list[Any], _processes: int, told: Any) -> list[Answer | None]:
        self.questions += questions
        return [answer(RunConfig.model_validate(one["config"]), one["classes"]) for one in questions]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    asked = Counted()
    monkeypatch.setattr(module, "ask", asked)
    return asked


def _tiny(**changes: Any) -> RunConfig:
    return tiny_config({"model.decoder.layers": 1} | {name.replace("__", "."): v for name, v in changes.items()})


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    "recipe",
    [
        "syncvis_ytvis_2019_r50",
        "mask2former_vis_ytvis_2021_swin_l",
        "vita_ovis_r50",
        "syncvis_ctvis_ovis_r50",
        "minvis_ytvis_2019_r50",
    ],
)
def test_a_step_is_that_of_the_dry_run_on_all_its_gpus(recipe: str) -> None:
    """But for what a pass takes beside its clips: of code with one more clip per pass, less than 0.1 %."""
    path = RECIPES / f"{recipe}.yaml"
    config = load_config(path, LITTLE)
    (found,) = clip_flops([config])
    expected = dry_run(config, path)
    assert found is not None
    assert found * config.train.batch_size == pytest.approx(expected.gpus * sum(expected.step_flops.values()), rel=1e-3)


def test_what_changes_no_flops_shares_a_count(counted: Counted) -> None:
    same = [{"seed": 3}, {"train.lr": 0.5}, {"train.steps": 9}, {"train.batch_size": 6}, {"data.ratio": 0.5}]
    same += [{"sync": {"num_selected": n, "momentum": m}} for n, m in ((1, 0.05), (2, 0.5))]
    same += [{"subclips": {"size": n, "factor": n / 4}} for n in (1, 3)]
    configs = [tiny_config({"sync": {"num_selected": 2}, "model.decoder.layers": 1, **change}) for change in same]
    assert len({config.cell_hash for config in configs}) > 1
    found = clip_flops(configs)
    assert (len(counted.questions), len(set(found)), None in found) == (1, 1, False)


@pytest.mark.parametrize(
    "change",
    [{"data__frames": 2}, {"data__short_side": [96]}, {"model__decoder__layers": 2}, {"sync": None}],
    ids=str,
)
def test_what_changes_flops_is_counted_by_itself(counted: Counted, change: dict[str, Any]) -> None:
    before, after = clip_flops([_tiny(), _tiny(**change)])
    assert len(counted.questions) == 2
    assert before != after


def test_classes_are_those_of_the_benchmark_that_the_data_are_named_after(counted: Counted) -> None:
    clip_flops([_tiny(data__root=f"data/{name}/train") for name in CLASSES])
    assert sorted(one["classes"] for one in counted.questions) == [25, 40]


def test_a_count_is_remembered(counted: Counted) -> None:
    configs = [_tiny(), _tiny(data__frames=2)]
    found = clip_flops(configs)
    counted.questions.clear()
    assert clip_flops(configs) == found
    assert counted.questions == []


def test_another_state_of_the_models_is_counted_anew(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '"syncvis/models/decoder.py"' in module._code()
    clip_flops([_tiny()])
    monkeypatch.setattr(module, "_code", lambda: "edited")
    clip_flops([_tiny()])
    assert len(counted.questions) == 2


def test_code_of_ones_own_is_counted_where_it_is_allowed(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _tiny(sync={"aggregation": "not_here:choose"})
    found = clip_flops([own, _tiny()])
    assert found[0] is None
    assert found[1] is not None
    monkeypatch.setattr(module, "allowed", lambda: ("not_here",))
    assert clip_flops([own]) == [None], "it cannot be imported"
    assert len(counted.questions) == 2
    assert answer(own, 3)["problem"].startswith("ConfigError")


def test_a_process_counts_as_this_one_does() -> None:
    config, ticks = _tiny(), list[int]()
    questions = [{"config": config.model_dump(mode="json"), "classes": 40}]
    assert ask(module.MODULE, questions, told=lambda: ticks.append(1)) == [answer(config, 40)]
    assert ticks == [1]


def test_processes_share_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import json, os, sys\nfor q in json.load(sys.stdin): print(json.dumps({'q': q, 'pid': os.getpid()}))"
    (tmp_path / "answering.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    found = ask("answering", list(range(5)), 2)
    assert [one["q"] for one in found if one] == [0, 1, 2, 3, 4]
    assert len({one["pid"] for one in found if one}) == 2
    assert ask("answering", []) == []


@pytest.mark.parametrize(
    ("code", "answers"),
    [
        ("raise SystemExit(1)", [None, None]),
        ("import json, sys\nprint('noise')\nprint(json.dumps({'n': len(json.load(sys.stdin))}))", [{"n": 2}, None]),
    ],
    ids=["dies", "ends early"],
)
def test_a_process_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, answers: list[Answer | None]
) -> None:
    (tmp_path / "answering.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert ask("answering", ["x" * 100_000, "y"]) == answers


def test_the_process_that_asks_imports_no_torch() -> None:
    code = f"""
import sys
from syncvis.config import load_config
from syncvis.preflight import flops
flops.ask = lambda module, questions, *_: [dict(flops=7) for _ in questions]
print(flops.clip_flops([load_config({str(RECIPES / "vita_ovis_r50.yaml")!r})]), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[7]", "False"]
