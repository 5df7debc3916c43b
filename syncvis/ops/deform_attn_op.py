"""Multi-scale deformable attention as an operator of PyTorch, for GPUs: Triton kernels, shapes and a gradient.

As an operator it passes through fake tensors (the dry run), checkpointing, autocast and ``torch.compile``. Only the
inputs are kept for the backward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from syncvis.ops.deform_attn_levels import sample_by_level

DEVICES = ("cuda",)
"""Types of devices that the kernels are for (ROCm is "cuda" too)."""

TRITON = find_spec("triton") is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernels(device: torch.device) -> bool:
    """Whether the kernels run on a device: tried once, but for a count or a trace Triton need only be installed."""
    if device.type not in DEVICES or not TRITON:
        return False
    return detect_fake_mode() is not None or _tried(device)


@cache
def _tried(device: torch.device) -> bool:
    """Run both kernels on a few numbers, and compare with ``grid_sample``; a failure warns with its cause.

    Triton also needs a C compiler (for its launcher), Python's headers and a GPU that is not too old for it.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            _compare(device)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"deformable attention uses grid_sample, slower: Triton fails here ({cause})", stacklevel=2)
        return False
    return True


def _compare(device: torch.device) -> None:
    """Raise AssertionError if output and gradients are not those of ``grid_sample``."""
    shapes, generator = ((3, 5), (2, 1)), torch.Generator().manual_seed(0)
    sizes = (2, 17, 2, 8), *[(2, 9, 2, 2, 2)] * 3, (2, 9, 16)
    *inputs, gradient = (torch.rand(size, generator=generator).to(device) for size in sizes)
    value, x, y, weights = (tensor.requires_grad_() for tensor in inputs)
    kernels = sample(value, [size for shape in shapes for size in shape], x, y, weights)
    by_level = sample_by_level(value, shapes, x, y, weights)
    found = [[output, *torch.autograd.grad(output, inputs, gradient)] for output in (kernels, by_level)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@torch.library.custom_op(
    "syncvis::deformable_attention",
    mutates_args=(),
    schema="(Tensor value, SymInt[] shapes, Tensor x, Tensor y, Tensor weights) -> Tensor",
)
def sample(value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of values sampled bilinearly, see :func:`syncvis.ops.deform_attn.deformable_attention`.

    Args:
        value: (N, S, heads, D) of any floating type; the result has the same. Sums are float32 at least.
        shapes: h and w of each level, flat.
        x, y, weights: (N, R, heads, levels, points), each of a floating type of its own: half precision is not enough
            for places.

    Returns:
        (N, R, heads * D).
    """
    from syncvis.ops import deform_attn_kernels

    _require_matching(value, shapes, x, y, weights)
    return deform_attn_kernels.forward(value, shapes, x, y, weights)


@torch.library.custom_op(
    "syncvis::deformable_attention_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor value, SymInt[] shapes, Tensor x, Tensor y, Tensor weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def sample_backward(
    gradient: Tensor, value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, x, y and weights, each shaped and typed like its tensor.

    Raises:
        RuntimeError: Deterministic algorithms are asked for: the order of the sums in the first is not fixed.
    """
    from syncvis.ops import deform_attn_kernels

    _alert_not_deterministic()
    return deform_attn_kernels.backward(gradient, value, shapes, x, y, weights)


def _alert_not_deterministic() -> None:
    """What PyTorch's own operators do, in the same words."""
    if torch.are_deterministic_algorithms_enabled():
        message = "syncvis::deformable_attention_backward does not have a deterministic implementation"
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError(f"{message}, but you set 'torch.use_deterministic_algorithms(True)'")
        warnings.warn(message, stacklevel=2)


def _require_matching(value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor) -> None:
    """Raise RuntimeError where the kernels would read beside the tensors."""
    clips, length, heads, _ = value.shape
    cells = sum(height * width for height, width in zip(shapes[::2], shapes[1::2], strict=True))
    torch._check(cells == length, lambda: f"values have {length} cells, their levels {cells}")
    wanted = (clips, x.shape[1], heads, len(shapes) // 2, x.shape[4])
    for tensor in (x, y, weights):
        for size, other in zip(tensor.shape, wanted, strict=True):
            torch._check(size == other, lambda: "x, y and weights must all be (N, R, heads, levels, points)")


@sample.register_fake
def _(value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    _require_matching(value, shapes, x, y, weights)
    return value.new_empty(*x.shape[:2], value.shape[2] * value.shape[3])


@sample_backward.register_fake
def _(
    gradient: Tensor, value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (value, x, y, weights))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.shapes, x, y, weights = inputs
    ctx.save_for_backward(value, x, y, weights)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    value, x, y, weights = ctx.saved_tensors
    in_value, in_x, in_y, in_weights = sample_backward(gradient, value, ctx.shapes, x, y, weights)
    return in_value, None, in_x, in_y, in_weights


sample.register_autograd(_gradients, setup_context=_keep)
