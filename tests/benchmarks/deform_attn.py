"""Deformable attention alone on a GPU: the Triton kernels against ``grid_sample``, at the sizes of the recipes.

    python tests/benchmarks/deform_attn.py

prints a Markdown table of one call on the frames of one training clip; without a GPU, one line. Both paths get the same
inputs in turn, and have to agree before they are timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from syncvis.config import load_config
from syncvis.ops import deform_attn, deform_attn_op
from syncvis.training.cost import training_size

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"
NAMES = ("mask2former_vis_ytvis_2019_r50", "syncvis_ytvis_2019_r50", "syncvis_ytvis_2019_swin_l", "syncvis_ovis_r50")
STRIDES = (32, 16, 8)

Shapes = Sequence[tuple[int, int]]
Sample = Callable[[Tensor, Shapes, Tensor, Tensor, Tensor], Tensor]


class Case(NamedTuple):
    """What is read: every cell reads 4 places of every level, as the encoder does."""

    name: str
    frames: int
    shapes: Shapes
    heads: int = 8
    dim: int = 32
    points: int = 4
    dtype: torch.dtype = torch.float32


class Row(NamedTuple):
    """The least of several times, and the memory beside the inputs at its highest (0 on the CPU)."""

    case: Case
    path: str
    forward: float
    """Milliseconds."""
    both: float
    """Milliseconds of forward and backward together."""
    mebibytes: float


def kernels(value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """The operator, whatever :func:`deformable_attention` would choose."""
    return deform_attn_op.sample(value, [size for shape in shapes for size in shape], x, y, weights)


PATHS: Mapping[str, Sample] = {"kernels": kernels, "grid_sample": deform_attn.sample_by_level}


def recipe_cases(names: Sequence[str] = NAMES) -> Iterator[Case]:
    """Of each recipe, the frames of a clip at the training size of 16:9; values float32 (as trained) and bfloat16."""
    for name in names:
        config = load_config(RECIPES / f"{name}.yaml")
        height, width = training_size(config)
        shapes = [(height // stride, width // stride) for stride in STRIDES]
        for dtype in (torch.float32, torch.bfloat16):
            yield Case(name, config.data.frames, shapes, dtype=dtype)


def compare(case: Case, device: torch.device, paths: Mapping[str, Sample] = PATHS, rounds: int = 10) -> list[Row]:
    """Time and memory of each path.

    Raises:
        AssertionError: Two paths differ by more than rounding, in the output or a gradient.
    """
    inputs = _inputs(case, device)
    runs = {name: partial(_both, path, case, inputs) for name, path in paths.items()}
    first, *others = [run() for run in runs.values()]
    for other in others:
        _assert_same(first, other, case)
    forward = _fastest([partial(_forward, path, case, inputs) for path in paths.values()], device, rounds)
    both = _fastest(list(runs.values()), device, rounds)
    memory = [_memory(run, device) for run in runs.values()]
    return [Row(case, *row) for row in zip(paths, forward, both, memory, strict=True)]


def _inputs(case: Case, device: torch.device) -> list[Tensor]:
    """Value, x, y and weights; places lie some cells around the reading cell, as in training."""
    torch.manual_seed(0)
    cells = sum(h * w for h, w in case.shapes)
    layout = (case.frames, cells, case.heads, len(case.shapes), case.points)
    centres = torch.cat([_centres(h, w) for h, w in case.shapes]).view(1, cells, 1, 1, 1, 2)
    sizes = torch.tensor([(w, h) for h, w in case.shapes]).view(1, 1, 1, -1, 1, 2)
    x, y = (centres + torch.randn(*layout, 2) * 2 / sizes).unbind(-1)
    weights = torch.rand(layout).flatten(3).softmax(-1).view(layout)
    value = torch.randn(case.frames, cells, case.heads, case.dim, dtype=case.dtype)
    return [t.contiguous().to(device).requires_grad_() for t in (value, x, y, weights)]


def _centres(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], -1).flatten(0, 1)


def _call(sample: Sample, case: Case, inputs: Sequence[Tensor]) -> Tensor:
    """``grid_sample`` takes one type only: under autocast, as in a training, it converts."""
    value, x, y, weights = inputs
    with torch.autocast(value.device.type, torch.bfloat16, enabled=case.dtype is torch.bfloat16):
        return sample(value, case.shapes, x, y, weights)


@torch.no_grad()
def _forward(sample: Sample, case: Case, inputs: Sequence[Tensor]) -> Tensor:
    return _call(sample, case, inputs)


def _both(sample: Sample, case: Case, inputs: Sequence[Tensor]) -> list[Tensor]:
    output = _call(sample, case, inputs)
    return [output, *torch.autograd.grad(output, inputs, torch.ones_like(output))]


def _assert_same(found: Sequence[Tensor], wanted: Sequence[Tensor], case: Case) -> None:
    tolerance = 1e-4 if case.dtype is torch.float32 else 2e-2
    for name, ours, theirs in zip(("output", "value", "x", "y", "weights"), found, wanted, strict=True):
        difference = (ours.float() - theirs.float()).norm() / theirs.float().norm()
        assert difference < tolerance, f"{case.name}: {name} differs by {difference:.1e} of its norm"


def _fastest(works: Sequence[Callable[[], object]], device: torch.device, rounds: int) -> list[float]:
    """Least milliseconds of each, taken in turn; the first round only warms up."""
    measured: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, times in zip(works, measured, strict=True):
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            times.append(1000 * (time.perf_counter() - started))
    return [min(times[1:]) for times in measured]


def _memory(work: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(rows: Sequence[Row]) -> str:
    """Markdown, a line per case; ratios are ``grid_sample`` to kernels."""
    lines = [
        "| recipe | frames, finest level | values | forward, ms: kernels, grid_sample, ratio | both ways | MiB |",
        "|---|---|---|---|---|---|",
    ]
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        case, (height, width) = ours.case, ours.case.shapes[-1]
        columns = [_ratio(*pair) for pair in zip(ours[2:], theirs[2:], strict=True)]
        kind = str(case.dtype).removeprefix("torch.")
        lines.append(f"| {case.name} | {case.frames}, {height}×{width} | {kind} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours:.2f}, {theirs:.2f}, {theirs / ours:.1f}×" if ours else "–"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="how often each is timed (10)")
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        print("no GPU here: the kernels are for one", file=sys.stderr)
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}\n")
    print(table([row for case in recipe_cases() for row in compare(case, device, rounds=rounds)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
