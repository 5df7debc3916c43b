from __future__ import annotations

import numpy as np
import pytest
import torch

from syncvis.config import CropConfig, DataConfig
from syncvis.data.segmentations import runs_of_ones
from syncvis.data.transforms import ClipTransform, Grid, SlidingCrop, resized
from syncvis.ops.masks import encode

Size = tuple[int, int]

CROP = CropConfig(probability=1.0, short_side=(40, 50), size=(24, 48))


@pytest.mark.parametrize(
    ("size", "short_side", "max_size", "expected"),
    [
        ((720, 1280), 360, 1333, (360, 640)),
        ((1280, 720), 360, 1333, (640, 360)),
        ((720, 1280), 360, 600, (338, 600)),  # 360 / 640 * 600 = 337.5, halves go up
        ((720, 1280), 512, 768, (432, 768)),  # 512 x 910.2 is too long: 512 * 768 / 910.2
        ((480, 854), 360, 1333, (360, 641)),  # 854 * 0.75 = 640.5
        ((854, 480), 360, 1333, (641, 360)),
        ((640, 480), 448, 768, (597, 448)),  # 597.33
        ((96, 64), 64, 1333, (96, 64)),
        ((100, 100), 480, 1333, (480, 480)),
        ((100, 100), 480, 333, (333, 333)),
        ((10, 1000), 2, 100, (1, 100)),
        ((1, 1000), 4, 100, (1, 100)),  # 0.1 would round to no pixel at all
    ],
)
def test_sizes_are_those_of_detectron2(size: Size, short_side: int, max_size: int, expected: Size) -> None:
    """ResizeShortestEdge.get_output_shape: the short side first, then the bound of the long one, halves rounded up."""
    assert resized(size, short_side, max_size) == expected
    assert ClipTransform(short_side, max_size).size(*size) == expected


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
    drawn = {ClipTransform.draw(config, (40, 60), rng) for _ in range(60)}
    assert drawn == {ClipTransform(side, 77, flip) for side in (32, 48) for flip in (False, True)}
    never = config.model_copy(update={"flip": 0.0})
    assert not any(ClipTransform.draw(never, (40, 60), rng).flip for _ in range(30))


def _draw_crops(size: Size, num_frames: int, count: int = 200) -> list[SlidingCrop]:
    rng = np.random.default_rng(1)
    return [SlidingCrop.draw(CROP, size, num_frames, rng) for _ in range(count)]


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (720, 1280), (8, 300), (1, 1)], ids=str)
def test_windows_lie_in_the_image(size: Size) -> None:
    for crop in _draw_crops(size, 5):
        assert crop.resize in {resized(size, side, 1333) for side in CROP.short_side}
        for axis in range(2):
            side = crop.resize[axis]
            assert min(side, 24) <= crop.window[axis] <= min(side, 48)
            assert all(0 <= corner[axis] <= side - crop.window[axis] for corner in crop.corners)


def test_windows_cover_all_sizes_and_places() -> None:
    crops = _draw_crops((40, 60), 5)
    assert {crop.window[0] for crop in crops} >= set(range(24, 41))
    assert any(corner[1] == 0 for crop in crops for corner in crop.corners)
    assert any(corner[1] == crop.resize[1] - crop.window[1] > 0 for crop in crops for corner in crop.corners)


def test_windows_slide_along_a_line_in_both_directions() -> None:
    directions = set()
    for crop in _draw_crops((400, 600), 6):
        steps = np.diff(np.array(crop.corners), axis=0)
        assert (steps >= 0).all() or (steps <= 0).all()
        first, last = np.array(crop.corners[0]), np.array(crop.corners[-1])
        directions.add(int(np.sign((last - first).sum())))
        longest = np.abs(last - first).max()
        for corner in np.array(crop.corners):  # off the line by no more than the rounding of both ends
            way = np.abs(corner - first).max() / max(longest, 1)
            assert (np.abs(first + way * (last - first) - corner) <= 1.5).all()
    assert directions >= {-1, 1}


