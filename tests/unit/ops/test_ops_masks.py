from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from syncvis.errors import DataError
from syncvis.ops import masks

DENSITIES = (0.0, 0.02, 0.5, 0.98, 1.0)


def random_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.random((height, width)) < rng.choice(DENSITIES)


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    height, width = rng.integers(1, 40, 2)
    return int(height), int(width)


def naive_runs(mask: np.ndarray) -> list[int]:
    lengths, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # coco.decode on NumPy 2
def test_runs_decode_and_encode_agree_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = random_size(rng)
        mask = random_mask(rng, height, width)
        reference = coco.encode(np.asfortranarray(mask, np.uint8))
        rle = masks.encode(mask)
        assert rle == {"size": [height, width], "counts": reference["counts"].decode()}
        assert masks.runs(reference, "test").tolist() == naive_runs(mask)
        decoded = masks.decode(rle, height, width, "test")
        assert decoded.dtype == bool
        assert (decoded == coco.decode(reference).astype(bool)).all()
        assert masks.from_runs(masks.runs(rle, "test"), height, width) == rle
        assert masks.area(rle) == mask.sum()
        assert masks.bbox(rle) == tuple(coco.toBbox(reference).astype(int))


def test_the_longest_runs_keep_their_length() -> None:
    mask = np.zeros((8000, 8000), bool)
    mask[5:, 3000] = True
    reference = coco.encode(np.asfortranarray(mask, np.uint8))
    lengths = masks.runs(reference, "test")
    assert lengths.tolist() == [3000 * 8000 + 5, 7995, 4999 * 8000]


def test_counts_as_a_list_are_read_and_empty_runs_joined() -> None:
    assert masks.runs({"size": [2, 4], "counts": [1, 2, 0, 3, 2]}, "test").tolist() == [1, 5, 2]
    assert masks.runs({"size": [2, 4], "counts": [0, 0, 1, 7, 0]}, "test").tolist() == [1, 7]
    assert masks.runs({"size": [2, 4], "counts": [0, 8]}, "test").tolist() == [0, 8]
    assert masks.runs({"size": [2, 4], "counts": [0, 3, 0, 5]}, "test").tolist() == [0, 8]


@pytest.mark.parametrize(
    ("rle", "problem"),
    [
        ("text", "not an RLE"),
        ({"counts": "52203"}, "size"),
        ({"size": [2, 3, 4], "counts": "6"}, "size"),
        ({"size": [2.0, 3], "counts": "6"}, "size"),
        ({"size": [True, 6], "counts": "6"}, "size"),
        ({"size": [0, 3], "counts": "0"}, "0 x 3"),
        ({"size": [-2, -3], "counts": "6"}, "-2 x -3"),
        ({"size": [10**6, 10**6], "counts": "6"}, "over the limit"),
        ({"size": [2, 3]}, "NoneType"),
        ({"size": [2, 3], "counts": 6}, "int"),
        ({"size": [2, 3], "counts": ""}, "empty"),
        ({"size": [2, 3], "counts": "6 "}, "white space around"),
        ({"size": [2, 3], "counts": "\ud800é"}, "character"),
        ({"size": [2, 3], "counts": "6p"}, "character"),
        ({"size": [2, 3], "counts": "6Q"}, "cut off"),
        ({"size": [2, 3], "counts": "oooooooooo0"}, "longer than any mask"),
        ({"size": [2, 3], "counts": "b'6'"}, r"Python bytes written as text.*decode\('ascii'\)"),
        ({"size": [2, 3], "counts": "5"}, "sum"),
        ({"size": [2, 3], "counts": "7"}, "sum"),
        ({"size": [2, 3], "counts": "O7"}, "negative"),
        ({"size": [2, 3], "counts": []}, "list of integers"),
        ({"size": [2, 3], "counts": [6.0]}, "decimal points"),
        ({"size": [2, 3], "counts": ["6"]}, "numbers written as text"),
        ({"size": [2, 3], "counts": [[6], [1, 2]]}, "list of integers"),
        ({"size": [2, 3], "counts": [10**30]}, "list of integers"),
        ({"size": [2, 3], "counts": [7, -1]}, "negative"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62 + 6]}, "sum"),
    ],
)
def test_a_damaged_rle_is_refused_by_name(rle: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        masks.runs(rle, "valid.json: annotation 7")  # type: ignore[arg-type]
    assert str(caught.value).startswith("valid.json: annotation 7: ")
    assert "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


def mutate(rng: np.random.Generator, counts: bytes) -> bytes:
    data = bytearray(counts)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(data) + 1))
        change = rng.integers(0, 4)
        if change == 0:
            del data[place : place + int(rng.integers(1, 4))]
        elif change == 1:
            data.insert(place, int(rng.integers(0, 256)))
        elif data:
            data[min(place, len(data) - 1)] = int(rng.integers(48, 112) if change == 2 else rng.integers(0, 256))
    return bytes(data)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # coco.decode on NumPy 2
def test_mutated_counts_are_refused_or_a_mask_of_the_right_size() -> None:
    rng = np.random.default_rng(1)
    refused = accepted = 0
    for _ in range(6000):
        height, width = random_size(rng)
        counts = mutate(rng, coco.encode(np.asfortranarray(random_mask(rng, height, width), np.uint8))["counts"])
        rle = {"size": [height, width], "counts": counts if rng.random() < 0.5 else counts.decode("latin-1")}
        try:
            lengths = masks.runs(rle, "test")
        except DataError:
            refused += 1
            continue
        accepted += 1
        assert lengths.sum() == height * width
        assert (lengths[1:] > 0).all()
        # What is accepted is safe for pycocotools and means the same there.
        assert (coco.decode(rle).astype(bool) == masks.decode(rle, height, width, "test")).all()
    assert refused > 3000
    assert accepted > 10


def test_decode_refuses_another_size_and_names_both() -> None:
    rle = masks.encode(np.ones((3, 5), bool))
    with pytest.raises(DataError, match=r"3 x 5.*5 x 3"):
        masks.decode(rle, 5, 3, "valid.json")
