"""The run config of a rehearsal: what could fail stays, what only takes time shrinks."""

from __future__ import annotations

from itertools import count

from syncvis.config import RunConfig, TrainConfig, resolve, set_dotted
from syncvis.data.mixing import sources_of

STEPS = 2
SHORT_SIDE = 64
"""Pixels of the largest short side: two cells of the coarsest feature map."""
POINTS = 256
MAX_SEEDS = 1000


def rehearsed(config: RunConfig, processes: int = 1, device: str = "cpu") -> RunConfig:
    """The run for a rehearsal: two steps on small frames; whatever else could fail is as it was.

    On the CPU, where fp16 takes minutes a step, bf16 stands for it.

    Args:
        processes: how many train one trial together.
    """
    data, crop = config.data, config.data.crop
    factor = min(1.0, SHORT_SIDE / max(*data.short_side, data.test_short_side))

    def shrunken(*sides: int) -> list[int]:
        return [max(1, round(factor * side)) for side in sides]

    changes = {
        "data.short_side": shrunken(*data.short_side),
        "data.max_size": shrunken(data.max_size)[0],
        "data.test_short_side": shrunken(data.test_short_side)[0],
        "data.test_max_size": shrunken(data.test_max_size)[0],
        "criterion.points": min(config.criterion.points, POINTS),
        "train.steps": STEPS,
        "train.batch_size": _batch_size(config.train, processes, 1 + len(data.mix)),
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.checkpoint_every": STEPS,
    }
    if crop is not None:
        changes |= {"data.crop.short_side": shrunken(*crop.short_side), "data.crop.size": shrunken(*crop.size)}
    if device == "cpu" and config.train.precision == "fp16":
        changes["train.precision"] = "bf16"
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        tree = set_dotted(tree, key, value)
    small = resolve(tree, "rehearsal")
    return small.model_copy(update={"seed": _seed(small)})


def _batch_size(train: TrainConfig, processes: int, sources: int) -> int:
    """The smallest one by which all processes and passes have a clip, and each data set can have one within the steps.

    One that cannot be shared out stays as it is, for the run to refuse.
    """
    parts = processes * train.accumulate
    if train.batch_size % parts:
        return train.batch_size
    return next(size for size in count(parts, parts) if size * STEPS >= sources)


def _seed(config: RunConfig) -> int:
    """The first seed, from the run's own on, by which each data set has a clip, if there is one."""
    data, clips = config.data, STEPS * config.train.batch_size
    ratios = [data.ratio, *(mixed.ratio for mixed in data.mix)]
    seeds = range(config.seed, config.seed + MAX_SEEDS)
    found = (seed for seed in seeds if len(set(sources_of(ratios, seed, clips))) == len(ratios))
    return next(found, config.seed)