def test_a_crop_is_a_function_of_the_generator_and_has_its_probability() -> None:
    config = DataConfig(root="", short_side=(32, 48), frames=3, crop=CROP.model_copy(update={"probability": 0.25}))

    def draw(count: int) -> list[ClipTransform]:
        rng = np.random.default_rng(7)
        return [ClipTransform.draw(config, (40, 60), rng) for _ in range(count)]

    assert draw(20) == draw(20)
    assert 0.2 < np.mean([transform.crop is not None for transform in draw(1000)]) < 0.3
    assert all(len(t.crop.corners) == 3 for t in draw(20) if t.crop)


def test_a_clip_without_crop_is_drawn_as_ever() -> None:
    """Short side, then flip: a crop takes its numbers after them."""
    plain = DataConfig(root="", short_side=(32, 48), frames=3)
    for seed in range(20):
        both = [
            ClipTransform.draw(config, (40, 60), np.random.default_rng(seed))
            for config in (plain, plain.model_copy(update={"crop": CROP}))
        ]
        assert (both[0].short_side, both[0].flip) == (both[1].short_side, both[1].flip)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(40, 60), (10, 14), (90, 50)], ids=str)
def test_cropped_images_and_masks_move_together(size: Size, seed: int) -> None:
    """A white rectangle per frame, at another place in each: its mask stays on it to within a blurred edge."""
    rng = np.random.default_rng(seed)
    masks = torch.zeros(1, 4, *size, dtype=torch.bool)
    for t in range(4):
        top, left = int(rng.integers(size[0] // 2)), int(rng.integers(size[1] // 2))
        masks[0, t, top : top + size[0] // 2, left : left + size[1] // 2] = True
    frames = masks[0][:, None].expand(-1, 3, -1, -1).to(torch.uint8) * 255
    config = DataConfig(root="", frames=4, short_side=(32, 64), max_size=100, crop=CROP)
    transform = ClipTransform.draw(config, size, rng)
    assert transform.crop is not None
    images, moved = transform.images(frames), transform.masks(masks)
    assert (
        images.shape[-2:]
        == moved.shape[-2:]
        == transform.size(*size)
        == resized(transform.crop.window, transform.short_side, 100)
    )
    sure = (images[:, 0] - 0.5).abs() > 0.45
    assert torch.equal((images[:, 0] > 0.5)[sure], moved[0][sure])
    assert sure.float().mean() > 0.5


def test_a_crop_cuts_the_window_of_each_frame() -> None:
    frames = torch.arange(2 * 10 * 12, dtype=torch.uint8).reshape(2, 1, 10, 12)
    cut = SlidingCrop((10, 12), (4, 5), ((0, 7), (6, 1))).cut(frames)
    assert torch.equal(cut[0], frames[0, :, 0:4, 7:12])
    assert torch.equal(cut[1], frames[1, :, 6:10, 1:6])


def test_a_crop_of_a_clip_without_instances() -> None:
    transform = ClipTransform(20, 100, crop=SlidingCrop((40, 60), (20, 20), ((0, 0), (3, 5))))
    assert transform.masks(torch.zeros(0, 2, 80, 120).bool()).shape == (0, 2, 20, 20)


@pytest.mark.parametrize("size", [(9, 13), (18, 26), (31, 17), (1, 40), (40, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_painted_runs_are_the_pixels_that_a_grid_keeps(size: tuple[int, int], flip: bool) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.resize((18, 26), size)
    grid = Grid(grid.rows, grid.columns[::-1]) if flip else grid
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = rng.random((18, 26)) < share
        mask[:, : rng.integers(26)] = False
        runs = runs_of_ones([(encode(mask), "a mask")], 18, 26)
        out = np.zeros(size, bool)
        grid.paint(*runs[0], (18, 26), out)
        assert (out == grid(mask)).all()
