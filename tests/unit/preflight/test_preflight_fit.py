"""Before the first cell: weights that fit no model of a sweep, and what they leave fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.methods import build
from syncvis.preflight import look_at_runs
from syncvis.training.checkpoint import save_weights
from syncvis.training.fit import answer

SMALL = {"model.decoder.layers": 2}


@pytest.fixture
def weights(root: Path, tmp_path: Path) -> Path:
    """Of a model without an exchange, for seven classes that nobody knows."""
    path = tmp_path / "start.safetensors"
    save_weights(path, build(tiny_config({**SMALL, "sync": None}, root), 7), {})
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers without the seconds that another process needs to import torch."""
    monkeypatch.setattr("syncvis.preflight.fit._ask", lambda runs: [answer(*run) for run in runs])


def _runs(root: Path, weights: Path, *changes: dict[str, Any]) -> Any:
    return look_at_runs([tiny_config({**SMALL, "train.init": str(weights), **change}, root) for change in changes])


def test_what_starts_fresh_is_noted_once_for_each_kind_of_model(root: Path, weights: Path) -> None:
    ours = {"sync": {"num_selected": 2}}
    found = _runs(root, weights, ours, {**ours, "seed": 1}, {**ours, "train.lr": 1e-3}, {"sync": None})
    assert found.problems == ()
    head = "class head (7 classes in the file, 6 here)"
    assert found.notes == (
        f"initial weights {weights}: fresh: class head (7 classes in the file, 6 here), exchange (decoder.sync)",
        f"initial weights {weights}: fresh: {head}",
    )


@pytest.mark.usefixtures("in_process")
def test_weights_that_do_not_fit_are_a_problem_of_the_whole_sweep(root: Path, weights: Path) -> None:
    found = _runs(root, weights, {}, {"model.decoder.layers": 3}, {"model.decoder.layers": 3, "seed": 1})
    (problem,) = found.problems
    assert str(problem.error).startswith(f"{weights}: train.init: ")
    assert "decoder" in problem.error.problem


@pytest.mark.usefixtures("in_process")
def test_what_fits_is_not_asked_again(root: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = _runs(root, weights, {}).notes
    monkeypatch.setattr("syncvis.preflight.fit._ask", lambda runs: [pytest.fail("asked again") for _ in runs])
    assert _runs(root, weights, {}).notes == notes


def test_a_process_that_cannot_tell_stops_nothing(root: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncvis.preflight.fit.MODULE", "syncvis.no_such_module")
    assert _runs(root, weights, {}).problems == ()


@pytest.mark.usefixtures("in_process")
def test_a_part_that_is_to_learn_and_is_not_there(root: Path, weights: Path) -> None:
    found = _runs(root, weights, {}, {"train.trained": ["tracker"]}, {"train.trained": ["decoder"]})
    (problem,) = found.problems
    assert problem.what == "train.trained"
    assert str(problem.error).startswith("train.trained: the model has no part tracker. Fix: choose from backbone")


@pytest.mark.usefixtures("in_process")
def test_every_setting_that_shapes_a_model_is_asked_about(
    root: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _runs(root, weights, {})
    asked: list[Any] = []
    monkeypatch.setattr("syncvis.preflight.fit._ask", lambda runs: asked.extend(runs) or [answer(*r) for r in runs])
    others = ({"subclips": None}, {"sync": None}, {"train.trained": ["decoder"]}, {"method.structure": "video_only"})
    _runs(root, weights, {}, {"train.lr": 0.5}, *({"sync": None, **other} for other in others))
    assert len(asked) == len(others)
