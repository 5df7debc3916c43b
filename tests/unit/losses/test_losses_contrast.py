"""Contrast: the loss against loops, CTVIS' items by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from syncvis.losses.contrast import ContrastItems, carriers, contrast_losses, memory_items
from syncvis.losses.matcher import Matches
from syncvis.online.memory import SimilarityGuided


def _embeddings(clips: int = 1, frames: int = 5, queries: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(clips, frames, queries, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("output", [0, 1])
def test_carriers_are_the_matches_of_one_output(output: int) -> None:
    """Two clips of two frames with three instances; each row: output, clip of one frame, query, instance."""
    rows = [(0, 0, 7, 0), (0, 3, 5, 2), (1, 0, 4, 1), (1, 1, 6, 1), (1, 2, 3, 0), (0, 2, 2, 0)]
    o, clip, query, instance = torch.tensor(rows).unbind(1)
    matches = Matches(o, clip, torch.zeros_like(clip), query, instance)
    wanted = [
        [[[7, -1], [-1, -1], [-1, -1]], [[2, -1], [-1, -1], [-1, 5]]],
        [[[-1, -1], [4, 6], [-1, -1]], [[3, -1], [-1, -1], [-1, -1]]],
    ]
    assert carriers(matches, output, 2, (2, 3)).tolist() == wanted[output]


def _random_items(seed: int = 0) -> ContrastItems:
    generator = torch.Generator().manual_seed(seed)
    role = torch.randint(0, 3, (7, 9), generator=generator)
    anchors, samples = torch.randn(7, 4, generator=generator), torch.randn(7, 9, 4, generator=generator)
    return ContrastItems(anchors, samples, role == 1, role == 2, torch.rand(7, 9, generator=generator) < 0.5)


def test_the_loss_against_loops() -> None:
    items = _random_items()
    contrast = cosine = 0.0
    assert items.measured is not None
    for i, anchor in enumerate(items.anchors):
        pairs, errors = 0.0, []
        for p in range(9):
            if items.measured[i, p]:
                value = float(torch.cosine_similarity(anchor, items.samples[i, p], dim=0))
                errors.append((value - float(items.positive[i, p])) ** 2)
            for n in range(9):
                if items.positive[i, p] and items.negative[i, n]:
                    pairs += math.exp(float(anchor @ items.samples[i, n]) - float(anchor @ items.samples[i, p]))
        contrast += math.log(1 + pairs) / 7
        cosine += sum(errors) / len(errors) / 7
    losses = contrast_losses(items)
    assert float(losses["contrast"]) == pytest.approx(contrast, rel=1e-5)
    assert float(losses["cosine"]) == pytest.approx(cosine, rel=1e-5)


def test_aligned_positives_and_far_negatives_cost_nothing() -> None:
    east = torch.tensor([10.0, 0.0])
    samples = torch.stack([east, -east, -east])[None]
    positive, negative = torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]])
    losses = contrast_losses(ContrastItems(east[None], samples, positive, negative))
    assert float(losses["contrast"]) < 1e-6
    assert float(losses["cosine"]) == pytest.approx(2 / 3)  # the cosine of a negative is to be 0, not -1
    across = torch.tensor([[10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])[None]
    assert float(sum(contrast_losses(ContrastItems(east[None], across, positive, negative)).values())) < 1e-6


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_an_anchor_without_pairs_costs_no_contrast(kind: str) -> None:
    samples = torch.randn(1, 3, 4, requires_grad=True)
    all_of, none = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    masks = (all_of, none) if kind == "positive" else (none, all_of)
    losses = contrast_losses(ContrastItems(torch.randn(1, 4), samples, *masks))
    assert not losses["contrast"].any()
    (gradient,) = torch.autograd.grad(sum(losses.values()), samples)
    assert gradient.isfinite().all()


def test_large_products_stay_finite() -> None:
    samples = 300 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    positive = torch.tensor([[True, False, False, False, False]] * 2)
    anchors = (300 * torch.ones(2, 4)).requires_grad_()
    losses = contrast_losses(ContrastItems(anchors, samples, positive, ~positive))
    assert sum(losses.values()).isfinite()
    (gradient,) = torch.autograd.grad(sum(losses.values()), anchors)
    assert gradient.isfinite().all()


CARRIER = torch.tensor([[[2, 4, -1, 1, -1], [-1, 3, -1, 5, 0], [-1, -1, 5, -1, -1], [-1, -1, -1, -1, -1]]])
"""One clip of five frames: seen thrice, thrice without the first frame, once, and never."""


def _expected(embeddings: Tensor, from_memory: bool) -> list[tuple[Tensor, Tensor, list[int], int]]:
    """Anchor, positive, queries that are negatives, and the frame that these are of."""
    e, memory, late = embeddings[0], SimilarityGuided(), SimilarityGuided()
    for t, q in ((0, 2), (1, 4)):
        memory.update(e[t, q])
    for t, q in ((1, 3), (3, 5)):
        late.update(e[t, q])
    everyone = list(range(6))
    return [
        (e[1, 4], e[0, 2], [0, 1, 3, 4, 5], 0),
        (e[3, 1], memory.embedding if from_memory else e[1, 4], everyone, 2),
        (e[1, 3], e[3, 5], everyone, 0),  # never seen before: the first later one
        (e[3, 5], e[1, 3], everyone, 2),
        (e[4, 0], late.embedding if from_memory else e[3, 5], [0, 1, 2, 3, 4], 3),
    ]


@pytest.mark.parametrize("from_memory", [False, True])
def test_items_by_hand(from_memory: bool) -> None:
    embeddings = _embeddings()
    items = memory_items(embeddings, CARRIER, torch.full(CARRIER.shape, from_memory))
    expected = _expected(embeddings, from_memory)
    assert len(items.anchors) == len(expected)
    for i, (anchor, positive, others, frame) in enumerate(expected):
        assert torch.equal(items.anchors[i], anchor)
        (only,) = items.samples[i][items.positive[i]]
        assert torch.equal(only, positive)
        assert torch.equal(items.samples[i][items.negative[i]], embeddings[0, frame, others])


def test_each_sighting_chooses_by_itself() -> None:
    embeddings, mixed = _embeddings(), torch.zeros(CARRIER.shape, dtype=torch.bool)
    mixed[0, 1, 4] = True
    ways = [memory_items(embeddings, CARRIER, mixed | full) for full in (False, True)]
    plain, fused = _expected(embeddings, False), _expected(embeddings, True)
    assert [torch.equal(ways[0].samples[i, 0], plain[i][1]) for i in range(5)] == [True] * 4 + [False]
    assert all(torch.equal(ways[1].samples[i, 0], fused[i][1]) for i in range(5))


def test_half_of_the_positives_come_from_the_memory_and_the_seed_says_which() -> None:
    embeddings = _embeddings(1, 50, 3)
    carrier = torch.zeros(1, 1, 50, dtype=torch.int64)

    def fused(seed: int) -> list[bool]:
        torch.manual_seed(seed)
        items = memory_items(embeddings, carrier)
        return [not torch.equal(items.samples[i, 0], embeddings[0, i, 0]) for i in range(2, 49)]

    assert fused(0) == fused(0) != fused(1)
    assert 10 < sum(fused(0)) < 37


def test_an_instance_of_a_single_frame_gives_no_item_and_no_item_gives_zero_with_gradient() -> None:
    embeddings = _embeddings().requires_grad_()
    items = memory_items(embeddings, CARRIER[:, 2:])
    assert len(items.anchors) == 0
    losses = contrast_losses(items)
    assert set(losses) == {"contrast", "cosine"}
    assert not any(value.any() for value in losses.values())
    (gradient,) = torch.autograd.grad(sum(losses.values()), embeddings)
    assert not gradient.any()


def test_a_clip_of_one_frame_gives_no_item() -> None:
    assert len(memory_items(_embeddings(1, 1), CARRIER[..., :1]).anchors) == 0


def test_two_clips_are_the_mean_over_their_items_and_padding_changes_nothing() -> None:
    embeddings = _embeddings(2).float()
    other = torch.tensor([[[1, 0, 2, 4, 3]]])
    padded = torch.cat([CARRIER, torch.cat([other, torch.full((1, 3, 5), -1)], 1)])
    both = contrast_losses(memory_items(embeddings, padded, torch.ones_like(padded, dtype=torch.bool)))
    alone = [
        memory_items(embeddings[b : b + 1], carrier, torch.ones_like(carrier, dtype=torch.bool))
        for b, carrier in enumerate((CARRIER, other))
    ]
    counts = [len(items.anchors) for items in alone]
    assert counts == [5, 4]
    for name, value in both.items():
        wanted = sum(count * contrast_losses(items)[name] for count, items in zip(counts, alone, strict=True)) / 9
        torch.testing.assert_close(value, wanted)


def test_gradients_reach_anchors_negatives_and_the_memory() -> None:
    embeddings = _embeddings().requires_grad_()
    items = memory_items(embeddings, CARRIER[:, 1:2], torch.ones(1, 1, 5, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(sum(contrast_losses(items).values()), embeddings)
    moved = gradient.abs().sum(-1)[0] > 0
    assert moved[1, 3]  # seen before the last anchor: only through the memory and the item between
    assert moved[0].all()
    assert moved[2].all()
    assert moved[3].all()  # negatives of the last anchor, and query 5 as anchor and in the memory
    assert moved[4].tolist() == [True] + [False] * 5


def test_what_the_published_code_leaves_out() -> None:
    """New in frame 1 and missing in exactly one later frame: its count of later frames takes it for a last sighting."""
    carrier = torch.tensor([[[-1, 3, 0, -1, 2]]])
    for compat, frames in ((False, [1, 2, 4]), (True, [2, 4])):
        items = memory_items(_embeddings(), carrier, compat=compat)
        wanted = torch.stack([_embeddings()[0, t, carrier[0, 0, t]] for t in frames])
        assert torch.equal(items.anchors, wanted)
