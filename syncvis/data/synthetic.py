"""Synthetic videos in YouTube-VIS format: small moving objects, exact masks, dials for difficulty.

Every video is a pure function of (config, seed, split, index): a data set written again is byte-identical.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from syncvis.config import Fraction, Natural, NonNegative, Positive, Section
from syncvis.data.appearance import SHAPES, TEXTURES, Array, category_parts, rgb
from syncvis.errors import DataError, StorageError
from syncvis.ops import masks as rle

GENERATOR_VERSION = 1
MARKER = "synthetic.json"
MIN_VISIBLE_PIXELS = 12

Range = tuple[float, float]
Masks = NDArray[np.bool_]


class SyntheticConfig(Section):
    """How many videos, how large, and how hard.

    Lengths are fractions of the frame height, so one config means the same difficulty at every resolution.
    """

    train: Positive = Field(120, description="videos in train.json")
    valid: Positive = 40
    test: Positive = 40
    stills: Natural = Field(1500, description="one-frame videos in stills.json, for pre-training on images")
    height: Annotated[int, Field(ge=16)] = 64
    width: Annotated[int, Field(ge=16)] = 96
    frames: Positive = Field(8, description="frames per video")
    categories: Annotated[int, Field(ge=1, le=len(SHAPES) * len(TEXTURES))] = 6
    objects: tuple[Positive, Positive] = Field((1, 4), description="fewest and most objects in a video")
    size: Range = Field((0.3, 0.58), description="smallest and largest diameter of an object")
    occlusion: Fraction = Field(0.3, description="chance that an object's path crosses another object")
    lookalikes: Fraction = Field(0.3, description="chance that an object copies another one, and how closely")
    reentry: Fraction = Field(0.2, description="chance that an object leaves the frame and comes back")
    speed: NonNegative = Field(0.05, description="mean distance an object travels per frame")
    crowding: Fraction = Field(0.2, description="chance of the most objects, and how close they stay")
    camera: NonNegative = Field(0.02, description="distance the camera pans per frame")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> SyntheticConfig:
        for name in ("objects", "size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: the first number must be above 0 and not above the second")
        return self


@dataclass(frozen=True)
class Look:
    """What stays the same about an object over its video; ``radius`` and ``period`` are in pixels."""

    label: int
    hue: float
    saturation: float
    value: float
    radius: float
    aspect: float
    period: float
    phase: float


@dataclass(frozen=True)
class Motion:
    """Where an object is: centre (T, 2) as x, y in pixels, rotation (T,) in radians, and scale (T,)."""

    centre: Array
    angle: Array
    scale: Array


@dataclass(frozen=True)
class Scene:
    """A finished video.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        masks: (G, T, H, W) bool, the visible pixels of each object.
        labels: G class indices.
    """

    frames: NDArray[np.uint8]
    masks: Masks
    labels: tuple[int, ...]


def write_synthetic(root: Path, config: SyntheticConfig, seed: int) -> Path:
    """Write a data set (train, valid, test, stills) into ``root``, or return at once if it is already there.

    The folder appears complete or not at all, so that several workers may ask for it at the same time.

    Raises:
        DataError: ``root`` holds something else, or the same kind of data from another config or seed.
        StorageError: It cannot be written.
    """
    identity = {"generator": GENERATOR_VERSION, "seed": seed, "config": config.model_dump(mode="json")}
    root = Path(root)
    if _already_written(root, identity):
        return root
    draft = _make_draft(root)
    try:
        for index, split in enumerate(("train", "valid", "test", "stills")):
            _write_split(draft, split, index, config, seed)
        (draft / MARKER).write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        draft.rename(root)
    except OSError as error:
        if not _already_written(root, identity):
            fix = "free disk space or choose another folder"
            raise StorageError(f"cannot be written ({error.strerror})", file=root, fix=fix) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def _make_draft(root: Path) -> Path:
    """An empty folder next to ``root``, so that it can be renamed to it."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        draft.chmod(0o755)
    except OSError as error:
        fix = "choose a folder that can be written to"
        raise StorageError(f"cannot be made ({error.strerror})", file=root, fix=fix) from None
    return draft


