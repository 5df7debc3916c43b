from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.data.synthetic import SyntheticConfig, write_synthetic
from syncvis.preflight import Look, look

Edit = Callable[[dict[str, Any]], object]
Change = Callable[[str, Edit], None]
LookAt = Callable[..., Look]


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the looks of a test are remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "syncvis" / "looks"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set: 4 training, 2 validation videos of 4 frames of 32 x 48, 2 stills."""
    return write_synthetic(
        tmp_path / "data", SyntheticConfig(train=4, valid=2, test=1, stills=2, frames=4, height=32, width=48), 0
    )


@pytest.fixture
def change(root: Path) -> Change:
    """Edit a JSON file of the data set in place."""

    def edit(name: str, how: Edit) -> None:
        tree = json.loads((root / name).read_text())
        how(tree)
        (root / name).write_text(json.dumps(tree))

    return edit


@pytest.fixture
def look_at(root: Path) -> LookAt:
    """Look at a run on the data set, with some keys of its config changed."""
    return lambda **changes: look(tiny_config({key.replace("__", "."): v for key, v in changes.items()}, root))


@pytest.fixture
def errors(look_at: LookAt) -> Callable[..., list[str]]:
    """What such a look finds wrong."""
    return lambda **changes: [str(problem.error) for problem in look_at(**changes).problems]
