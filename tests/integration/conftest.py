from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeping import PATH, Place


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A sweep of four cells, or of (values, seeds) as a parameter says, that trains nothing."""
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    values, seeds = getattr(request, "param", (4, 1))
    made = Place(tmp_path, values, seeds)
    yield made
    made.close()
