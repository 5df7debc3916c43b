from __future__ import annotations

from pathlib import Path

import pytest
import torch

from syncvis.data.synthetic import SyntheticConfig, write_synthetic

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a read-only synthetic data set: 4 train, 2 valid, 1 test video of 4 frames of 32 x 48, 2 stills."""
    config = SyntheticConfig(train=4, valid=2, test=1, stills=2, frames=4, height=32, width=48)
    return write_synthetic(tmp_path_factory.mktemp("data") / "tiny", config, 0)
