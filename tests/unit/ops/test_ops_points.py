from __future__ import annotations

import pytest
import torch

from syncvis.ops.points import _gather_points, sample_masks, sample_points, uncertain_points


def test_a_pixel_centre_gives_the_pixel() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, dtype=torch.double)
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(5) + 0.5) / 5, indexing="ij")
    points = torch.stack([x, y], -1).flatten(0, 1).double().expand(2, -1, -1)
    torch.testing.assert_close(sample_points(maps, points), maps.flatten(2), rtol=0, atol=1e-6)


def test_between_centres_it_is_bilinear_and_outside_zero() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 9.0]]]])
    points = torch.tensor([[[0.5, 0.25], [0.25, 0.5], [0.5, 0.5], [0.375, 0.25], [0.0, 0.25], [-3.0, 0.5]]])
    wanted = torch.tensor([[[2.0, 3.0, 4.5, 1.5, 0.5, 0.0]]])
    torch.testing.assert_close(sample_points(maps, points), wanted)


def test_the_most_uncertain_candidates_are_taken() -> None:
    ramp = torch.linspace(-6, 10, 64).repeat(1, 1, 64, 1)
    logits = torch.cat([ramp, ramp.flip(-1)])
    torch.manual_seed(0)
    points = uncertain_points(logits, 40, oversample=3.0, importance=0.75)
    assert points.shape == (2, 40, 2)
    assert (points >= 0).all()
    assert (points <= 1).all()
    torch.manual_seed(0)
    candidates = torch.rand(2, 120, 2)
    for m in range(2):
        certainty = sample_points(logits[m : m + 1], candidates[m : m + 1]).abs().flatten()
        wanted = {tuple(p) for p in candidates[m, certainty.argsort()[:30]].tolist()}
        assert {tuple(p) for p in points[m, :30].tolist()} == wanted
        assert not {tuple(p) for p in points[m, 30:].tolist()} & {tuple(p) for p in candidates[m].tolist()}


@pytest.mark.parametrize("importance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("masks", [0, 1])
def test_number_of_points(importance: float, masks: int) -> None:
    assert uncertain_points(torch.zeros(masks, 1, 4, 4), 7, 1.0, importance).shape == (masks, 7, 2)


def _outside_too(num_maps: int, num_points: int) -> torch.Tensor:
    return torch.rand(num_maps, num_points, 2, dtype=torch.double) * 1.6 - 0.3


def test_gathering_gives_the_same_values_and_gradients() -> None:
    torch.manual_seed(0)
    maps, points = torch.randn(2, 3, 4, 6, dtype=torch.double, requires_grad=True), _outside_too(2, 50).requires_grad_()
    weights = torch.randn(2, 3, 50, dtype=torch.double)
    found, wanted = _gather_points(maps, points), sample_points(maps, points)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad((x * weights).sum(), (maps, points)) for x in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_boolean_masks_are_sampled_where_they_lie() -> None:
    torch.manual_seed(0)
    masks, which, points = torch.rand(3, 5, 7) < 0.5, torch.tensor([2, 0, 2, 1]), _outside_too(4, 40)
    wanted = sample_points(masks[which][:, None].double(), points)[:, 0]
    torch.testing.assert_close(sample_masks(masks, which, points), wanted)
