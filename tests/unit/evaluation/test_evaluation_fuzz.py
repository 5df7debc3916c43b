"""Mutated masks and files: a result or our error, never a crash, a hang or another exception."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncvis.errors import DataError
from syncvis.evaluation.files import evaluate_files
from syncvis.evaluation.results import read_results
from syncvis.evaluation.ytvis import GroundTruthTrack, GroundTruthVideo, evaluate
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**63,
    -(2**40),
    1e308,
    "",
    "0",
    "o" * 50,
    "\ud800",
    [],
    {},
    [[]],
    [0, -1],
    "é",
)


def random_rle(rng: random.Random) -> dict[str, Any]:
    mask = np.random.default_rng(rng.randrange(2**32)).random((9, 11)) < rng.random()
    return dict(masks.encode(mask))


def mutated_text(rng: random.Random, text: str) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(characters) + 1)
        change = rng.randrange(4)
        if change == 0:
            del characters[place : place + rng.randint(1, 3)]
        elif change == 1:
            characters.insert(place, chr(rng.choice((rng.randrange(48, 112), rng.randrange(256), 0x20AC))))
        elif change == 2:
            characters[place:] = []
        else:
            characters[place : place + 1] = chr(rng.randrange(48, 112))
    return "".join(characters)


def mutated_rle(rng: random.Random) -> Any:
    rle = random_rle(rng)
    change = rng.randrange(8)
    if change < 5:
        rle["counts"] = mutated_text(rng, rle["counts"])
    elif change == 5:
        rle[rng.choice(("size", "counts"))] = rng.choice(VALUES)
    elif change == 6:
        rle["size"] = [rng.choice((9, 0, -9, 10**9, 2**64, 1.5, None)), rng.choice((11, 0, 12, 10**12))]
    else:
        rle["counts"] = [rng.choice((0, 1, 50, -3, 2**62, 99)) for _ in range(rng.randrange(5))]
    return rle


def test_a_mutated_mask_is_refused_or_evaluated() -> None:
    rng = random.Random(0)
    accepted = 0
    for _ in range(3000):
        good, bad = random_rle(rng), mutated_rle(rng)
        damaged_truth = rng.random() < 0.2
        track = GroundTruthTrack(0, [good, bad if damaged_truth else good])
        prediction = VideoPrediction(1, (Track(0, 0.5, (good, good if damaged_truth else bad)),))
        try:
            result = evaluate([GroundTruthVideo(1, 9, 11, 2, [track])], [prediction], ["a"])
        except DataError:
            continue
        accepted += 1
        assert 0 <= result.metrics["AP"] <= 100
        if bad and bad != good:  # what is accepted means the same everywhere
            lengths = masks.runs(bad, "test")
            assert lengths.sum() == 99
            assert masks.area(bad) == masks.decode(bad, 9, 11, "test").sum()
    assert 20 < accepted < 1500


def mutated_json(rng: random.Random, value: Any) -> Any:
    """The value with one part, at any depth, replaced, removed or doubled."""
    if not value or not isinstance(value, list | dict) or rng.random() < 0.15:
        return mutated_text(rng, value) if isinstance(value, str) and rng.random() < 0.7 else rng.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(keys)
    changed = value.copy()
    if rng.random() < 0.1:
        del changed[key]
    elif rng.random() < 0.05 and isinstance(changed, list):
        changed.append(changed[key])
    else:
        changed[key] = mutated_json(rng, changed[key])
    return changed


def files(rng: random.Random) -> tuple[Any, Any]:
    annotation = {"id": 1, "video_id": 3, "category_id": 2, "iscrowd": 0, "areas": [5, None]}
    truth = {
        "categories": [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}],
        "videos": [{"id": 3, "height": 9, "width": 11, "length": 2}, {"id": 4, "height": 5, "width": 5, "length": 1}],
        "annotations": [{**annotation, "segmentations": [random_rle(rng), [[1.0, 1.0, 6.0, 1.0, 6.0, 6.0]]]}],
    }
    row = {"video_id": 3, "score": 0.5, "category_id": 2, "segmentations": [random_rle(rng), None]}
    return truth, [row, {**row, "score": 1, "segmentations": [None, random_rle(rng)]}]


def test_mutated_files_are_refused_or_evaluated(tmp_path: Path) -> None:
    rng = random.Random(1)
    paths = tmp_path / "gt.json", tmp_path / "results.json"
    evaluated, errors = 0, []
    for _ in range(1500):
        truth, rows = files(rng)
        damaged_truth = rng.random() < 0.5
        texts = [json.dumps(mutated_json(rng, truth) if damaged_truth else truth)]
        texts.append(json.dumps(rows if damaged_truth else mutated_json(rng, rows)))
        if rng.random() < 0.2:
            texts[1 - damaged_truth] = mutated_text(rng, texts[1 - damaged_truth])
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode("utf-8", "replace"))
        try:
            evaluate_files(*paths, details=rng.random() < 0.3)
            evaluated += 1
        except DataError as error:
            errors.append(str(error))
    assert evaluated > 100
    assert len(errors) > 100
    wrong = [e for e in errors if not e.startswith(str(tmp_path)) or "Fix: " not in e or "\n" in e]
    assert not wrong


@pytest.mark.parametrize("bomb", [[10**9, 10**9], [8000, 8000], [1, 64_000_000]])
def test_a_huge_size_costs_nothing(tmp_path: Path, bomb: list[int]) -> None:
    row = {"video_id": 3, "score": 0.5, "category_id": 2, "segmentations": [{"size": bomb, "counts": "0"}] * 50}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match=r"over the limit|does not sum"):
        read_results(path, [2])
