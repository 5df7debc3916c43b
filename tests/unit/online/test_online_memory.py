from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from syncvis.online.memory import SimilarityGuided


def _random(count: int, seed: int = 0) -> Tensor:
    """Embeddings of which neighbours resemble each other, some of them negatively."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, 8, generator=generator, dtype=torch.double)
    return steps.cumsum(0) - 0.5


def _after(embeddings: Tensor, cache: int | None = None) -> Tensor:
    """The memory after each embedding, (N, C)."""
    memory, states = SimilarityGuided(cache), []
    for embedding in embeddings:
        memory.update(embedding)
        states.append(memory.embedding)
    return torch.stack(states)


def _plain(embeddings: np.ndarray, cache: int) -> np.ndarray:
    """The formula, written down again."""
    state = embeddings[0]
    for n in range(1, len(embeddings)):
        now, cosines = embeddings[n], []
        for before in embeddings[max(0, n - cache) : n]:
            cosines.append(before @ now / np.sqrt((before @ before) * (now @ now)))
        beta = max(0.0, sum(cosines) / len(cosines))
        state = (1 - beta) * state + beta * now
    return state


@pytest.mark.parametrize("cache", [1, 3, 10, 100])
@pytest.mark.parametrize("seed", range(3))
def test_against_the_formula(cache: int, seed: int) -> None:
    embeddings = _random(15, seed)
    wanted = torch.from_numpy(_plain(embeddings.numpy(), cache))
    torch.testing.assert_close(_after(embeddings, cache)[-1], wanted)
    if cache == 100:
        torch.testing.assert_close(_after(embeddings)[-1], wanted)


def test_the_same_embedding_replaces_and_an_orthogonal_or_opposite_one_does_nothing() -> None:
    east, north = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 2.0])
    for other, wanted in ((2 * east, 2 * east), (north, east), (-east, east)):
        memory = SimilarityGuided()
        memory.update(east)
        memory.update(other)
        torch.testing.assert_close(memory.embedding, wanted)
        assert memory.seen == 2


def test_it_lies_between_the_embeddings() -> None:
    for seed in range(5):
        embeddings = _random(20, seed)
        assert (_after(embeddings).norm(dim=-1) <= embeddings.norm(dim=-1).cummax(0).values + 1e-9).all()


def test_training_remembers_what_a_test_does_until_its_cache_is_full() -> None:
    embeddings = _random(14)
    in_training, in_test = _after(embeddings), _after(embeddings, 10)
    assert torch.equal(in_training[:11], in_test[:11])  # the eleventh is compared with ten earlier ones
    assert (in_training[11] - in_test[11]).abs().max() > 1e-3


def test_gradients_reach_every_embedding() -> None:
    embeddings = _random(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _after(x)[-1], embeddings)
    (gradient,) = torch.autograd.grad(_after(embeddings)[-1].sum(), embeddings)
    assert (gradient.abs().sum(-1) > 0).all()


def test_an_empty_memory_has_no_embedding() -> None:
    with pytest.raises(AssertionError, match="empty memory"):
        _ = SimilarityGuided().embedding