def _already_written(root: Path, identity: dict[str, Any]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    marker = root / MARKER
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        problem = "the folder holds something else than a finished synthetic data set"
        raise DataError(problem, file=root, fix="choose an empty folder") from None
    if found != identity:
        problem = "the folder holds synthetic data of another config, seed or generator version"
        raise DataError(problem, file=marker, fix="choose another folder, or delete this one")
    return True


def _write_split(root: Path, split: str, split_index: int, config: SyntheticConfig, seed: int) -> None:
    length = 1 if split == "stills" else config.frames
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(getattr(config, split)):
        rng = np.random.default_rng(np.random.SeedSequence((seed, split_index, index)))
        scene = draw_scene(config, length, rng)
        video = _video_entry(f"{split}_{index:05d}", index + 1, scene)
        _write_frames(root, video["file_names"], scene.frames)
        videos.append(video)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            annotations.append(_annotation_entry(len(annotations) + 1, video["id"], label, mask))
    tree = {
        "info": {"description": f"synthetic videos, split {split}", "version": str(GENERATOR_VERSION)},
        "licenses": [],
        "videos": videos,
        "categories": [{"id": i + 1, "name": " ".join(category_parts(i))} for i in range(config.categories)],
        "annotations": annotations,
    }
    (root / f"{split}.json").write_text(json.dumps(tree) + "\n", encoding="utf-8")


def _video_entry(name: str, video_id: int, scene: Scene) -> dict[str, Any]:
    length, height, width, _ = scene.frames.shape
    file_names = [f"{name}/{t:05d}.png" for t in range(length)]
    return {"id": video_id, "width": width, "height": height, "length": length, "file_names": file_names}


def _write_frames(root: Path, file_names: list[str], frames: NDArray[np.uint8]) -> None:
    paths = [root / "JPEGImages" / name for name in file_names]
    paths[0].parent.mkdir(parents=True)
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path, compress_level=1)


def _annotation_entry(annotation_id: int, video_id: int, label: int, masks: Masks) -> dict[str, Any]:
    length, height, width = masks.shape
    segmentations = [rle.encode(mask) if mask.any() else None for mask in masks]
    return {
        "id": annotation_id,
        "video_id": video_id,
        "category_id": label + 1,
        "iscrowd": 0,
        "width": width,
        "height": height,
        "length": length,
        "segmentations": segmentations,
        "bboxes": [None if s is None else [float(x) for x in rle.bbox(s)] for s in segmentations],
        "areas": [None if s is None else rle.area(s) for s in segmentations],
    }


def draw_scene(config: SyntheticConfig, length: int, rng: np.random.Generator) -> Scene:
    """Draw one video of ``length`` frames; objects that are never visible are left out of it."""
    looks = _draw_looks(config, rng)
    pan = _draw_pan(config, length, rng)
    motions = _draw_motions(config, looks, pan, rng)
    frames = _background(config, pan, rng)
    masks = np.zeros((len(looks), length, config.height, config.width), bool)
    for depth in rng.permutation(len(looks)):
        inside, colour, alpha = _render(looks[depth], motions[depth], config)
        frames += alpha[..., None] * (colour - frames)
        masks &= ~inside
        masks[depth] = inside
    frames += rng.normal(0, 0.012, frames.shape)
    masks &= (masks.sum((2, 3)) >= MIN_VISIBLE_PIXELS)[:, :, None, None]
    kept = [i for i, mask in enumerate(masks) if mask.any()]
    pixels = np.round(frames.clip(0, 1) * 255).astype(np.uint8)
    return Scene(pixels, masks[kept], tuple(looks[i].label for i in kept))


