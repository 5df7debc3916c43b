"""Random damage: a check ends with a report, and what it calls free of errors can be read.

Mending ends with a file that has every label, but for those of dropped entries, which are counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from damage import Copy, clean_copy
from mutations import misspell, mutate_bytes, mutate_masks, mutate_tree
from PIL import Image

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Severity
from syncvis.data.check.mending import fix_file
from syncvis.data.check.text import render, to_json
from syncvis.data.formats import recognise
from syncvis.data.mask_faults import polygons_fault
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

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
        assert [finding.code for finding in report.findings] in (["json"], ["foreign-format"])
        return
    assert not [finding for finding in fixed.remains.findings if finding.mend and not finding.mend.drops]
    again = check_file(out, Settings(deep=True))
    assert again.findings == fixed.remains.findings
    if not again.count(Severity.ERROR):
        _load_everything(data.root, out.name)


def _entries(tree: Any, name: str) -> list[Any]:
    value = tree.get(name)
    return value if isinstance(value, list) else []


def _labels(tree: Any) -> dict[Any, list[int]]:
    """The pixels of the masks that can be read and have some, by the mark of their annotation."""
    found = {}
    for entry in _entries(tree, "annotations"):
        if isinstance(entry, dict):
            found[entry["mark"]] = [pixels for mask in _entries(entry, "segmentations") if (pixels := _pixels(mask))]
    return found


def _pixels(mask: Any) -> int:
    """Of an RLE or of the outline of a list of polygons, as far as they can be read."""
    with contextlib.suppress(DataError):
        if isinstance(mask, dict):
            size = mask.get("size")
            whole = isinstance(size, list) and all(isinstance(side, float) and side.is_integer() for side in size)
            return rle.area({**mask, "size": list(map(int, size))} if whole else mask)
        if isinstance(mask, list) and mask and polygons_fault(mask, 10**6, 10**6) is None:
            return len(mask)
    return 0


def _assert_nothing_is_lost(data: Copy, tree: Any) -> dict[str, int]:
    """Every entry is kept unless it is dropped on demand and counted, and every label of those that are kept."""
    for mark, entry in enumerate(_entries(tree, "annotations")):
        if isinstance(entry, dict):
            entry["mark"] = mark
    data.source.write_text(json.dumps(tree))
    before, dropped = _labels(json.loads(data.source.read_text())), {}
    for drop in (False, True):
        out = data.root / f"fixed-{drop}.json"
        out.unlink(missing_ok=True)
        try:
            dropped = dict(fix_file(data.source, out, Settings(), drop).dropped)
        except DataError:
            assert drop or recognise(tree)  # only what nothing would be left of, or what is no data set of ours
            assert not out.exists()
            return {}
        assert drop or not dropped
        written = json.loads(out.read_text())
        for name in ("videos", "categories", "annotations"):
            assert len(_entries(written, name)) == len(_entries(tree, name)) - dropped.get(name, 0)
        after = _labels(written)
        for mark in after:
            assert not _missing(before[mark], after[mark]), (mark, before[mark], after[mark])
    return dropped


def _missing(before: list[int], after: list[int]) -> list[int]:
    """What is in the first list and not in the second; masks that could not be read before may have come."""
    return list((Counter(before) - Counter(after)).elements())


@pytest.mark.parametrize("mutate", [mutate_tree, mutate_masks], ids=["tree", "masks"])
def test_damaged_trees(data: Copy, mutate: Any) -> None:
    clean = json.dumps(data.tree)
    for seed in range(ROUNDS):
        tree = json.loads(clean)
        mutate(tree, random.Random(seed))
        data.source.write_text(json.dumps(tree))
        _assert_handled(data)


def test_no_label_is_lost_uncounted(data: Copy) -> None:
    clean, lost = json.dumps(data.tree), Counter[str]()
    for seed in range(ROUNDS):
        tree, rng = json.loads(clean), random.Random(seed)
        mutate_tree(tree, rng)
        if rng.random() < 0.5:
            misspell(tree, rng)
        lost.update(_assert_nothing_is_lost(data, tree))
    assert lost["annotations"] > ROUNDS / 20


def test_every_spelling_is_mended(data: Copy) -> None:
    """Whatever is only written wrongly comes back as it was."""
    clean = json.dumps(data.tree)
    for seed in range(ROUNDS):
        tree = json.loads(clean)
        misspell(tree, random.Random(seed))
        data.source.write_text(json.dumps(tree))
        out = data.root / "fixed.json"
        out.unlink(missing_ok=True)
        fixed = fix_file(data.source, out, Settings())
        assert fixed.remains.findings == ()
        written = json.loads(out.read_text())
        for entry in written["annotations"]:
            entry["segmentations"] = [_canonical(mask) for mask in entry["segmentations"]]
        assert written == json.loads(clean)


def _canonical(mask: Any) -> Any:
    return mask and rle.from_runs(rle.runs(mask, "test"), *mask["size"])


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
