"""Whether, where and under which identity a run keeps what its frozen encoder computes of frames."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from syncvis.config import DataConfig, OwnMethodSettings, RunConfig
from syncvis.distributed import gather, rank
from syncvis.feature_cache import Counts, FeatureCache
from syncvis.methods.base import Method
from syncvis.methods.masked import MaskedMethod
from syncvis.source.plugins import files_of, sums
from syncvis.training.provenance import environment
from syncvis.training.runtime import Runtime

MAX_VIEWS = 8
"""Ways in which a training may show a frame, up to which its features are worth keeping."""

ENCODER = ("backbone", "pixel_decoder")
CODE = tuple(
    f"syncvis/{name}"
    for name in (
        "models/",
        "ops/",
        "methods/base.py",
        "methods/frozen.py",
        "methods/masked.py",
        "outputs.py",
        "feature_cache.py",
    )
)
"""Where files begin that decide the features of given pixels."""
ARITHMETIC = ("cpu", "device", "driver", "cuda", "cudnn", "threads", "deterministic", "torch", "torchvision")
"""What of a run's environment decides how they are rounded."""

_log = logging.getLogger(__name__)


def open_cache(model: Method, config: RunConfig, runtime: Runtime, device: torch.device) -> FeatureCache | None:
    """Let a model keep features in ``runtime.feature_cache``; None if it cannot.

    Raises:
        StorageError: The folder cannot be written to.
    """
    if runtime.feature_cache is None:
        return None
    cache = FeatureCache(Path(runtime.feature_cache), int(runtime.feature_cache_gib * 2**30))
    if isinstance(model, MaskedMethod) and model.keep_features(cache, lambda: identity(model, config, runtime, device)):
        return cache
    if rank() == 0:
        _log.warning("the feature cache is not used: the encoder of this run learns, or is not the workbench's own")
    return None


def identity(model: nn.Module, config: RunConfig, runtime: Runtime, device: torch.device) -> str:
    """Of all that makes features of pixels, in this process: weights, settings, code and arithmetic."""
    known = environment(runtime, device)
    settings = config.model.model_dump(mode="json", include={"backbone", "pixel_decoder", "hidden_dim", "mask_dim"})
    parts = [settings, _code(config), {name: known.get(name) for name in ARITHMETIC}]
    parts.append({"vector instructions": torch.backends.cpu.get_cpu_capability()})
    found = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, x in _tensors(model):
        found.update(f"{name} {x.dtype} {tuple(x.shape)} ".encode())
        found.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def views(config: DataConfig) -> int | None:
    """In how many ways a training may show a frame, padding included; None where each time is another."""
    cropped = config.crop is not None and config.crop.probability > 0
    if cropped or config.photometric is not None or config.pseudo is not None:
        return None
    sides = len(set(config.short_side))
    # A clip is padded to its own size or to that of a larger one in its batch.
    return (2 if 0 < config.flip < 1 else 1) * sides * (sides + 1) // 2


def are_kept(config: DataConfig) -> bool:
    """Whether the features of training frames are worth keeping: frames come again as they were."""
    found = views(config)
    return found is not None and found <= MAX_VIEWS


def counted(cache: FeatureCache | None) -> dict[str, int]:
    """The counts of all processes together, which all must ask for; empty without a cache."""
    if cache is None:
        return {}
    parts = gather(vars(cache.counts))
    return {name: sum(part[name] for part in parts) for name in vars(Counts())}


def _code(config: RunConfig) -> dict[str, str]:
    """Sums of the files of the encoder, and of those of a method of one's own, which may change it."""
    files = {name: content for name, content in files_of("syncvis").items() if name.startswith(CODE)}
    if isinstance(config.method, OwnMethodSettings):
        for module in config.plugins:
            files |= files_of(module)
    return sums(files)


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers of the encoder, and the buffers of the model itself: mean and deviation of pixels."""
    yield from model.named_buffers(recurse=False)
    for name in ENCODER:
        part = model.get_submodule(name)
        yield from ((f"{name}.{inner}", x) for inner, x in [*part.named_parameters(), *part.named_buffers()])
