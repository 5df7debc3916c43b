"""What of a data set stands in the way of a run: labels, frames, classes, files that are not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syncvis.data.video_writer import write_video
from syncvis.errors import DataError
from syncvis.preflight import Look

Errors = Callable[..., list[str]]
Change = Callable[[str, Callable[[dict[str, Any]], object]], None]
Tree = dict[str, Any]

EMPTY = {"size": [32, 48], "counts": [32 * 48]}


def _crowds(tree: Tree) -> None:
    for annotation in tree["annotations"]:
        annotation["iscrowd"] = 1


def _masks(mask: object) -> Callable[[Tree], None]:
    def edit(tree: Tree) -> None:
        for annotation in tree["annotations"]:
            annotation["segmentations"] = [mask] * 4

    return edit


def _mixture(tree: Tree) -> None:
    _crowds(tree)
    tree["annotations"] = tree["annotations"][:3]
    tree["annotations"][1] |= {"iscrowd": 0, "segmentations": [None] * 4}
    tree["annotations"][2] |= {"iscrowd": 0, "segmentations": [EMPTY] * 4}


NOTHING = [
    (lambda tree: tree.update(annotations=[]), "4 videos, 0 annotations"),
    (lambda tree: tree.update(annotations=None), "4 videos, 0 annotations"),
    (lambda tree: tree.pop("annotations"), "4 videos, 0 annotations"),
    (_crowds, "4 videos, {n} annotations: {n} crowds"),
    (_masks(None), "4 videos, {n} annotations: {n} without a mask"),
    (_masks(EMPTY), "4 videos, {n} annotations: {n} with empty masks only"),
    (_mixture, "4 videos, 3 annotations: 1 crowd, 1 without a mask, 1 with empty masks only"),
]
KINDS = ["empty", "null", "absent", "crowds", "null masks", "empty masks", "mixture"]


def test_a_whole_data_set_has_no_problem(look_at: Callable[..., Look], root: Path) -> None:
    found = look_at()
    assert (found.problems, found.notes) == ((), ())
    assert found.categories == found.splits.train.categories
    assert found.splits.valid.source == root / "valid.json"


@pytest.mark.parametrize(("edit", "counts"), NOTHING, ids=KINDS)
def test_a_training_split_without_a_usable_annotation(
    errors: Errors, change: Change, root: Path, edit: Callable[[Tree], object], counts: str
) -> None:
    number = len(json.loads((root / "train.json").read_text())["annotations"])
    change("train.json", edit)
    wanted = f"{root / 'train.json'}: annotations: {counts.format(n=number)}; nothing to train on."
    (error,) = errors()
    assert error.startswith(wanted)
    assert errors() == [error], "a remembered look says the same"


@pytest.mark.parametrize(("edit", "counts"), NOTHING[3:6], ids=KINDS[3:6])
def test_a_validation_split_in_which_there_is_nothing_to_find(
    errors: Errors, change: Change, root: Path, edit: Callable[[Tree], object], counts: str
) -> None:
    number = len(json.loads((root / "valid.json").read_text())["annotations"])
    change("valid.json", edit)
    said = counts.replace("4 videos", "2 videos").format(n=number)
    (error,) = errors()
    assert error.startswith(
        f"{root / 'valid.json'}: annotations: has no annotated instance, so AP is undefined ({said})"
    )


def test_one_instance_is_enough(errors: Errors, change: Change) -> None:
    def leave_one(tree: Tree) -> None:
        _crowds(tree)
        tree["annotations"][-1]["iscrowd"] = 0

    change("train.json", leave_one)
    assert errors() == []


def test_only_the_chosen_videos_count(errors: Errors, change: Change, root: Path) -> None:
    ids = [video["id"] for video in json.loads((root / "train.json").read_text())["videos"]]
    shared = {video["id"] for video in json.loads((root / "valid.json").read_text())["videos"]} & set(ids)
    first, second = sorted(shared)[:2]
    change("train.json", lambda tree: [a.update(iscrowd=1) for a in tree["annotations"] if a["video_id"] == first])
    assert errors(data__videos=[first, second]) == []
    (error,) = errors(data__videos=[first])
    assert "1 video, " in error
    assert "nothing to train on" in error


def test_damaged_masks_are_found_before_one_is_drawn(errors: Errors, change: Change) -> None:
    def damage(tree: Tree) -> None:
        for place in (0, 1):
            tree["annotations"][place]["segmentations"] = [{"size": [32, 48], "counts": "5220"}] * 4

    change("train.json", damage)
    (error,) = errors()
    assert "train.json: annotations[0].segmentations[0]: " in error
    assert "(and 7 more masks are damaged;" in error


def test_faulty_frames_are_told_by_video(errors: Errors, root: Path) -> None:
    videos = json.loads((root / "train.json").read_text())["videos"]
    frames = root / "JPEGImages"
    for video in videos[:2]:
        shutil.rmtree(frames / Path(video["file_names"][0]).parent)
    (frames / videos[2]["file_names"][3]).unlink()
    small, broken = videos[3]["file_names"][:2]
    Image.new("RGB", (5, 7)).save(frames / small)
    (frames / broken).write_text("no picture")
    ids = [video["id"] for video in videos]
    missing, size, unreadable = errors()
    place = f"{root / 'train.json'}: {frames}: "
    whole = f"videos {ids[0]}, {ids[1]}: all 4 frames missing"
    assert missing.startswith(f"{place}{whole}; video {ids[2]}: 1 ({videos[2]['file_names'][3]}). Fix: ")
    assert size.startswith(f"{place}video {ids[3]}: 1 frame of a wrong size ({small} is 7 x 5, not 32 x 48). Fix: ")
    assert unreadable.startswith(f"{place}video {ids[3]}: 1 frame unreadable (")
    assert f"{broken}" in unreadable


def test_frames_of_the_validation_split_are_looked_at_too(errors: Errors, root: Path) -> None:
    name = json.loads((root / "valid.json").read_text())["videos"][1]["file_names"][-1]
    (root / "JPEGImages" / name).unlink()
    (error,) = errors()
    assert error.startswith(f"{root / 'valid.json'}: ")
    assert name in error


def test_classes_with_other_ids_and_in_another_order_are_found_by_name(
    look_at: Callable[..., Look], change: Change, root: Path
) -> None:
    before = look_at().splits.valid

    def renumber(tree: Tree) -> None:
        for entry, key in [(c, "id") for c in tree["categories"]] + [(a, "category_id") for a in tree["annotations"]]:
            entry[key] = 7 + 100 * entry[key]
        tree["categories"].reverse()

    change("valid.json", renumber)
    found = look_at()
    assert found.problems == ()
    assert [note.split(": ")[0] for note in found.notes] == [str(root / "valid.json")]
    after = found.splits.valid
    assert [c.name for c in after.categories] == [c.name for c in before.categories]
    assert [c.id for c in after.categories] == [7 + 100 * c.id for c in before.categories]
    labels = [[[track.label for track in video.tracks] for video in dataset.videos] for dataset in (before, after)]
    assert labels[0] == labels[1]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tree: tree["categories"][0].update(name="moon"), "only in valid.json: 'moon'; 5 alike"),
        (lambda tree: tree["categories"].append({"id": 99, "name": "moon"}), "only in valid.json: 'moon'; 6 alike"),
        (lambda tree: tree["categories"][0].update(name=tree["categories"][1]["name"]), "only in train.json"),
    ],
    ids=["renamed", "one more", "a name twice"],
)
def test_other_classes_are_refused_by_name(
    errors: Errors, look_at: Callable[..., Look], change: Change, root: Path, edit: Callable[[Tree], object], said: str
) -> None:
    change("valid.json", edit)
    (error,) = errors()
    assert error.startswith(f"{root / 'valid.json'}: categories: differ from those of train.json: ")
    assert said in error
    with pytest.raises(DataError, match="differ from those of train"):
        _ = look_at().splits.valid


def test_a_data_set_to_mix_in_is_looked_at_for_the_classes_of_the_training(
    errors: Errors, change: Change, root: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    mixed = {"data__mix": [{"root": str(other)}]}
    assert errors(**mixed) == []
    name = json.loads((other / "train.json").read_text())["videos"][0]["file_names"][0]
    (other / "JPEGImages" / name).unlink()
    tree = json.loads((other / "train.json").read_text())
    _crowds(tree)
    (other / "train.json").write_text(json.dumps(tree))
    frames, labels = errors(**mixed)
    assert frames.startswith(f"{other / 'train.json'}: {other / 'JPEGImages'}: ")
    assert "nothing to train on" in labels
    (gone,) = errors(data__mix=[{"root": str(other), "train": "none.json"}])
    assert gone.startswith(f"{other / 'none.json'}: data.mix[0]: there is no such file")


def test_a_folder_that_is_not_here_is_told_once(look_at: Callable[..., Look], root: Path) -> None:
    (problem,) = look_at(data__root=str(root.parent / "ytvis")).problems
    assert problem.is_absent
    assert str(problem.error) == (
        f"{root.parent / 'ytvis'}: data.root: there is no such folder. "
        "Fix: put the data set there; or set data.root=FOLDER"
    )
    (problem,) = look_at(data__root=str(root.parent / "synthetic")).problems
    wanted = f"Fix: syncvis data synth {root.parent / 'synthetic'}; or set data.root=FOLDER"
    assert str(problem.error).endswith(wanted)


def test_a_split_that_is_not_here_is_to_be_cut_from_the_labels(errors: Errors, root: Path) -> None:
    (error,) = errors(data__train="train_split.json")
    assert error.startswith(f"{root / 'train_split.json'}: data.train: there is no such file. Fix: ")
    assert f"syncvis data split {root} --split train.json" in error
    assert "data synth" not in error
    (root / "train.json").rename(root.parent / "train.json")
    (error,) = errors(data__train="train_split.json")
    assert f"syncvis data split {root} --split ../train.json" in error
    (error,) = errors(data__valid="val.json", data__train="../train.json")
    assert "set data.valid=FILE (there: stills.json" in error


def test_a_damaged_file_is_one_problem(look_at: Callable[..., Look], root: Path) -> None:
    (root / "train.json").write_text("{")
    found = look_at()
    assert [(problem.what, problem.is_absent) for problem in found.problems] == [("training data", False)]
    assert found.categories is None


def test_a_folder_or_a_pipe_in_place_of_the_file(errors: Errors, root: Path) -> None:
    (root / "train.json").unlink()
    os.mkfifo(root / "train.json")
    assert errors() == [
        f"{root / 'train.json'}: data.train: is not a file. Fix: give the path of a JSON file that can be read"
    ]


def test_frames_of_video_files(errors: Errors, root: Path) -> None:
    video = json.loads((root / "train.json").read_text())["videos"][0]
    frames = [np.asarray(Image.open(root / "JPEGImages" / name)) for name in video["file_names"]]
    write_video(root / "JPEGImages" / "a.mp4", lambda: frames, 4)
    tree = {**json.loads((root / "train.json").read_text()), "videos": [{**video, "file_name": "a.mp4"}]}
    del tree["videos"][0]["file_names"]
    tree["annotations"] = [a for a in tree["annotations"] if a["video_id"] == video["id"]]
    (root / "train.json").write_text(json.dumps(tree))
    assert errors() == errors() == []
    write_video(root / "JPEGImages" / "a.mp4", lambda: frames[:3], 4)
    (error,) = errors()
    assert "videos[0].length: length is 4, but the video has 3 frames" in error


def test_stills_of_coco_are_called_images(errors: Errors, root: Path, tmp_path: Path) -> None:
    names = [c["name"] for c in json.loads((root / "train.json").read_text())["categories"]]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 8} for n in range(3)]
    polygon = {"image_id": 0, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    coco = {
        "images": images,
        "annotations": [{**polygon, "id": n, "image_id": n} for n in range(2)],
        "categories": [{"id": 1, "name": names[0]}],
    }
    folder = tmp_path / "coco" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "coco" / "stills.json").write_text(json.dumps(coco))
    Image.new("RGB", (9, 8)).save(folder / "0.jpg")
    mix = {"data__mix": [{"root": str(tmp_path / "coco"), "train": "stills.json", "format": "coco"}]}
    (error,) = errors(**mix)
    assert f"{folder}: image 1: 1 frame missing (1.jpg). Fix: " in error, "images without an instance are never drawn"
    Image.new("RGB", (9, 8)).save(folder / "1.jpg")
    assert errors(**mix) == []