def _draw_looks(config: SyntheticConfig, rng: np.random.Generator) -> list[Look]:
    fewest, most = config.objects
    count = most if rng.random() < config.crowding else int(rng.integers(fewest, most + 1))
    looks: list[Look] = []
    for _ in range(count):
        if looks and rng.random() < config.lookalikes:
            looks.append(_lookalike(looks[int(rng.integers(len(looks)))], config, rng))
        else:
            looks.append(_draw_look(int(rng.integers(config.categories)), config, rng))
    return looks


def _draw_look(label: int, config: SyntheticConfig, rng: np.random.Generator) -> Look:
    radius = config.height * rng.uniform(*config.size) / 2
    return Look(
        label=label,
        hue=(label / config.categories + rng.uniform(-0.2, 0.2) / config.categories) % 1,
        saturation=rng.uniform(0.65, 0.95),
        value=rng.uniform(0.7, 1.0),
        radius=radius,
        aspect=float(np.exp(rng.uniform(-0.25, 0.25))),
        period=config.height * rng.uniform(0.1, 0.14),
        phase=rng.random(),
    )


def _lookalike(original: Look, config: SyntheticConfig, rng: np.random.Generator) -> Look:
    """An object of the same class that differs from ``original`` the less, the higher the dial."""
    other, part = _draw_look(original.label, config, rng), 1 - config.lookalikes
    names = ("saturation", "value", "radius", "aspect", "period", "phase")
    mixed = {name: getattr(original, name) * (1 - part) + getattr(other, name) * part for name in names}
    turn = (other.hue - original.hue + 0.5) % 1 - 0.5
    return replace(original, hue=(original.hue + part * turn) % 1, **mixed)


def _draw_pan(config: SyntheticConfig, length: int, rng: np.random.Generator) -> Array:
    """(T, 2) camera displacement in pixels: a steady pan with a slow sway."""
    direction, sway = rng.uniform(0, 2 * np.pi, 2)
    t = np.arange(length)
    heading = direction + 0.6 * np.sin(0.7 * t + sway)
    steps = config.camera * config.height * np.stack([np.cos(heading), np.sin(heading)], 1)
    pan: Array = np.cumsum(steps, 0) - steps[0]
    return pan


def _draw_motions(config: SyntheticConfig, looks: list[Look], pan: Array, rng: np.random.Generator) -> list[Motion]:
    spots = _spread_spots(config, len(looks), rng)
    motions: list[Motion] = []
    for look, spot in zip(looks, spots, strict=True):
        meeting, place = int(rng.integers(len(pan))), spot
        if motions and rng.random() < config.occlusion:
            partner = motions[int(rng.integers(len(motions)))]
            place = partner.centre[meeting] + rng.normal(0, 0.45 * look.radius, 2)
        motions.append(_draw_motion(config, look, place, meeting, pan, rng))
    return [_leave_and_return(m, look, config, rng) for m, look in zip(motions, looks, strict=True)]


def _spread_spots(config: SyntheticConfig, count: int, rng: np.random.Generator) -> Array:
    """(G, 2) points far from one another; crowding draws them together."""
    extent = np.array([config.width, config.height], float)
    points = rng.uniform(0.15, 0.85, (1, 2)) * extent
    for _ in range(count - 1):
        candidates = rng.uniform(0.12, 0.88, (12, 2)) * extent
        distance = np.linalg.norm(candidates[:, None] - points, axis=-1).min(1)
        points = np.concatenate([points, candidates[[distance.argmax()]]])
    spots: Array = points + 0.5 * config.crowding * (points.mean(0) - points)
    return spots


