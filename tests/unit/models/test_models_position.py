from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from syncvis.models.position import spatial_code, time_code

CPU = torch.device("cpu")


def _reference(length: int, channels: int) -> NDArray[np.float64]:
    """Sine code of place 1..length scaled to 2 pi: sines and cosines take turns, the wave length grows to 10000."""
    code = np.zeros((length, channels))
    for place in range(length):
        angle = (place + 1) / (length + 1e-6) * 2 * np.pi
        for c in range(channels):
            wave = angle / 10000 ** (2 * (c // 2) / channels)
            code[place, c] = np.sin(wave) if c % 2 == 0 else np.cos(wave)
    return code


@pytest.mark.parametrize(("height", "width", "channels"), [(3, 5, 8), (1, 1, 4), (4, 2, 32)])
def test_spatial_code_is_the_formula(height: int, width: int, channels: int) -> None:
    code = spatial_code(height, width, channels, CPU)
    assert code.shape == (height, width, channels)
    half = channels // 2
    y, x = _reference(height, half), _reference(width, half)
    for row in range(height):
        for column in range(width):
            wanted = np.concatenate([y[row], x[column]])
            np.testing.assert_allclose(code[row, column], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("num_frames", "channels"), [(1, 4), (5, 32)])
def test_time_code_is_the_formula(num_frames: int, channels: int) -> None:
    np.testing.assert_allclose(
        time_code(num_frames, channels, CPU), _reference(num_frames, channels), rtol=0, atol=1e-5
    )
