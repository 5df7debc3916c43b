from __future__ import annotations

import numpy as np
import pytest
import torch

from syncvis.config import DataConfig
from syncvis.data.transforms import ClipTransform


@pytest.mark.parametrize(
    ("transform", "size", "expected"),
    [
        (ClipTransform(360, 1333), (720, 1280), (360, 640)),
        (ClipTransform(360, 600), (720, 1280), (338, 600)),
        (ClipTransform(64, 1333), (96, 64), (96, 64)),
        (ClipTransform(480, 1333), (100, 100), (480, 480)),
        (ClipTransform(2, 100), (10, 1000), (1, 100)),
    ],
)
def test_size(transform: ClipTransform, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert transform.size(*size) == expected


def _square_clip() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames with one white square each, at different places, and its mask."""
    masks = torch.zeros(1, 2, 40, 60, dtype=torch.bool)
    masks[0, 0, 4:20, 6:22] = True
    masks[0, 1, 20:36, 34:54] = True
    return masks[0][:, None].expand(-1, 3, -1, -1).to(torch.uint8) * 255, masks


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("short_side", [20, 40, 80])
def test_images_and_masks_move_together(short_side: int, flip: bool) -> None:
    frames, masks = _square_clip()
    transform = ClipTransform(short_side, 1333, flip)
    images, moved = transform.images(frames), transform.masks(masks)
    assert images.shape == (2, 3, short_side, short_side * 3 // 2)
    assert (images.dtype, moved.dtype) == (torch.float32, torch.bool)
    assert torch.equal(images[:, 0] > 0.5, moved[0])
    left = moved[0, 0].any(0).nonzero().min()
    scale = short_side / 40
    assert left == (round((60 - 22) * scale) if flip else round(6 * scale))


def test_identity_keeps_every_value() -> None:
    frames = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    torch.testing.assert_close(ClipTransform(32, 100).images(frames), frames / 255)


def test_no_instances_are_no_problem() -> None:
    assert ClipTransform(20, 100, flip=True).masks(torch.zeros(0, 2, 40, 60).bool()).shape == (0, 2, 20, 30)


def test_draw_covers_the_choices() -> None:
    config = DataConfig(root="", short_side=(32, 48), max_size=77, flip=0.5)
    rng = np.random.default_rng(0)
    drawn = {ClipTransform.draw(config, rng) for _ in range(60)}
    assert drawn == {ClipTransform(side, 77, flip) for side in (32, 48) for flip in (False, True)}
    never = config.model_copy(update={"flip": 0.0})
    assert not any(ClipTransform.draw(never, rng).flip for _ in range(30))
