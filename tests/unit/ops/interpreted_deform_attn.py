"""The Triton kernels in Triton's interpreter, on the CPU, against the path of the CPU.

``test_ops_deform_attn_op.py`` runs this file in a process of its own: ``TRITON_INTERPRET=1`` has to be set before
Triton is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from syncvis.ops import deform_attn, deform_attn_kernels, deform_attn_op
from syncvis.ops.deform_attn import DeformableAttention, deformable_attention

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]

LEVELS = [(3, 5), (7, 1), (1, 1)]


def _inputs(
    shapes: Sequence[tuple[int, int]],
    clips: int = 2,
    reads: int = 5,
    heads: int = 1,
    dim: int = 3,
    points: int = 2,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Value, x, y and weights; about a third of the places lie outside."""
    torch.manual_seed(0)
    value = torch.randn(clips, sum(h * w for h, w in shapes), heads, dim, dtype=dtype)
    layout = (clips, reads, heads, len(shapes), points)
    x, y = (torch.rand(layout, dtype=dtype) * 1.4 - 0.2 for _ in range(2))
    return value, x, y, torch.rand(layout, dtype=dtype)


def _kernel(value: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    return deform_attn_op.sample(value, [size for shape in shapes for size in shape], x, y, weights)


def _with_gradients(sample: object, inputs: Inputs, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The output and the gradients of all inputs."""
    value, x, y, weights = (t.detach().requires_grad_() for t in inputs)
    output = sample(value, shapes, x, y, weights)  # type: ignore[operator]
    torch.manual_seed(1)
    projection = torch.randn(output.shape, dtype=torch.double).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, (value, x, y, weights), projection)]


def _assert_same(inputs: Inputs, shapes: Sequence[tuple[int, int]], tolerance: float) -> None:
    found, wanted = (_with_gradients(f, inputs, shapes) for f in (_kernel, deformable_attention))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(1, float(theirs.abs().max())))


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [
        (LEVELS, {"heads": 2}),
        ([(4, 6)], {"points": 1}),
        ([(1, 1)], {"clips": 1, "reads": 1, "dim": 1, "points": 1}),
        ([(5, 3), (9, 6)], {"reads": 33, "dim": 32}),  # a block of 32 reads forward, 16 backward
        ([(2, 3)], {"reads": 2, "dim": 520}),  # one read a block backward
    ],
)
def test_equal_to_the_path_of_the_cpu(shapes: list[tuple[int, int]], sizes: dict[str, int]) -> None:
    _assert_same(_inputs(shapes, **sizes), shapes, 1e-5)
    _assert_same(_inputs(shapes, dtype=torch.double, **sizes), shapes, 1e-12)


def test_gradients_are_the_slopes() -> None:
    value, x, y, weights = (t.requires_grad_() for t in _inputs([(2, 2)], 1, 1, 1, 2, 2, torch.double))
    assert torch.autograd.gradcheck(lambda *t: _kernel(t[0], [(2, 2)], *t[1:]), (value, x, y, weights))


def test_borders_and_places_that_are_none() -> None:
    """Cell centres, edges, the last place that still sees a cell, far away, and not a number; slopes included."""
    cells = torch.tensor([-1.5, -1, -0.5, 0, 1.5, 3, 3.5, 4, 9, 1e30, float("inf"), -float("inf"), float("nan")])
    places = ((cells.double() + 0.5) / 4).repeat(len(cells), 1)
    value, _, _, weights = _inputs([(4, 4)], clips=1, reads=places.numel(), points=1, dtype=torch.double)
    x, y = (p.reshape(1, -1, 1, 1, 1) for p in (places, places.T))
    _assert_same((value, x, y, weights), [(4, 4)], 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("places", [torch.float32, None])
def test_half_precision(dtype: torch.dtype, places: torch.dtype | None) -> None:
    """Sums are float32: the result is that of the same numbers in float32, rounded once."""
    value, x, y, weights = _inputs(LEVELS, reads=40)
    inputs = (value.to(dtype), *(t.to(places or dtype) for t in (x, y, weights)))
    found = _with_gradients(_kernel, inputs, LEVELS)
    exact = tuple(t.float() for t in inputs)
    wanted = _with_gradients(lambda *t: deformable_attention(*t).to(dtype).float(), exact, LEVELS)
    for ours, theirs, given in zip(found, wanted, (inputs[0], *inputs), strict=True):
        assert ours.dtype is given.dtype
        step = torch.finfo(ours.dtype).eps
        torch.testing.assert_close(ours.float(), theirs, rtol=max(step, 1e-5), atol=max(step, 1e-5) * 4)


def test_inputs_with_gaps() -> None:
    inputs = _inputs(LEVELS)
    apart = tuple(torch.stack([t, t], -1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1) for t in inputs)
    assert not any(t.is_contiguous() for t in apart)
    for ours, theirs in zip(
        _with_gradients(_kernel, apart, LEVELS), _with_gradients(_kernel, inputs, LEVELS), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [{"clips": 0}, {"reads": 0}])
def test_nothing_to_read(sizes: dict[str, int]) -> None:
    inputs = _inputs(LEVELS, **sizes)
    output, *gradients = _with_gradients(_kernel, inputs, LEVELS)
    assert output.shape == (*inputs[1].shape[:2], 3)
    assert [g.shape for g in gradients] == [t.shape for t in inputs]
    assert not any(g.any() for g in gradients)


def test_only_sizes_that_belong_together() -> None:
    value, x, y, weights = _inputs(LEVELS)
    with pytest.raises(RuntimeError, match="values have 23 cells, their levels 22"):
        _kernel(value, [(3, 5), (7, 1)], x, y, weights)
    with pytest.raises(RuntimeError, match="x, y and weights must all be"):
        _kernel(value, LEVELS, x, y, weights[:, :4])
    with pytest.raises(RuntimeError, match="x, y and weights must all be"):
        _kernel(value, [(22, 1), (1, 1)], x, y, weights)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck looks at it
def test_it_is_an_operator() -> None:
    """Schema, gradient, fake tensors and a trace with sizes left open."""
    value, x, y, weights = (t.requires_grad_() for t in _inputs([(2, 3)], reads=3, points=1))
    torch.library.opcheck(deform_attn_op.sample, (value, [2, 3], x, y, weights))
    arguments = (torch.randn(2, 3, 3), value.detach(), [2, 3], *(t.detach() for t in (x, y, weights)))
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(deform_attn_op.sample_backward, arguments, test_utils=checks)


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are chosen on the CPU, after they were tried there, and nothing else can be."""
    monkeypatch.setattr(deform_attn_op, "DEVICES", ("cpu",))
    assert deform_attn_op.has_kernels(torch.device("cpu"))
    monkeypatch.setattr(deform_attn, "_SparseSampling", None)
    monkeypatch.setattr(deform_attn, "sample_by_level", None)


@pytest.mark.usefixtures("on_the_cpu")
def test_compiled_for_any_size() -> None:
    compiled = torch.compile(deformable_attention, backend="aot_eager", dynamic=True, fullgraph=True)
    for shapes, reads in (([(3, 5), (7, 2)], 5), ([(4, 2), (2, 6)], 7)):
        inputs = _inputs(shapes, reads=reads)
        for ours, theirs in zip(
            _with_gradients(compiled, inputs, shapes),
            _with_gradients(deformable_attention, inputs, shapes),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def _step(recompute: bool, half: bool) -> list[Tensor]:
    """Output of the module, and gradients of its weights and tokens."""
    torch.manual_seed(0)
    attention = DeformableAttention(dim=8, heads=2, levels=2, points=2)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(2, 10, 8, requires_grad=True)
    arguments = (tokens, torch.rand(10, 2), tokens, [(2, 3), (4, 1)])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = checkpoint(attention, *arguments, use_reentrant=False) if recompute else attention(*arguments)
    return [output, *torch.autograd.grad(output.float().square().sum(), (tokens, *attention.parameters()))]


@pytest.mark.usefixtures("on_the_cpu")
def test_computed_again_under_checkpointing() -> None:
    for again, kept in zip(_step(True, False), _step(False, False), strict=True):
        torch.testing.assert_close(again, kept, rtol=0, atol=0)


@pytest.mark.usefixtures("on_the_cpu")
def test_under_autocast() -> None:
    half, full = _step(False, True), _step(False, False)
    assert half[0].dtype is torch.bfloat16
    assert {g.dtype for g in half[1:]} == {torch.float32}
    for ours, theirs in zip(half, full, strict=True):
        assert (ours.float() - theirs).norm() < 0.05 * theirs.norm()


def test_deterministic_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are not chosen; their gradient is refused, or warned of."""
    monkeypatch.setattr(deform_attn_op, "DEVICES", ("cpu",))
    value, x, y, weights = _inputs(LEVELS)
    arguments = (value.requires_grad_(), LEVELS, x, y, weights)
    output = deformable_attention(*arguments)
    torch.use_deterministic_algorithms(True)
    try:
        assert type(deformable_attention(*arguments).grad_fn) is not type(output.grad_fn)
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation, but you set"):
            output.sum().backward(retain_graph=True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
            output.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_kernels_are_used_where_they_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried once for a device, also inside of ``inference_mode``, and not where an output or a gradient is another."""
    monkeypatch.setattr(deform_attn_op, "DEVICES", ("cpu",))
    deform_attn_op._tried.cache_clear()
    state = torch.get_rng_state()
    with torch.inference_mode():
        assert deform_attn_op.has_kernels(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    deform_attn_op._tried.cache_clear()
    backward = deform_attn_kernels.backward

    def wrong(*arguments: object) -> tuple[Tensor, ...]:
        in_value, in_x, in_y, in_weights = backward(*arguments)
        return in_value, in_x, -in_y, in_weights

    monkeypatch.setattr(deform_attn_kernels, "backward", wrong)
    with pytest.warns(UserWarning, match="Triton fails here"):
        assert not deform_attn_op.has_kernels(torch.device("cpu"))
    deform_attn_op._tried.cache_clear()
