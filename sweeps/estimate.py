"""Hours of cells at scale paper that nothing alike was measured of: counted FLOPs at the rate that a GPU sustains.

FLOPs are those of the dry run, at the largest training size: forward and backward pass of a clip, times the batch size.

``PUBLISHED`` is the rate of a published training, with its FLOPs counted in the same way: VITA with ResNet-50 on
YouTube-VIS 2019, 140,000 steps of 8 clips of 5 frames (sukjunhwang/VITA, configs/youtubevis_2019/vita_R50_bs8.yaml;
here experiments/recipes/vita_ytvis_2019_r50.yaml). Somebody who trained it writes that it takes 16 hours on 8 A100 of
40 GB (sukjunhwang/VITA, issue 6, 2022-11-24): 2.59 TFLOP a clip x 8 x 140,000 / (8 x 16 x 3600 s) = 6.3 TFLOP/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syncvis.config import RunConfig

TERA = 1e12
PUBLISHED = 6.3
"""TFLOP/s of one A100 with VITA's recipe."""
PUBLISHED_OF = "VITA's R50 training as published, docs/sweeps.md; --tflops sets another"

PEAK = 312.0
"""TFLOP/s of an A100 in half precision, dense (NVIDIA A100 Tensor Core GPU datasheet)."""


@dataclass(frozen=True)
class Done:
    """A cell that was trained: its config, and the seconds that it took, times the processes that trained it."""

    config: RunConfig
    device_seconds: float


@dataclass(frozen=True)
class Estimate:
    """What steps take that were not measured.

    Attributes:
        flops: cell hash -> FLOPs of one training step over the whole batch; without cells that cannot be counted.
        tflops: TFLOP/s that one GPU sustains.
        origin: of that number.
    """

    flops: Mapping[str, int]
    tflops: float
    origin: str

    def seconds(self, config: RunConfig) -> float | None:
        """Of a GPU per training step; None if the step was not counted."""
        flops = self.flops.get(config.cell_hash)
        return None if flops is None else flops / (self.tflops * TERA)


def estimate(wanted: Sequence[RunConfig], done: Sequence[Done], tflops: float | None = None) -> Estimate:
    """Count the steps of the wanted cells.

    Args:
        done: measured cells. They tell the rate of a GPU if ``tflops`` does not; without them it is PUBLISHED.
    """
    from syncvis.preflight.flops import clip_flops  # it brings libraries for pictures and videos

    known = () if tflops else done
    configs = [*wanted, *(one.config for one in known)]
    counts = zip(configs, clip_flops(configs), strict=True)
    flops = {config.cell_hash: n * config.train.batch_size for config, n in counts if n is not None}
    counted = [one for one in known if one.config.cell_hash in flops]
    if tflops:
        return Estimate(flops, tflops, "--tflops")
    if not counted:
        return Estimate(flops, PUBLISHED, PUBLISHED_OF)
    work = sum(flops[one.config.cell_hash] * one.config.train.steps for one in counted)
    rate = work / sum(one.device_seconds for one in counted) / TERA
    return Estimate(
        flops, rate, f"measured on {len(counted)} cell{'s' * (len(counted) > 1)}, all that they did included"
    )
