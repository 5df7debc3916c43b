"""The operator of GPUs on a machine without one: in Triton's interpreter, compiled, counted, and where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from syncvis.ops import deform_attn_op
from syncvis.ops.deform_attn import DeformableAttention, deformable_attention
from syncvis.training.cost import counting_device

HERE = Path(__file__).parent

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="this torch comes without Triton")
counts_for_cuda = pytest.mark.skipif(counting_device() == "cpu", reason="this torch was built without CUDA")


@needs_triton
@pytest.mark.slow
def test_the_kernels_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "interpreted_deform_attn.py"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


class _Gpu:
    """What Triton asks of a GPU before it compiles; its number is that of no GPU, as Triton remembers by number."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return 1000 + self._capability

    def get_current_stream(self, device: int) -> int:
        return 0


class _Compiled:
    """A kernel that is compiled for its launch, and not launched."""

    def __init__(self, kernel: Any) -> None:
        self._kernel, self.ptx = kernel, ""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def compile_only(*arguments: Any, **options: Any) -> None:
            self.ptx = self._kernel.warmup(*arguments, grid=grid, **options).asm["ptx"]

        return compile_only


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_compiled_for_a_gpu_channels_are_read_and_added_as_vectors(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.runtime import driver

    from syncvis.ops import deform_attn_kernels as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", _Gpu(capability))
    forward, backward = _Compiled(kernels._forward), _Compiled(kernels._backward)
    monkeypatch.setattr(kernels, "_forward", forward)
    monkeypatch.setattr(kernels, "_backward", backward)
    value, places = torch.zeros(2, 40, 8, 32), torch.zeros(2, 33, 8, 2, 4)
    output = kernels.forward(value, [6, 6, 2, 2], places, places, places)
    kernels.backward(output, value, [6, 6, 2, 2], places, places, places)
    assert forward.ptx.count("ld.global.v4.b32") == 8  # 8 channels of 4 cells a thread
    assert backward.ptx.count("ld.global.v4.b32") == 4 + 1  # 4 channels, and the gradient
    added = "red.global.gpu.relaxed.add.v4.f32" if capability == 90 else "red.global.gpu.relaxed.add.f32"
    assert backward.ptx.count(added) == (4 if capability == 90 else 16)


def _inputs(device: str, requires_grad: bool = True) -> dict[str, Tensor]:
    layout = (2, 5, 4, 3, 2)
    sizes = {"value": (2, 23, 4, 8), "x": layout, "y": layout, "weights": layout}
    return {name: torch.rand(size, device=device, requires_grad=requires_grad) for name, size in sizes.items()}


@needs_triton
@counts_for_cuda
def test_counted_for_a_gpu_it_keeps_its_inputs_and_nothing_else() -> None:
    kept: list[Tensor] = []
    with FakeTensorMode(), saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        inputs = _inputs("cuda")
        output = deformable_attention(shapes=[(3, 5), (7, 1), (1, 1)], **inputs)
        assert (output.shape, output.device.type) == ((2, 5, 32), "cuda")
        assert "deformable_attention" in str(output.grad_fn)
        gradients = deform_attn_op.sample_backward(
            output, inputs["value"], [3, 5, 7, 1, 1, 1], *list(inputs.values())[1:]
        )
    assert {id(t) for t in kept} == {id(t) for t in inputs.values()}
    assert [g.shape for g in gradients] == [t.shape for t in inputs.values()]


@needs_triton
@counts_for_cuda
def test_counted_in_half_precision_the_places_stay_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    types: list[torch.dtype] = []

    def sample(value: Tensor, shapes: Any, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        types.extend(t.dtype for t in (value, x, y, weights))
        return operator(value, shapes, x, y, weights)

    operator = deform_attn_op.sample
    monkeypatch.setattr(deform_attn_op, "sample", sample)
    before: Any = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with FakeTensorMode(), torch.device("cuda"):
        attention, tokens = DeformableAttention(8, 2, 1, 2), torch.rand(1, 6, 8)
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.float16)
        try:
            output = attention(tokens, torch.rand(6, 2), tokens, [(2, 3)])
        finally:
            torch.set_autocast_enabled("cuda", before[0])
            torch.set_autocast_dtype("cuda", before[1])
    assert types == [torch.float16, torch.float32, torch.float32, torch.float32]
    assert output.dtype is torch.float16


@needs_triton
def test_where_triton_fails_the_cause_is_told_and_grid_sample_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the interpreter it fails on the CPU, as on a GPU without a C compiler."""
    monkeypatch.setattr(deform_attn_op, "DEVICES", ("cpu",))
    deform_attn_op._tried.cache_clear()
    arguments: Any = {"shapes": [(3, 5), (7, 1), (1, 1)], **_inputs("cpu", requires_grad=False)}
    with pytest.warns(UserWarning, match=r"deformable attention uses grid_sample, slower: Triton fails here \(.+\)"):
        found = deformable_attention(**arguments)
    torch.testing.assert_close(deformable_attention(**arguments), found)  # and does not warn again
    deform_attn_op._tried.cache_clear()


def test_where_triton_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deform_attn_op, "TRITON", False)
    assert not deform_attn_op.has_kernels(torch.device("cuda"))
