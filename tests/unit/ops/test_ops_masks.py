from __future__ import annotations

import json

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
        ({"size": [2, 3], "counts": "6 "}, "character"),
        ({"size": [2, 3], "counts": "\ud800é"}, "character"),
        ({"size": [2, 3], "counts": "6p"}, "character"),
        ({"size": [2, 3], "counts": "6Q"}, "cut off"),
        ({"size": [2, 3], "counts": "oooooooooo0"}, "longer than any mask"),
        ({"size": [2, 3], "counts": "5"}, "sum"),
        ({"size": [2, 3], "counts": "7"}, "sum"),
        ({"size": [2, 3], "counts": "O7"}, "negative"),
        ({"size": [2, 3], "counts": []}, "list of integers"),
        ({"size": [2, 3], "counts": [6.0]}, "list of integers"),
        ({"size": [2, 3], "counts": ["6"]}, "list of integers"),
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


def test_concat_frames_is_the_mask_of_the_frames_side_by_side() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        height, width = random_size(rng)
        frames = [random_mask(rng, height, width) for _ in range(rng.integers(1, 7))]
        rles = [None if not m.any() and rng.random() < 0.5 else masks.encode(m) for m in frames]
        tube = masks.concat_frames(rles, height, width, "test")
        assert tube == masks.encode(np.concatenate(frames, axis=1))
        assert json.loads(json.dumps(tube)) == tube


def test_concat_frames_reads_all_forms_of_counts() -> None:
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    forms = [
        masks.encode(mask),
        {"size": [2, 3], "counts": [1, 4, 1]},
        coco.encode(np.asfortranarray(mask, np.uint8)),
    ]
    assert masks.concat_frames(forms, 2, 3, "test") == masks.encode(np.concatenate([mask] * 3, axis=1))


def test_concat_frames_names_the_damaged_frame() -> None:
    good = masks.encode(np.ones((2, 3), bool))
    with pytest.raises(DataError, match="track 4, frame 1"):
        masks.concat_frames([good, {"size": [2, 3], "counts": "9"}], 2, 3, "track 4")
    with pytest.raises(DataError, match=r"track 4, frame 2.*2 x 3.*3 x 2"):
        masks.concat_frames([None, None, good], 3, 2, "track 4")
    with pytest.raises(DataError, match="0 frames"):
        masks.concat_frames([], 2, 3, "track 4")
    with pytest.raises(DataError, match="100 frames"):
        masks.concat_frames([None] * 100, 8000, 8000, "track 4")


def test_empty_runs_at_one_place_do_not_end_the_iou_early() -> None:
    split = {"size": [1, 10], "counts": [2, 3, 0, 5]}
    whole = {"size": [1, 10], "counts": [2, 8]}
    tubes = [masks.concat_frames([rle], 1, 10, "test") for rle in (split, whole)]
    assert coco.iou(tubes[:1], tubes[1:], [0])[0, 0] == 1.0
