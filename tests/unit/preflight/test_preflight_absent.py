"""What is not there, and that the commands of its fix bring it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.config import RunConfig
from syncvis.data.published import find
from syncvis.preflight import Problem, look
from syncvis.preflight.benchmarks import BENCHMARKS, LABELS, PLACES, benchmark_of, labels_in

Run = Callable[..., tuple[int, str, str]]

SPLIT = {"data.train": "train_split.json", "data.valid": "valid_split.json"}
COCO = {"root": "data/coco", "train": "annotations/instances_train2017.json", "format": "coco"}
YOUTUBE = "https://youtube-vos.org/dataset/vis/"


def _config(root: str, **changes: object) -> RunConfig:
    return tiny_config({**SPLIT, **{key.replace("__", "."): value for key, value in changes.items()}}, root)


def _problems(config: RunConfig) -> tuple[Problem, ...]:
    return look(config).problems


def _fixes(config: RunConfig) -> list[str]:
    return [str(problem.error.fix) for problem in _problems(config)]


def _commands(problems: Sequence[Problem]) -> list[list[str]]:
    """The commands of all fixes in order, each once, without the word syncvis."""
    steps = [step for problem in problems for step in re.split(r"; (?:then|or) ", str(problem.error.fix))]
    return [shlex.split(step)[1:] for step in dict.fromkeys(steps) if step.startswith("syncvis ")]


def _lay_out(source: Path, frames: str, labels: str) -> None:
    """A small data set as its publisher has it, in the working directory."""
    shutil.copytree(source / "JPEGImages", frames)
    Path(labels).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "train.json", labels)


GET = "get the training set of {}: its frames as {}/<video>/, its annotations as {} ({}); then syncvis data split {}"
FOLDERS = [
    ("ytvis_2019", "YouTube-VIS 2019", "train/JPEGImages", "train.json", YOUTUBE, "../train.json"),
    ("ytvis_2021", "YouTube-VIS 2021", "train/JPEGImages", "train/instances.json", YOUTUBE, "instances.json"),
    ("ytvis_2022", "YouTube-VIS 2022", "train/JPEGImages", "train/instances.json", YOUTUBE, "instances.json"),
    ("ovis", "OVIS", "train", "annotations_train.json", "https://songbai.site/ovis/", "../annotations_train.json"),
]


@pytest.mark.parametrize(("folder", "name", "frames", "labels", "page", "split"), FOLDERS, ids=[f[0] for f in FOLDERS])
def test_a_public_data_set_and_its_split(
    syncvis: Run, tiny_data: Path, folder: str, name: str, frames: str, labels: str, page: str, split: str
) -> None:
    """From nothing: what the fix says, done by hand, then its command; each time less is missing."""
    root, base = f"data/{folder}/train", f"data/{folder}"
    config = _config(root)
    (problem,) = _problems(config)
    assert (problem.what, problem.state) == ("data set", "absent")
    wanted = GET.format(name, f"{base}/{frames}", f"{base}/{labels}", page, f"{root} --split {split} --valid 0.2")
    assert problem.error.fix == f"{wanted}; or set data.root=FOLDER"
    _lay_out(tiny_data, f"{base}/{frames}", f"{base}/{labels}")
    assert [(p.what, p.state) for p in _problems(config)] == [
        ("training data", "missing"),
        ("validation data", "missing"),
    ]
    (command,) = _commands(_problems(config))
    assert command == ["data", "split", root, "--split", split, "--valid", "0.2"]
    assert syncvis(*command)[0] == 0
    assert _problems(config) == ()


@pytest.mark.parametrize("labels", [str(Path(place) / name) for place in PLACES for name in LABELS])
def test_the_labels_that_lie_there_are_cut(syncvis: Run, tiny_data: Path, labels: str) -> None:
    """Also where other projects keep them, and beside files of other splits."""
    _lay_out(tiny_data, "videos/train/JPEGImages", f"videos/train/{labels}")
    shutil.copy(tiny_data / "valid.json", "videos/valid.json")
    config = _config("videos/train")
    (command,) = _commands(_problems(config))
    assert Path(command[4]) == Path(labels)
    assert syncvis(*command)[0] == 0
    assert _problems(config) == ()


def test_one_half_of_a_split_is_cut_anew(syncvis: Run, tiny_data: Path) -> None:
    _lay_out(tiny_data, "videos/JPEGImages", "videos/train.json")
    config = _config("videos")
    assert syncvis(*_commands(_problems(config))[0])[0] == 0
    Path("videos/valid_split.json").unlink()
    (command,) = _commands(_problems(config))
    assert command[-1] == "--force"
    assert syncvis(*command)[0] == 0
    assert _problems(config) == ()


@pytest.mark.usefixtures("syncvis")
def test_labels_that_are_not_there(tiny_data: Path) -> None:
    """In the folder of a public data set, and in another one."""
    Path("data/ovis/train").mkdir(parents=True)
    first, second = _fixes(_config("data/ovis/train"))
    assert first == second
    assert first.startswith("get the training set of OVIS: ")
    assert "; then syncvis data split data/ovis/train --split ../annotations_train.json --valid 0.2; or name " in first
    Path("my videos").mkdir()
    assert _fixes(_config("my videos"))[0] == (
        "put the annotations of the training set, YouTube-VIS JSON, as my videos/train.json; then syncvis data split "
        "'my videos' --split train.json --valid 0.2; or name files of your own with data.train and data.valid"
    )


@pytest.mark.usefixtures("syncvis")
def test_all_videos_as_the_papers_train_on_them(tiny_data: Path) -> None:
    """``data.train=../train.json``: the published file itself is missing."""
    shutil.copytree(tiny_data / "JPEGImages", "data/ytvis_2019/train/JPEGImages")
    (problem, _) = _problems(_config("data/ytvis_2019/train", data__train="../train.json"))
    assert problem.state == "missing"
    assert problem.error.fix == (
        "get the training set of YouTube-VIS 2019: its frames as data/ytvis_2019/train/JPEGImages/<video>/, its "
        f"annotations as data/ytvis_2019/train.json ({YOUTUBE}); or set data.train=FILE"
    )


@pytest.mark.usefixtures("syncvis")
def test_a_name_that_nothing_makes_is_wrong(tiny_data: Path) -> None:
    _lay_out(tiny_data, "data/ytvis_2019/train/JPEGImages", "data/ytvis_2019/train.json")
    (problem,) = _problems(_config("data/ytvis_2019/train", data__train="../train.json", data__valid="walid.json"))
    assert problem.state == "wrong"
    assert problem.error.fix == (
        "set data.valid=FILE; or cut a labelled file in two: syncvis data split data/ytvis_2019/train "
        "--split ../train.json --out-train FILE --out-valid FILE"
    )


def _coco(source: Path, root: Path) -> None:
    """Two images with one class of the videos each."""
    tree = json.loads((source / "train.json").read_text())
    frame = source / "JPEGImages" / tree["videos"][0]["file_names"][0]
    size = {key: tree["videos"][0][key] for key in ("height", "width")}
    (root / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    shutil.copy(frame, root / "train2017" / "1.png")
    shape: dict[str, Any] = {"segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 0, "category_id": 1}
    coco = {
        "images": [{"id": 1, "file_name": "1.png", **size}],
        "annotations": [{"id": 1, "image_id": 1, **shape}],
        "categories": [{"id": 1, "name": tree["categories"][0]["name"]}],
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(coco))


@pytest.mark.usefixtures("syncvis")
def test_coco_to_mix_in(tiny_data: Path) -> None:
    """The folder, then the file in it; then it is there."""
    config = tiny_config({"data.mix": [COCO]}, tiny_data)
    wanted = (
        "get the training set of COCO 2017: its images as data/coco/train2017/, its annotations as "
        "data/coco/annotations/instances_train2017.json (https://cocodataset.org/#download); "
        "or leave it out with data.mix=[]"
    )
    (problem,) = _problems(config)
    assert (problem.what, problem.state, problem.error.fix) == ("data set to mix in", "absent", wanted)
    Path("data/coco/train2017").mkdir(parents=True)
    (problem,) = _problems(config)
    assert (problem.state, problem.error.fix) == ("missing", wanted)
    (problem,) = _problems(tiny_config({"data.mix": [{**COCO, "train": "instances.json"}]}, tiny_data))
    assert (problem.state, problem.error.fix) == (
        "wrong",
        "correct the file's name; or leave it out with data.mix=[]",
    )
    shutil.rmtree("data/coco")
    _coco(tiny_data, Path("data/coco"))
    assert _problems(config) == ()


@pytest.mark.usefixtures("syncvis")
def test_videos_to_mix_in(syncvis: Run, tiny_data: Path) -> None:
    mix = [{"root": "data/ovis/train", "train": "train_split.json"}]
    config = tiny_config({"data.mix": mix}, tiny_data)
    (fix,) = _fixes(config)
    assert fix.startswith("get the training set of OVIS: ")
    assert fix.endswith("; or leave it out with data.mix=[]")
    _lay_out(tiny_data, "data/ovis/train", "data/ovis/annotations_train.json")
    (command,) = _commands(_problems(config))
    assert syncvis(*command)[0] == 0
    assert _problems(config) == ()


def test_synthetic_videos_are_made(syncvis: Run) -> None:
    config = tiny_config({}, "outputs/synthetic")
    (command,) = _commands(_problems(config))
    assert command == ["data", "synth", "outputs/synthetic"]
    assert syncvis(*command, "train=2", "valid=2", "test=1", "stills=1", "frames=2", "height=32", "width=48")[0] == 0
    assert _problems(config) == ()


def test_embeddings_of_class_names_are_made_for_the_run(syncvis: Run, tiny_data: Path) -> None:
    """Of the classes of its training split, in the width that its model reads."""
    method = {"name": "tmt_vis", "text": "weights/text.safetensors", "width": 24}
    config = tiny_config({"method": method}, tiny_data)
    (problem,) = _problems(config)
    assert (problem.what, problem.state) == ("class-name embeddings", "absent")
    command = f"syncvis data text {tiny_data} --split train.json --width 24 --out weights/text.safetensors"
    assert str(problem.error.fix).startswith(f"{command}; or --encoder MODULE:FUNCTION ")
    assert syncvis(*_commands([problem])[0])[0] == 0
    assert _problems(config) == ()


def test_the_public_data_sets() -> None:
    """Their pages are those of the table of published numbers, and so is K where that names it."""
    for known in BENCHMARKS:
        published = find(known.name)
        assert known.page.removeprefix("https://").rstrip("/") in published.source
        assert published.values["categories"] in (str(known.classes), "")
        assert benchmark_of(Path("/somewhere") / known.folder / "train") is known
    assert benchmark_of(Path("data/ytvis_2019_small")) is None


def test_files_of_other_splits_are_no_labels(tmp_path: Path) -> None:
    for name in ("valid.json", "test.json", "train_split.json", "valid_split.json", "annotations_valid.json"):
        (tmp_path / name).write_text("{}")
    assert labels_in(tmp_path) is None
