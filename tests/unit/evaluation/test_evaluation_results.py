from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncvis.errors import DataError, StorageError
from syncvis.evaluation.results import read_results, write_results
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

CATEGORY_IDS = (11, 4, 30)


def mask(seed: int) -> dict[str, Any]:
    return dict(masks.encode(np.random.default_rng(seed).random((5, 6)) < 0.5))


def predictions() -> list[VideoPrediction]:
    first = (Track(2, 0.75, (mask(0), None, mask(1))), Track(0, 0.1 + 0.2, (None, None, mask(2))))
    return [VideoPrediction(3, first), VideoPrediction(8, (Track(1, 0.0, (mask(3),)),))]


def row(**changes: Any) -> dict[str, Any]:
    whole = {"video_id": 3, "score": 0.5, "category_id": 4, "segmentations": [mask(0), None]}
    return {key: value for key, value in {**whole, **changes}.items() if value != "absent"}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, predictions(), CATEGORY_IDS)
    assert read_results(path, CATEGORY_IDS) == predictions()


def test_the_file_is_what_the_server_takes(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(str(path), predictions(), CATEGORY_IDS)
    rows = json.loads(path.read_text())
    assert [set(r) for r in rows] == [{"video_id", "score", "category_id", "segmentations"}] * 3
    assert [(r["video_id"], r["category_id"]) for r in rows] == [(3, 30), (3, 11), (8, 4)]
    assert rows[0]["segmentations"] == [mask(0), None, mask(1)]


def test_no_prediction_is_an_empty_list(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, [VideoPrediction(1, ())], CATEGORY_IDS)
    assert path.read_text() == "[]"
    assert read_results(path, CATEGORY_IDS) == []


def test_tracks_come_best_first_and_counts_as_text(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    listed = {"size": [5, 6], "counts": masks.runs(mask(0), "test").tolist()}
    rows = [row(video_id=9, score=0), row(score=0.2), row(score=0.9, segmentations=[listed, None])]
    path.write_text(json.dumps(rows))
    read = read_results(path, CATEGORY_IDS)
    assert [p.video_id for p in read] == [3, 9]
    assert [t.score for t in read[0].tracks] == [0.9, 0.2]
    assert read[0].tracks[0].masks == (mask(0), None)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_results(path, predictions(), CATEGORY_IDS)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"results\.json: cannot be written \(the disk is full\)"):
        write_results(path, [], CATEGORY_IDS)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_place_that_cannot_hold_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/results\.json: cannot be written"):
        write_results(tmp_path / "file" / "results.json", [], CATEGORY_IDS)
    with pytest.raises(StorageError, match="cannot be read"):
        read_results(tmp_path / "results.json", CATEGORY_IDS)


@pytest.mark.parametrize(
    "track", [Track(3, 0.5, ()), Track(-1, 0.5, ()), Track(0, float("nan"), ()), Track(0, float("inf"), ())]
)
def test_a_track_that_cannot_be_meant_is_not_written(tmp_path: Path, track: Track) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(DataError, match="video 5"):
        write_results(path, [VideoPrediction(5, (track,))], CATEGORY_IDS)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{", "row 0: not valid JSON .*at character 2"),
        ("", "is an empty file, not JSON"),
        ("[" * 100_000, "not valid JSON .nested too deeply"),
        ("{}", "not a list"),
        ("null", "not a list"),
        (b"\xff\xfe", "not valid JSON"),
        (b'[1, "\xc1"]', r"not valid JSON text \(the byte at position 5, 0xc1, is not UTF-8\)"),
        ("[{}] {}", "row 1: not valid JSON .there is text behind the list"),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=problem) as caught:
        read_results(path, CATEGORY_IDS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        (7, "row 1: is a whole number, not an object"),
        (row(video_id="absent"), "row 1: video_id: is missing"),
        (row(video_id="3"), "row 1: video_id: is text, not a whole number: '3'. Fix: write 3"),
        (row(video_id=True), "row 1: video_id: is true or false, not a whole number"),
        (row(score="absent"), "row 1: score: is missing"),
        (row(score="0.5"), "row 1: score: is text, not a finite number: '0.5'. Fix: write 0.5"),
        (row(video_id=1.0), "row 1: video_id: 1.0 is not written as a whole number. Fix: write 1"),
        (row(score=None), "row 1: score: is null, not a finite number"),
        (row(segmentations=None), "row 1: segmentations: is null, not a list"),
        (
            row(segmentations="absent", segmentation=[None]),
            "row 1: segmentations: is missing (there is 'segmentation'). Fix: name it 'segmentations'",
        ),
        (row(score=float("nan")), "row 1: score: is not a finite number"),
        (row(score=float("inf")), "row 1: score: is not a finite number"),
        (row(score=10**400), "row 1: score: the number is too large"),
        (row(score=False), "row 1: score"),
        (row(category_id="absent"), "row 1: category_id: is missing"),
        (row(category_id=5), "row 1: category_id: is 5, not one of the ids 4, 11, 30"),
        (row(category_id=[4]), "row 1: category_id"),
        (row(segmentations="absent"), "row 1: segmentations: is missing"),
        (row(segmentations=[]), "row 1: segmentations: is an empty list"),
        (row(segmentations=mask(0)), "row 1: segmentations"),
        (row(segmentations=[None, "6"]), "row 1: segmentations[1]: damaged mask"),
        (row(segmentations=[{"size": [5, 6], "counts": "9"}]), "row 1: segmentations[0]: damaged mask"),
        (
            row(segmentations=[mask(0), dict(masks.encode(np.ones((6, 5), bool)))]),
            "masks have different sizes: 5 x 6 and 6 x 5",
        ),
    ],
)
def test_a_malformed_row_is_refused_with_its_number_and_key(tmp_path: Path, bad: Any, place: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row(), bad]))
    with pytest.raises(DataError) as caught:
        read_results(path, CATEGORY_IDS)
    assert f"{path}: row 1" in str(caught.value)
    assert place in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_all_bad_rows_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    damaged = row(segmentations=[{"size": [5, 6], "counts": "9"}, None])
    bad = [damaged, row(score="0.9"), row(video_id="1"), row(score=None), 7]
    path.write_text(json.dumps([row(), *bad, row()]))
    with pytest.raises(DataError) as caught:
        read_results(path, CATEGORY_IDS)
    said = str(caught.value)
    assert said.startswith(f"{path}: 5 of 7 rows are wrong: row 1: segmentations[0]: damaged mask: counts")
    assert "; row 2: score: is text, not a finite number: '0.9'; row 3: video_id: is text, " in said
    assert "; and 2 more. Fix: " in said
    path.write_text(json.dumps([row(), bad[1], bad[3]]))
    with pytest.raises(DataError) as caught:
        read_results(path, CATEGORY_IDS)
    text = "row 1: score: is text, not a finite number: '0.9'; row 2: score: is null, not a finite number"
    assert str(caught.value) == f"{path}: 2 of 3 rows are wrong: {text}. Fix: in row 1 write 0.9"
