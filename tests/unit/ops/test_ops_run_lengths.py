from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from syncvis.ops.run_lengths import DamagedRunsError, RunPairs, pairs_of, parse_counts

HEIGHT, WIDTH = 7, 9


def batch(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.random((HEIGHT, WIDTH)) < rng.choice([0, 0.1, 0.5, 0.9, 1]) for _ in range(rng.integers(1, 8))]


def counts_of(masks: list[np.ndarray]) -> list[str]:
    return [coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode() for mask in masks]


def lengths_of(pairs: RunPairs) -> np.ndarray:
    return np.diff(np.stack([pairs.starts, pairs.stops], axis=1).ravel(), prepend=0)


def painted(lengths: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def test_a_batch_has_the_pixels_and_areas_of_its_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        masks = batch(rng)
        pairs = parse_counts(counts_of(masks), HEIGHT * WIDTH)
        assert (painted(lengths_of(pairs)) == np.concatenate([mask.T.ravel() for mask in masks])).all()
        assert pairs.areas.tolist() == [mask.sum() for mask in masks]
        for n, mask in enumerate(masks):
            one = lengths_of(pairs)[2 * pairs.first[n] : 2 * pairs.first[n + 1]]
            assert (painted(one) == mask.T.ravel()).all()
        runs = [lengths_of(parse_counts([text], HEIGHT * WIDTH)) for text in counts_of(masks)]
        assert (lengths_of(pairs_of(runs, HEIGHT * WIDTH)) == lengths_of(pairs)).all()


def test_runs_of_up_to_six_characters() -> None:
    mask = np.zeros((8000, 8000), np.uint8, order="F")
    mask[5:, 7000] = 1
    counts = coco.encode(mask)["counts"].decode()
    assert lengths_of(parse_counts([counts] * 2, mask.size))[:3].tolist() == [7000 * 8000 + 5, 7995, 999 * 8000]


def test_no_mask_is_an_empty_batch() -> None:
    assert len(parse_counts([], 63).areas) == 0


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("", "empty"),
        ("n1 ", "character"),
        ("é", "character"),
        ("n1\0", "character"),
        ("n", "cut off"),
        ("oooooooo1", "longer"),
        ("m1", "sum"),
        ("o1O", "negative"),
    ],
)
def test_one_damaged_mask_refuses_the_batch(bad: str, problem: str, place: int) -> None:
    good = counts_of([np.eye(HEIGHT, WIDTH) > 0] * 2)
    with pytest.raises(DamagedRunsError, match=problem):
        parse_counts([*good[:place], bad, *good[place:]], HEIGHT * WIDTH)
