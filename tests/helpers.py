"""What several test files share: tiny configs, models, batches and outputs with chosen predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syncvis.config import RunConfig, resolve, set_dotted
from syncvis.losses.criterion import Criterion
from syncvis.losses.mask_losses import FrameSums, all_pairs
from syncvis.losses.views import Points, Supervision
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.outputs import ClipOutput, LayerOutput, LevelOutput
from syncvis.structures import ClipBatch, ClipTarget, Level, Window

REAL = Path(
    os.environ.get("SYNCVIS_REAL_VIS", Path(__file__).resolve().parents[2] / "shared" / "data" / "real-vis-mini")
)
"""Six short real videos in YouTube-VIS format, which are not part of the repository."""
NUM_CLASSES = 3
TINY: dict[str, Any] = {
    "data": {"root": "unused", "frames": 3, "frame_range": 4, "short_side": [32], "test_short_side": 32},
    "model": {
        "hidden_dim": 32,
        "mask_dim": 16,
        "backbone": {"width": 8},
        "pixel_decoder": {"layers": 1, "heads": 2, "points": 2, "ffn_dim": 32},
        "decoder": {"layers": 3, "heads": 2, "ffn_dim": 32, "frame_queries": 5, "video_queries": 4},
    },
    "sync": {"num_selected": 2, "momentum": 0.3},
    "subclips": {"size": 2},
    "criterion": {"points": 16},
    "train": {"steps": 6, "batch_size": 2, "lr": 1e-3, "warmup": 2, "log_every": 1, "checkpoint_every": 2},
}
"""Frame and video queries, hidden and mask width differ in number, so that a mix-up does not fit."""

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "mask2former_vis": {"structure": "auto"},
    "vita": {"clip_queries": 6, "encoder_layers": 2, "decoder_layers": 2, "window": 2, "branches": 2},
    "tmt_vis": {"text": "learned", "width": 6, "selected": 2},
}
"""What a method needs besides its name to be built at the tiny size, with and without modules."""

MODULES: dict[str, dict[str, Any]] = {
    "none": {"sync": None, "subclips": None},
    "+SVFM": {"sync": TINY["sync"], "subclips": None},
    "+SEO": {"sync": None, "subclips": TINY["subclips"]},
    "+both": {"sync": TINY["sync"], "subclips": TINY["subclips"]},
}
"""The two modules of SyncVIS on a base method."""

STRUCTURES: dict[str, dict[str, Any]] = {
    "synchronous": {},
    "cascade": {"method.structure": "cascade", "sync": None},
    "frame_only": {"method.structure": "frame_only", "sync": None, "subclips": None},
    "video_only": {"method.structure": "video_only", "sync": None},
}


def tiny_config(changes: Mapping[str, Any] | None = None, root: str | Path = "unused") -> RunConfig:
    """The tiny config with some dotted keys changed."""
    tree = set_dotted(TINY, "data.root", str(root))
    for key, value in (changes or {}).items():
        tree = set_dotted(tree, key, value)
    return resolve(tree, "tiny")


def logged_rows(out: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl without what differs from one run of a config to the next."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("system/")} for line in lines]


def tiny_model(changes: Mapping[str, Any] | None = None, noise: float = 0.1, seed: int = 0) -> Mask2FormerVIS:
    """A tiny model; noise on all parameters lets those that start at zero take part."""
    torch.manual_seed(seed)
    model = build(tiny_config(changes), NUM_CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def method_changes(method: str) -> dict[str, Any]:
    """The changes to the tiny config that choose a base method, without modules."""
    return {"method": {"name": method} | METHOD_SETTINGS.get(method, {}), **MODULES["none"]}


def method_model(method: str, changes: Mapping[str, Any], seed: int = 0) -> Method:
    """A tiny model of any method; noise on all parameters lets those that start at zero take part."""
    torch.manual_seed(seed)
    model = build(tiny_config(method_changes(method) | dict(changes)), NUM_CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_batch(num_frames: int, instances: Sequence[int] = (2,), seed: int = 0) -> ClipBatch:
    """Clips of 32 x 64 pixels with random boxes as instances; the first instance is seen in the first frame only."""
    generator = torch.Generator().manual_seed(seed)
    height, width = 32, 64
    images = torch.rand(len(instances), num_frames, 3, height, width, generator=generator)
    valid = torch.ones(len(instances), num_frames, height, width, dtype=torch.bool)
    targets = []
    for count in instances:
        masks = torch.zeros(count, num_frames, height, width, dtype=torch.bool)
        for g in range(count):
            for t in range(1 if g == 0 else num_frames):
                top, left = (int(torch.randint(0, n, (), generator=generator)) for n in (20, 50))
                masks[g, t, top : top + 12, left : left + 14] = True
        labels = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
        targets.append(ClipTarget(labels, torch.arange(count), masks))
    return ClipBatch(images, valid, tuple(targets))


def predict(model: Method, batch: ClipBatch) -> ClipOutput:
    return model.decode(model.encode(batch.images, batch.valid))


def named_tensors(output: ClipOutput) -> dict[str, Tensor]:
    """Class and mask logits of every prediction, by name."""
    named = {}
    for name, level in output.named().items():
        named |= {f"{name}.class": level.class_logits, f"{name}.mask": level.mask_logits}
    return named


def level_output(level: Level, class_logits: Tensor, mask_logits: Tensor) -> LevelOutput:
    """Chosen predictions: class logits and mask logits as :class:`LevelOutput` lays them out for the level."""
    features = mask_logits if level == "frame" else mask_logits.transpose(1, 2)
    queries = features.shape[2]
    eye = torch.eye(queries, dtype=features.dtype).expand(*class_logits.shape[:-2], -1, -1)
    return LevelOutput(level, eye, class_logits, eye, features, features)


def single_output(level: LevelOutput) -> ClipOutput:
    """A pass of one layer with one level."""
    layer = LayerOutput(frame=level) if level.level == "frame" else LayerOutput(video=level)
    return ClipOutput((layer,))


@dataclass(frozen=True)
class Everywhere:
    """A source of points: the same (P, 2) for matching and for every mask."""

    points: Tensor

    def matching(self, num_clips: int, device: torch.device) -> list[Tensor]:
        return [self.points.expand(num_clips, -1, -1)]

    def losses(self, logits: Tensor) -> Tensor:
        return self.points.expand(len(logits), -1, -1)


def criterion_losses(
    criterion: Criterion,
    output: ClipOutput,
    targets: Sequence[ClipTarget],
    windows: Sequence[Window],
    points: Points | None = None,
) -> dict[str, Tensor]:
    """The losses of both levels of an output."""
    return criterion.levels(output, Supervision(targets, points or criterion.points), windows)[0]


def pair_sums(logits: Tensor, targets: Tensor) -> FrameSums:
    """logits (M, Q, T, P) and targets (M, G, T, P) -> sums of all pairs, (M, Q, G, T)."""
    clips = [
        FrameSums.stack([all_pairs(x[:, t].T, y[:, t]) for t in range(x.shape[1])])
        for x, y in zip(logits, targets, strict=True)
    ]
    return FrameSums.stack(clips, dim=0)
