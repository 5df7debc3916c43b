"""A step with a frozen encoder against the same step unfrozen, in one run; docs/performance.md has figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from frozen_steps import step_seconds, write_data


@pytest.mark.parametrize(("system", "bound"), [("Mask2Former-VIS", 0.4), ("SyncVIS", 0.55)])
def test_features_that_were_kept_save_most_of_a_step(tmp_path: Path, system: str, bound: float) -> None:
    write_data(tmp_path / "data")
    found = step_seconds(system, 2, tmp_path / "data", tmp_path / "cache")
    print(system, {kind: round(seconds / found["unfrozen"], 2) for kind, seconds in found.items()})
    assert found["warm"] < bound * found["unfrozen"]
    assert found["frozen"] < 0.95 * found["unfrozen"]
