"""Colours and rotated still images, tested by drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from syncvis.config import CropConfig, DataConfig, PhotometricConfig, PseudoConfig, resolve
from syncvis.data.augment import Photometric, Rotation
from syncvis.data.transforms import ClipTransform
from syncvis.errors import ConfigError
from syncvis.ops.boxes import boxes_of

CROP = CropConfig(probability=1.0, short_side=(60, 80), size=(40, 70))


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_angles_are_sorted_in_both_directions_and_within_bounds() -> None:
    directions = []
    for seed in range(60):
        rotation = Rotation.draw(PseudoConfig(), 5, _rng(seed))
        steps = np.diff(rotation.angles)
        assert (steps > 0).all() or (steps < 0).all()
        assert max(map(abs, rotation.angles)) <= 15
        assert all(0.4 <= place <= 0.6 for place in rotation.center)
        directions.append(steps[0] > 0)
    assert 0.3 < np.mean(directions) < 0.7
    angles = np.array([Rotation.draw(PseudoConfig(), 5, _rng(seed)).angles for seed in range(400)])
    assert abs(angles.mean()) < 1
    assert angles.max() > 14


def test_a_quarter_turn_is_counter_clockwise_around_the_centre() -> None:
    frame = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    frame[..., 2:5, 14:19] = 255  # top right
    turned = Rotation((90.0,), (0.5, 0.5)).images(frame)
    expected = torch.rot90(frame, 1, (-2, -1))
    assert torch.equal(turned, expected)
    mask = expected[:, 0].bool()[None]
    assert torch.equal(Rotation((90.0,), (0.5, 0.5)).masks(frame[:, 0].bool()[None]), mask)


def _scene(size: tuple[int, int], frames: int) -> tuple[Tensor, Tensor]:
    """T equal frames with a red and a green rectangle, and the masks of both."""
    masks = torch.zeros(2, frames, *size, dtype=torch.bool)
    height, width = size
    masks[0, :, height // 8 : 5 * height // 8, width // 6 : 3 * width // 5] = True
    masks[1, :, height // 2 : height - 4, width // 2 : width - 6] = True
    images = torch.zeros(frames, 3, *size, dtype=torch.uint8)
    images[:, 0][masks[0]] = 255
    images[:, 1][masks[1]] = 255
    return images, masks


def _drawn_boxes(channel: Tensor) -> Tensor:
    return boxes_of(channel > 127)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crop", [None, CROP], ids=["whole", "crop"])
def test_images_masks_and_boxes_move_together(seed: int, crop: CropConfig | None) -> None:
    config = DataConfig(
        root="", frames=4, short_side=(48, 90), max_size=150, crop=crop, pseudo=PseudoConfig(rotation=40)
    )
    images, masks = _scene((80, 120), 4)
    transform = ClipTransform.draw(config, (80, 120), _rng(seed), pseudo=True)
    assert transform.rotation is not None
    pixels, moved = transform.pixels(images), transform.masks(masks)
    assert pixels.shape == (4, 3, *transform.size(80, 120))
    for g in range(2):
        value = pixels[:, g].float() / 255
        sure = (value - 0.5).abs() > 0.45
        assert (((value > 0.5) != moved[g]) & sure).sum() <= 0.002 * sure.sum()
        assert sure.float().mean() > 0.5
        both = moved[g].flatten(1).any(1) & (pixels[:, g] > 127).flatten(1).any(1)
        assert both.any()
        assert (boxes_of(moved[g]) - _drawn_boxes(pixels[:, g]))[both].abs().max() <= 2


def test_frames_of_a_pseudo_clip_differ_and_pixels_from_outside_belong_to_no_instance() -> None:
    images, masks = torch.full((2, 3, 40, 60), 200, dtype=torch.uint8), torch.ones(1, 2, 40, 60, dtype=torch.bool)
    transform = ClipTransform(40, 100, rotation=Rotation((-15.0, 10.0), (0.5, 0.5)))
    pixels, moved = transform.pixels(images), transform.masks(masks)
    assert not torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[:, 0] > 100, moved[0])
    assert not moved[0, :, 0, 0].any()


def test_an_instance_that_leaves_a_frame_is_absent_there() -> None:
    masks = torch.zeros(1, 2, 40, 80, dtype=torch.bool)
    masks[0, :, :3, 76:] = True
    moved = ClipTransform(40, 100, rotation=Rotation((0.0, 30.0), (0.5, 0.5))).masks(masks)
    assert moved.flatten(2).any(2).tolist() == [[True, False]]
    assert not boxes_of(moved)[0, 1].any()


def test_one_image_is_resized_once_for_all_its_frames() -> None:
    images, _ = _scene((80, 120), 4)
    for crop in (None, CROP):
        config = DataConfig(root="", frames=4, short_side=(48,), crop=crop, pseudo=PseudoConfig())
        transform = ClipTransform.draw(config, (80, 120), _rng(1), pseudo=True)
        assert torch.equal(transform.pixels(images[:1], [0, 0, 0, 0]), transform.pixels(images))


def test_videos_and_configs_without_pseudo_clips_have_no_rotation() -> None:
    plain, turning = DataConfig(root=""), DataConfig(root="", pseudo=PseudoConfig())
    assert ClipTransform.draw(plain, (40, 60), _rng(), pseudo=True).rotation is None
    assert ClipTransform.draw(turning, (40, 60), _rng(), pseudo=False).rotation is None


COLOURS = torch.tensor([40, 100, 160], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brightness", [20, 50, 80]),
        ("saturation", [64, 94, 124]),  # half way to the grey value 88.9
        ("contrast", [64, 94, 124]),  # the same, since the mean grey value is that of the one colour
    ],
)
def test_each_factor_does_what_it_says(name: str, expected: list[int]) -> None:
    frames = COLOURS[None].repeat(2, 1, 1, 1)
    changed = Photometric(**{name: (1.0, 0.5)})(frames)
    assert torch.equal(changed[0], frames[0])
    assert (changed[1, :, 0, 0].int() - torch.tensor(expected)).abs().max() <= 1
    assert changed.dtype == torch.uint8


@pytest.mark.parametrize("per", ["frame", "clip"])
def test_factors_are_drawn_by_frame_or_by_clip(per: str) -> None:
    config = PhotometricConfig(per=per, contrast=None, brightness=(0.5, 2.0))  # type: ignore[arg-type]
    drawn = Photometric.draw(config, 4, _rng())
    assert drawn.contrast == ()
    assert (len(set(drawn.brightness)), len(drawn.brightness)) == (4 if per == "frame" else 1, 4)
    assert all(0.9 <= factor <= 1.1 for factor in drawn.saturation)
    assert drawn == Photometric.draw(config, 4, _rng())


def test_colours_leave_masks_and_places_alone() -> None:
    images, masks = _scene((80, 120), 3)
    config = DataConfig(root="", frames=3, short_side=(48,), flip=1.0)
    plain = ClipTransform.draw(config, (80, 120), _rng(2))
    darker = PhotometricConfig(brightness=(0.7, 0.7), contrast=None, saturation=None)
    coloured = config.model_copy(update={"photometric": darker})
    changed = ClipTransform.draw(coloured, (80, 120), _rng(2))
    assert (changed.short_side, changed.flip) == (plain.short_side, plain.flip)
    assert torch.equal(changed.masks(masks), plain.masks(masks))
    assert (changed.pixels(images) - 0.7 * plain.pixels(images)).abs().max() <= 1


def test_windows_of_independent_crops_do_not_slide() -> None:
    config = CROP.model_copy(update={"motion": "independent"})
    transforms = [
        ClipTransform.draw(DataConfig(root="", frames=6, crop=config), (200, 300), _rng(seed)) for seed in range(20)
    ]
    crops = [transform.crop for transform in transforms if transform.crop]
    assert len(crops) == 20
    assert any((np.diff([left for _, left in crop.corners]) > 0).any() for crop in crops)
    signs = [np.sign(np.diff([left for _, left in crop.corners])) for crop in crops]
    assert any(1 in sign and -1 in sign for sign in signs)
    for crop in crops:
        assert all(0 <= c[axis] <= crop.resize[axis] - crop.window[axis] for c in crop.corners for axis in (0, 1))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"photometric": {"contrast": [1.2, 0.9]}}, "the lower bound is above the upper one"),
        ({"pseudo": {"center": [0.7, 0.3]}}, "the lower bound is above the upper one"),
        ({"mix": [{"root": "x", "pseudo": True}]}, "data.pseudo is null"),
        ({"mix": [{"root": "x", "ratio": 0}]}, "greater than 0"),
        ({"sampling": "random"}, "distinct"),
    ],
)
def test_wrong_values_are_one_clear_error(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"data": {"root": "x", **data}, "train": {"steps": 1}}, "some.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
