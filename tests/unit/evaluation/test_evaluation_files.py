"""Ground truth and results as files, and what ``syncvis eval-results`` prints of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.annotations import read_truth
from syncvis.evaluation.files import evaluate_files
from syncvis.evaluation.json_rows import json_rows
from syncvis.evaluation.results import read_results, write_results
from syncvis.evaluation.ytvis import evaluate, ground_truth
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

SQUARE = np.zeros((6, 8), bool)
SQUARE[1:4, 2:5] = True
RLE = dict(masks.encode(SQUARE))
POLYGON = [[2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]]


def tree() -> dict[str, Any]:
    annotation = {"id": 1, "video_id": 7, "category_id": 4, "iscrowd": 0}
    return {
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        "videos": [{"id": 7, "height": 6, "width": 8, "length": 2, "file_names": ["a", "b"]}],
        "annotations": [{**annotation, "segmentations": [RLE, POLYGON], "areas": [9, None]}],
    }


def row(**changes: Any) -> dict[str, Any]:
    return {"video_id": 7, "score": 0.5, "category_id": 4, "segmentations": [RLE, RLE], **changes}


def written(folder: Path, truth: Any, rows: Any) -> tuple[Path, Path]:
    paths = folder / "gt.json", folder / "results.json"
    for path, content in zip(paths, (truth, rows), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_the_command_prints_the_official_numbers(tmp_path: Path) -> None:
    rows = [row(), row(category_id=5), row(score=0.9, segmentations=[None, None])]
    paths = [str(path) for path in written(tmp_path, tree(), rows)]
    text = CliRunner().invoke(app, ["eval-results", *paths, "--details"]).output
    found = json.loads(CliRunner().invoke(app, ["eval-results", *paths, "--json"]).output)
    assert f"\nAP50  {found['official']['AP50']}\n" in text
    assert "\nAPm   -1.0\n" in text
    assert "1 row(s) of categories that are not in the ground truth left out: 5\n" in text
    assert found["official"]["AP"] == pytest.approx(0.5, abs=1e-15)
    assert found["official"]["APl"] == -1
    assert found["per_category"] == pytest.approx({"dog": 0.5})
    assert found["left_out"] == ["row 1: category_id 5"]
    assert "per_length" not in found


def test_results_of_which_no_row_is_of_a_known_category_are_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, tree(), [row(category_id=0), row(category_id=1)])
    with pytest.raises(DataError) as caught:
        evaluate_files(*paths)
    problem = "category_id: no row is of a category of gt.json: it has 0, 1, the annotations 9, 4. Fix: use the ids of"
    assert f"{paths[1]}: {problem}" in str(caught.value)


def test_areas_ids_and_polygons_of_the_file_are_read(tmp_path: Path) -> None:
    truth, _ = written(tmp_path, tree(), [])
    (video,) = read_truth(truth).videos
    track = video.tracks[0]
    assert (video.height, video.width, video.length) == (6, 8, 2)
    assert (track.label, track.id, track.areas) == (1, 1, [9, None])
    assert track.segmentations[1] == masks.encode(SQUARE)


def test_a_video_file_without_length_is_as_long_as_its_annotations(tmp_path: Path) -> None:
    truth = tree()
    truth["videos"][0] = {"id": 7, "height": 6, "width": 8, "length": None, "file_name": "a.mp4"}
    (video,) = read_truth(written(tmp_path, truth, [])[0]).videos
    assert video.length == 2


def test_categories_of_one_name_have_a_number_each(tmp_path: Path) -> None:
    truth = tree()
    truth["categories"][0]["name"] = "dog"
    truth["annotations"].append(truth["annotations"][0] | {"id": 2, "category_id": 9})
    evaluation, _ = evaluate_files(*written(tmp_path, truth, [row()]))
    assert evaluation.per_category == {"dog (9)": 0.0, "dog (4)": pytest.approx(100 * evaluation.official["AP"] * 2)}


def test_names_of_categories_cannot_steer_a_terminal(tmp_path: Path) -> None:
    truth = tree()
    truth["categories"][1]["name"] = "dog\x1b[31m\n"
    evaluation, _ = evaluate_files(*written(tmp_path, truth, [row()]))
    assert "dog\x1b[31m\n" in evaluation.per_category
    assert r"  dog\x1b[31m\n  " in str(evaluation)


def test_the_data_sets_reader_takes_the_sizes_of_the_file(tmp_path: Path) -> None:
    changed = tree()
    changed["annotations"][0]["areas"] = [200.0**2, None]
    truth, results = written(tmp_path, changed, [row()])
    (tmp_path / "JPEGImages").mkdir()
    dataset = VideoDataset.load(tmp_path, "gt.json")
    predictions = read_results(results, [category.id for category in dataset.categories])
    evaluation = evaluate(ground_truth(dataset), predictions, [category.name for category in dataset.categories])
    assert evaluation.official == evaluate_files(truth, results)[0].official
    assert evaluation.official["ARm"] >= 0 > evaluation.official["ARs"]
    kept = dataset.relabelled(dataset.categories[1:], [-1, 0])
    assert kept.videos[0].tracks[0].mean_area == 200.0**2


def change(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(tree()))
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([], "holds a list, not an object with videos"),
        (change(("annotations",), None), "annotations: has no annotated instance, so AP is undefined"),
        (change(("annotations", 0), 3), "annotations[0]: is a whole number, not an object"),
        (change(("annotations", 0, "id"), "1"), "annotations[0].id: is text, not a whole number: '1'. Fix: write 1"),
        (change(("annotations", 0, "id"), "a\n\x1b"), r"annotations[0].id: is text, not a whole number: 'a\n\x1b'"),
        (change(("annotations", 0, "iscrowd"), "0"), "annotations[0].iscrowd: is text, not 0 or 1"),
        (change(("annotations", 0, "video_id"), 8), "annotations[0].video_id: 8 is not the id of one of the videos"),
        (change(("annotations", 0, "category_id"), 8), "8 is not the id of one of the categories"),
        (
            change(("annotations", 0, "segmentations"), [None]),
            "annotations[0].segmentations: 1 masks for the 2 frames of video 7",
        ),
        (change(("annotations", 0, "segmentations"), [[[1]], None]), "a polygon is not a list"),
        (change(("annotations", 0, "segmentations"), [{"size": [6, 8], "counts": "9"}, None]), "damaged mask"),
        (change(("annotations", 0, "areas"), [-1, None]), "annotations[0].areas: is not a list of pixels"),
        (change(("annotations", 0, "areas"), [10**400, None]), "annotations[0].areas: is not a list of pixels"),
        (
            change(("annotations", 0, "id"), 1.0),
            "annotations[0].id: 1.0 is not written as a whole number. Fix: write 1",
        ),
        (change(("videos", 0, "length"), 3), "videos[0].length: length is 3, but file_names lists 2 frames"),
        (change(("videos", 0, "file_names"), []), "videos[0].file_names: the video has no frames"),
        (change(("categories",), [{"id": 4}, {"id": 4}]), "categories[1]: the id 4 occurs twice"),
        (change(("videos", 0, "height"), 0), "videos[0]: size 0 x 8 is not between 1 and"),
        (change(("videos", 0, "width"), 10**9), "videos[0]: size 6 x 1000000000 is not between"),
    ],
)
def test_a_damaged_ground_truth_is_refused_by_name(tmp_path: Path, truth: Any, message: str) -> None:
    paths = written(tmp_path, truth, [row()])
    with pytest.raises(DataError) as caught:
        evaluate_files(*paths)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(paths[0]))
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(segmentations=[RLE, {"size": [6, 8], "counts": "9"}]), "row 1: segmentations[1]: damaged mask"),
        (row(segmentations=[RLE]), "row 1: segmentations: has 1 frames, video 7 has 2"),
        (
            row(segmentations=[{"size": [8, 6], "counts": RLE["counts"]}] * 2),
            "row 1: segmentations: the masks are 8 x 6 pixels, video 7 6 x 8 (height x width): height and width are "
            "swapped. Fix: write size as [height, width]",
        ),
        (
            row(segmentations=[{"size": [3, 4], "counts": "<"}] * 2),
            "the masks are 3 x 4 pixels, video 7 6 x 8 (height x width). Fix: give masks the size of their video",
        ),
        (row(segmentations=[{"size": [10**9, 10**9], "counts": "0"}] * 2), "over the limit of"),
        (row(video_id=8), "1 video(s) not in the ground truth, the first is 8"),
    ],
)
def test_damaged_results_are_refused_by_row(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    paths = written(tmp_path, tree(), [row(), bad])
    with pytest.raises(DataError) as caught:
        evaluate_files(*paths)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(paths[1]))


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        (None, "there are no annotations"),
        ("absent", "there are no annotations"),
        ([], "there are no annotations"),
        ([{"iscrowd": 1}], "annotations: 1, crowds: 1, others without a pixel: 0"),
        (
            [
                {"segmentations": [None, None]},
                {"segmentations": [[], {"size": [6, 8], "counts": [48]}]},
                {"iscrowd": 1},
            ],
            "annotations: 3, crowds: 1, others without a pixel: 2",
        ),
    ],
)
def test_a_ground_truth_in_which_nothing_can_be_found_is_refused(
    tmp_path: Path, annotations: list[dict[str, Any]] | str | None, found: str
) -> None:
    truth = tree()
    if annotations == "absent":
        del truth["annotations"]
    else:
        own = truth["annotations"][0]
        truth["annotations"] = annotations and [own | {"id": n} | a for n, a in enumerate(annotations, 1)]
    paths = written(tmp_path, truth, [row()])
    with pytest.raises(DataError) as caught:
        evaluate_files(*paths)
    problem = f"annotations: has no annotated instance, so AP is undefined ({found})"
    fix = "evaluate on a split with labels; public validation sets have none"
    assert str(caught.value) == f"{paths[0]}: {problem}. Fix: {fix}"


def test_a_key_of_nearly_the_name_is_named(tmp_path: Path) -> None:
    truth = tree()
    truth["annotation"] = truth.pop("annotations")
    truth["video"] = truth.pop("videos")
    with pytest.raises(DataError, match=r"videos: the key is missing \(there is 'video'\)\. Fix: name it 'videos'"):
        read_truth(written(tmp_path, truth, [])[0])


def test_a_missing_ground_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gt\.json: cannot be read"):
        read_truth(tmp_path / "gt.json")


def test_a_list_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    truth, _ = written(tmp_path, tree(), [])
    truth.write_text('{"videos": [], ' + truth.read_text()[1:])
    with pytest.raises(DataError, match=r"gt\.json: line 1, .*not valid JSON \(The name 'videos' occurs twice"):
        read_truth(truth)


def test_the_zip_to_upload_holds_one_results_json(tmp_path: Path) -> None:
    predictions = [VideoPrediction(7, (Track(1, 0.5, (masks.encode(SQUARE), None)),))]
    write_results(tmp_path / "results.json", predictions, [9, 4])
    write_results(tmp_path / "upload.zip", predictions, [9, 4])
    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert archive.read("results.json") == (tmp_path / "results.json").read_bytes()


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_rows_come_one_by_one_whatever_the_chunks(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncvis.evaluation.json_rows._CHUNK", chunk)
    path = tmp_path / "rows.json"
    for value in ([], [1], [12, -3.5, "a]b", None, {"k": [1, {"é": "[,"}]}, [], [[2]]]):
        for text in (json.dumps(value), json.dumps(value, indent=2) + " \n"):
            path.write_text(text)
            assert list(json_rows(path)) == value
    for text in ("[1,]", "[1 2]", "[,1]", "[1", "[1]]", "[1] 2", "[1,", "]", '["a', "[nul]"):
        path.write_text(text)
        with pytest.raises(DataError):
            list(json_rows(path))
