"""Frames per second of our clips against a mapper in Mask2Former-VIS' way, and against reading JPEG files alone.

The mapper is our own plain code of what mask2former_video/data_video/dataset_mapper.py does through detectron2: it
copies the annotations of the whole video, resizes with PIL, decodes every mask at full size and resizes it. What its
model does later, padding and joining a batch, counts for us and not for it.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from syncvis.config import CropConfig, DataConfig
from syncvis.data.frames import FrameReader
from syncvis.data.loader import TrainClips, clip_target, read_frames
from syncvis.data.sampling import SAMPLERS
from syncvis.data.transforms import ClipTransform, resized
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.structures import Frames

pytestmark = [  # of pycocotools, and of torch for what PIL gives
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
]

VIDEOS, FRAMES, INSTANCES, HEIGHT, WIDTH = 3, 8, 4, 720, 1280
CLIPS = 4
CROP = CropConfig(probability=1.0)
RECIPES = {
    "mask2former_vis": DataConfig(root="", frames=2, sampling="replacement", short_side=(360,)),
    "syncvis": DataConfig(root="", frames=5, sampling="replacement", short_side=(400,), max_size=768, crop=CROP),
}


def write_videos(root: Path, videos: int = VIDEOS, frames: int = FRAMES, instances: int = INSTANCES) -> VideoDataset:
    """Blurred noise with grain, and discs as instances; frames are read from the files each time."""
    rng = np.random.default_rng(0)
    entries, annotations = [], []
    for v in range(1, videos + 1):
        names = [f"{v}/{t:05d}.jpg" for t in range(frames)]
        (root / "JPEGImages" / str(v)).mkdir(parents=True)
        for name in names:
            _picture(rng).save(root / "JPEGImages" / name, quality=90)
        entries.append({"id": v, "height": HEIGHT, "width": WIDTH, "length": frames, "file_names": names})
        for _ in range(instances):
            track = {"id": len(annotations) + 1, "video_id": v, "category_id": 1, "iscrowd": 0}
            annotations.append({**track, "segmentations": [_disc(rng) for _ in range(frames)]})
    tree = {"videos": entries, "categories": [{"id": 1, "name": "disc"}], "annotations": annotations}
    (root / "train.json").write_text(json.dumps(tree))
    dataset = VideoDataset.load(root, "train.json")
    assert isinstance(dataset.frames, FrameReader)
    dataset.frames.cache_bytes = 0
    return dataset


def _picture(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 255, (45, 80, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-8, 8, smooth.shape)).clip(0, 255).astype(np.uint8))


def _disc(rng: np.random.Generator) -> dict[str, Any]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (y - rng.integers(HEIGHT)) ** 2 + (x - rng.integers(WIDTH)) ** 2 < 120**2
    rle = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


class PlainMapper:
    """One clip, frame by frame and instance by instance."""

    def __init__(self, dataset: VideoDataset) -> None:
        self.root = dataset.source.parent / "JPEGImages"
        self.dicts = {video.id: self._dict(video) for video in dataset.videos}

    def _dict(self, video: Video) -> dict[str, Any]:
        annotations = [
            [
                {"id": track.id, "category_id": track.label, "segmentation": track.segmentations[t]}
                for track in video.tracks
                if track.has_mask(t)
            ]
            for t in range(len(video))
        ]
        return {"file_names": list(video.file_names), "annotations": annotations}

    def __call__(self, video: Video, frames: Frames, transform: ClipTransform) -> list[Any]:
        entry = copy.deepcopy(self.dicts[video.id])
        return [self._frame(entry, t, place, transform) for place, t in enumerate(frames)]

    def _frame(self, entry: dict[str, Any], t: int, place: int, transform: ClipTransform) -> Any:
        with Image.open(self.root / entry["file_names"][t]) as image:
            pixels = np.asarray(image.convert("RGB"))
        moved = _moved(pixels, place, transform, Image.Resampling.BILINEAR)
        tensor = torch.as_tensor(np.ascontiguousarray(moved.transpose(2, 0, 1)))
        annotations = [copy.deepcopy(annotation) for annotation in entry["annotations"][t]]
        masks = [
            _moved(coco.decode(annotation["segmentation"]), place, transform, Image.Resampling.NEAREST)
            for annotation in annotations
        ]
        bitmaps = torch.stack([torch.from_numpy(np.ascontiguousarray(mask)) for mask in masks]).bool()
        return tensor, bitmaps, _boxes(bitmaps), torch.tensor([annotation["category_id"] for annotation in annotations])


def _moved(pixels: NDArray[np.uint8], place: int, transform: ClipTransform, mode: Image.Resampling) -> Any:
    crop = transform.crop
    if crop is not None:
        (top, left), (height, width) = crop.corners[place], crop.window
        pixels = _pil_resize(pixels, crop.resize, mode)[top : top + height, left : left + width]
    size = resized(pixels.shape[:2], transform.short_side, transform.max_size)
    pixels = _pil_resize(pixels, size, mode)
    return np.flip(pixels, 1) if transform.flip else pixels


def _pil_resize(pixels: NDArray[np.uint8], size: tuple[int, int], mode: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), mode))


def _boxes(bitmaps: torch.Tensor) -> torch.Tensor:
    boxes = torch.zeros(len(bitmaps), 4)
    for g, (x, y) in enumerate(zip(bitmaps.any(1), bitmaps.any(2), strict=True)):
        across, down = torch.where(x)[0], torch.where(y)[0]
        if len(across) and len(down):
            boxes[g] = torch.as_tensor([across[0], down[0], across[-1] + 1, down[-1] + 1])
    return boxes


def frames_per_second(work: list[Callable[[], object]], frames: int, repeats: int = 3) -> float:
    """The best of some runs over all clips."""
    for one in work[:2]:
        one()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        for one in work:
            one()
        seconds.append(time.process_time() - started)
    return len(work) * frames / min(seconds)


def draw_clips(dataset: VideoDataset, config: DataConfig, clips: int) -> list[tuple[Video, Frames, ClipTransform]]:
    """Videos, frames and transforms as our clips draw them."""
    rng = np.random.default_rng(0)
    sample = SAMPLERS[config.sampling]
    drawn = []
    for clip in range(clips):
        video = dataset.videos[clip % len(dataset.videos)]
        frames = sample(len(video), config.frames, config.frame_range, rng)
        drawn.append((video, frames, ClipTransform.draw(config, (HEIGHT, WIDTH), rng)))
    return drawn


def speeds(dataset: VideoDataset, config: DataConfig, clips: int = CLIPS) -> dict[str, float]:
    """Frames per second, one thread each: of ours, of the plain mapper, and of reading JPEG files alone."""
    ours, plain = TrainClips(dataset, config, batch_size=1, seed=0), PlainMapper(dataset)
    drawn = draw_clips(dataset, config, clips)
    work: dict[str, list[Callable[[], object]]] = {
        "ours": [lambda clip=clip: ours.batch(clip) for clip in range(clips)],  # type: ignore[misc]
        "plain": [lambda args=args: plain(*args) for args in drawn],  # type: ignore[misc]
        "jpeg": [lambda v=v, f=f: [dataset.read_frame(v, t) for t in f] for v, f, _ in drawn],  # type: ignore[misc]
    }
    return {name: frames_per_second(calls, config.frames) for name, calls in work.items()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    return write_videos(tmp_path_factory.mktemp("jpeg"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_make_the_same_clips(dataset: VideoDataset, recipe: str) -> None:
    for video, frames, transform in draw_clips(dataset, RECIPES[recipe], 3):
        images, masks, _, _ = zip(*PlainMapper(dataset)(video, frames, transform), strict=True)
        ours = transform.pixels(read_frames(dataset, video, frames))
        assert (torch.stack(images).int() - ours.int()).abs().max() <= 3
        target = clip_target(video, frames, transform)
        theirs = torch.stack(masks, 1)
        assert (theirs[theirs.flatten(1).any(1)] != target.masks).float().mean() < 0.002


@pytest.mark.parametrize("recipe", RECIPES)
def test_clips_are_fast(dataset: VideoDataset, recipe: str) -> None:
    """A guard with room for noise: at least one and a half times a plain mapper, twice without the reading of files.

    On a quiet machine it is 3.7 times for SyncVIS' clips and 2.5 times for Mask2Former-VIS', where more than half of
    the time is the reading of JPEG files (README).
    """
    found = speeds(dataset, RECIPES[recipe])
    print(recipe, {name: round(value) for name, value in found.items()}, round(found["ours"] / found["plain"], 2))
    ours, plain = (1 / found[name] - 1 / found["jpeg"] for name in ("ours", "plain"))
    assert found["ours"] > 1.5 * found["plain"]
    assert ours < plain / 2