def _draw_motion(
    config: SyntheticConfig, look: Look, place: Array, meeting: int, pan: Array, rng: np.random.Generator
) -> Motion:
    """A straight path through ``place`` at frame ``meeting``, reflected where the centre would leave."""
    time = np.arange(len(pan), dtype=float) - meeting
    heading, speed = rng.uniform(0, 2 * np.pi), config.speed * config.height * rng.uniform(0.5, 1.5)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    centre = place + velocity * time[:, None] - (pan - pan[meeting])
    margin = 0.6 * look.radius
    low, high = np.array([margin, margin]), np.array([config.width - margin, config.height - margin])
    spin, growth = rng.normal(0, 0.12), rng.normal(0, 0.02)
    return Motion(
        centre=_reflect(centre, low, high),
        angle=rng.uniform(0, 2 * np.pi) + spin * time,
        scale=np.exp(np.clip(growth * time, -0.3, 0.3)),
    )


def _reflect(x: Array, low: Array, high: Array) -> Array:
    span = np.maximum(high - low, 1e-6)
    phase = np.mod(x - low, 2 * span)
    inside: Array = low + np.minimum(phase, 2 * span - phase)
    return inside


def _leave_and_return(motion: Motion, look: Look, config: SyntheticConfig, rng: np.random.Generator) -> Motion:
    """With the chance ``config.reentry``, push the object over the nearest border for some middle frames."""
    length = len(motion.centre)
    if length < 3 or rng.random() >= config.reentry:
        return motion
    away = int(rng.integers(1, max(2, length // 3 + 1)))
    first = int(rng.integers(1, length - away))
    since = np.maximum(first - np.arange(length), np.arange(length) - (first + away - 1))
    amount = np.clip(1 - 0.5 * since, 0, 1) * (since < length)
    amount[[0, -1]] *= 0.5
    extent = np.array([config.width, config.height], float)
    gaps = np.concatenate([motion.centre[first], extent - motion.centre[first]])
    side = int(gaps.argmin())
    push = np.zeros(2)
    push[side % 2] = (gaps[side] + 2.5 * look.radius) * (-1 if side < 2 else 1)
    return replace(motion, centre=motion.centre + amount[:, None] * push)


def _background(config: SyntheticConfig, pan: Array, rng: np.random.Generator) -> Array:
    """(T, H, W, 3) grey, slightly tinted waves that move against the camera."""
    x = np.arange(config.width) + pan[:, 0, None]
    y = np.arange(config.height) + pan[:, 1, None]
    field = np.zeros((len(pan), config.height, config.width))
    for amplitude in (0.10, 0.08, 0.05, 0.04, 0.02):
        kx, ky = rng.normal(0, 2 * np.pi / config.height * 0.05 / amplitude, 2)
        phase = rng.uniform(0, 2 * np.pi)
        field += amplitude * np.cos(kx * x[:, None, :] + ky * y[:, :, None] + phase)
    level, tint = rng.uniform(0.35, 0.6), rng.uniform(-0.06, 0.06, 3)
    return (level + field)[..., None] * (1 + tint)


def _render(look: Look, motion: Motion, config: SyntheticConfig) -> tuple[Masks, Array, Array]:
    """The pixels inside (T, H, W) bool, the colour (T, H, W, 3) and the coverage (T, H, W) of one object."""
    y, x = np.mgrid[: config.height, : config.width] + 0.5
    dx = x - motion.centre[:, 0, None, None]
    dy = y - motion.centre[:, 1, None, None]
    cos, sin = (f(motion.angle)[:, None, None] for f in (np.cos, np.sin))
    scale = motion.scale[:, None, None]
    along, across = (cos * dx + sin * dy) / scale, (cos * dy - sin * dx) / scale
    texture, shape = category_parts(look.label)
    stretch = np.sqrt(look.aspect)
    distance = look.radius * SHAPES[shape](along / (look.radius * stretch), across * stretch / look.radius)
    light = TEXTURES[texture](along / look.period + look.phase, across / look.period + look.phase)
    bright = rgb(look.hue, look.saturation, look.value)
    colour = bright * (0.4 + 0.6 * light[..., None])
    return distance > 0, colour, np.clip(distance + 0.5, 0, 1)
