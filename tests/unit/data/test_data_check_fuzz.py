"""Random damage: a check ends with a report, mending with a file, and what a check calls free of errors can be read."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import Copy, clean_copy
from mutations import mutate_bytes, mutate_masks, mutate_tree
from PIL import Image

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Severity
from syncvis.data.check.mending import fix_file
from syncvis.data.check.text import render, to_json
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError

ROUNDS = int(os.environ.get("SYNCVIS_FUZZ_ROUNDS", "120"))
"""Of each kind; more by hand, to look for new faults."""


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Two videos, for speed. Files are damaged one after the other."""
    data = clean_copy(tiny_data, tmp_path_factory.mktemp("fuzz") / "copy")
    data.tree["videos"] = data.tree["videos"][:2]
    data.tree["annotations"] = [entry for entry in data.tree["annotations"] if entry["video_id"] <= 2]
    data.save()
    return data


def _load_everything(root: Path, name: str) -> None:
    dataset = VideoDataset.load(root, name)
    for video in dataset.videos:
        for t in range(len(video)):
            dataset.read_frame(video, t)
            for track in video.tracks:
                track.mask(t)


def _assert_handled(data: Copy) -> None:
    report = check_file(data.source, Settings(deep=True))
    assert "\n".join(render(report, None)).encode()
    json.dumps(to_json(report))
    if not report.count(Severity.ERROR):
        _load_everything(data.root, data.source.name)
    out = data.root / "fixed.json"
    out.unlink(missing_ok=True)
    try:
        fixed = fix_file(data.source, out, Settings(deep=True))
    except DataError:
        assert [finding.code for finding in report.findings] == ["json"]
        return
    assert not [finding for finding in fixed.remains.findings if finding.mend]
    assert check_file(out, Settings(deep=True)).findings == fixed.remains.findings


@pytest.mark.parametrize("mutate", [mutate_tree, mutate_masks], ids=["tree", "masks"])
def test_damaged_trees(data: Copy, mutate: Any) -> None:
    clean = json.dumps(data.tree)
    for seed in range(ROUNDS):
        tree = json.loads(clean)
        mutate(tree, random.Random(seed))
        data.source.write_text(json.dumps(tree))
        _assert_handled(data)


def test_damaged_json(data: Copy) -> None:
    clean = json.dumps(data.tree).encode()
    for seed in range(ROUNDS):
        data.source.write_bytes(mutate_bytes(clean, random.Random(seed)))
        _assert_handled(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_damaged_images(data: Copy, format: str, tmp_path: Path) -> None:
    data.save()
    path, kept = data.image, tmp_path / "kept"
    shutil.copy(path, kept)
    with Image.open(kept) as image:
        image.save(tmp_path / "clean", format)
    clean = (tmp_path / "clean").read_bytes()
    for seed in range(ROUNDS // 4):
        path.write_bytes(mutate_bytes(clean, random.Random(seed)))
        report = check_file(data.source, Settings(deep=True))
        assert {finding.code for finding in report.findings} <= {"unreadable-image", "image-size", "image-bomb"}
        if not report.findings:
            _load_everything(data.root, data.source.name)
    shutil.copy(kept, path)
