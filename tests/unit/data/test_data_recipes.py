"""The recipes in docs/data.md give files that can be trained on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import SQUARE, cocovid_tree, cvat_tree, write_tiny

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.ytvis import VideoDataset

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
PER_IMAGE, PNGS, *_ = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def _converted(root: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> VideoDataset:
    monkeypatch.chdir(root)
    exec(compile(recipe, "docs/data.md", "exec"), {})
    assert check_file(root / "train.json", Settings(deep=True)).findings == ()
    return VideoDataset.load(root, "train.json")


@pytest.mark.parametrize("tree", [cocovid_tree(), cvat_tree()], ids=["CocoVID", "CVAT"])
def test_tracks_of_single_images(tmp_path: Path, tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny(tmp_path, tree)
    tree["annotations"].reverse()
    (tmp_path / "tracks.json").write_text(json.dumps(tree))
    (video,) = _converted(tmp_path, PER_IMAGE, monkeypatch).videos
    assert video.file_names == ("v1/0.jpg", "v1/1.jpg")
    (track,) = video.tracks
    assert [track.mask(t).sum() for t in range(2)] == [4, 4]


def test_masks_as_png_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny(tmp_path, {})
    (tmp_path / "Annotations" / "v1").mkdir(parents=True)
    label = np.zeros((4, 6), np.uint8)
    label[1:3, 1:3], label[3, 5], label[0, 0] = 1, 2, 255
    Image.fromarray(label).save(tmp_path / "Annotations" / "v1" / "0.png")
    Image.fromarray(label * (label == 1)).save(tmp_path / "Annotations" / "v1" / "2.png")
    (tmp_path / "gt.json").unlink()
    (video,) = _converted(tmp_path, PNGS, monkeypatch).videos
    assert [[int(track.mask(t).sum()) for t in range(3)] for track in video.tracks] == [[4, 0, 4], [1, 0, 0]]
    assert SQUARE["size"] == [video.height, video.width]
