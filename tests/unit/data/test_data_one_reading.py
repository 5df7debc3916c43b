"""One reading: the check, the statistics, training, viewing and the evaluations say the same about the same file.

Each file, mutated at random or damaged on purpose, goes through all of them. Who refuses it, the check has an error;
where the check has none, all read it and count the same. What may differ is named in :data:`OTHER_WORK`.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES, Copy, clean_copy
from mutations import mutate_bytes, mutate_masks, mutate_tree, slip

from syncvis.data.check.checking import Settings, check_file, parse
from syncvis.data.check.findings import Report, Severity
from syncvis.data.check.images import FrameLooker
from syncvis.data.check.views import Tree
from syncvis.data.stats import count
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.evaluation.annotations import read_truth
from syncvis.evaluation.files import evaluate_files
from syncvis.evaluation.truth import GroundTruthTrack

ROUNDS = int(os.environ.get("SYNCVIS_FUZZ_ROUNDS", "60"))
"""Of each kind; more by hand, to look for new disagreements."""

UNDEFINED = "so AP is undefined"
"""An evaluation needs something to find; for the check that is a split without labels, a note or a warning."""

OTHER_WORK = {
    "load": "frames and compressed counts are not read yet",
    "stats": "frames are not read",
    "view": "everything is read",
    "truth": "there are no frames, names of classes may be missing, and masks are for the evaluation to read",
    "evaluation": "there are no frames, and names of classes may be missing",
}
"""Why a way to read a file may take one in which the check has an error."""


@dataclass
class Readings:
    """What each way to read a file gave: (videos, instances, masks with a pixel), or its error."""

    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    errors: dict[str, DataError] = field(default_factory=dict)

    def add(self, name: str, read: Callable[[], tuple[int, int, int] | None]) -> None:
        try:
            if (found := read()) is not None:
                self.counts[name] = found
        except DataError as error:
            self.errors[name] = error


def _of_stats(dataset: VideoDataset) -> tuple[int, int, int]:
    found = count(dataset).summary()
    return found["videos"], found["instances"], found["masks"]


def _of_view(dataset: VideoDataset) -> tuple[int, int, int]:
    """Everything is decoded, as for a picture of it."""
    masks = 0
    for video in dataset.videos:
        for t in range(len(video)):
            dataset.read_frame(video, t)
            masks += sum(track.mask(t).any() for track in video.tracks)
    return len(dataset.videos), sum(len(video.tracks) for video in dataset.videos), masks


def _of_truth(source: Path) -> tuple[int, int, int]:
    videos = read_truth(source).videos
    tracks = [track for video in videos for track in video.tracks]
    return len(videos), len(tracks), sum(map(_seen, tracks))


def _seen(track: GroundTruthTrack) -> int:
    return sum(mask is not None for mask in track.segmentations)


def _of_check(source: Path) -> tuple[int, int, int]:
    tree = Tree(parse(source))
    clips = list(tree.clips(FrameLooker(source.parent / "JPEGImages", False), source))
    masks = sum(mask is not None and mask.area > 0 for clip in clips for track in clip.tracks for mask in track.masks)
    return len(tree.videos), len(tree.annotations), masks


def _readings(source: Path) -> Readings:
    readings, none = Readings(), source.parent / "none.json"
    none.write_text("[]")
    readings.add("load", lambda: VideoDataset.load(source.parent, source.name) and None)
    if not readings.errors:
        dataset = VideoDataset.load(source.parent, source.name)
        readings.add("stats", lambda: _of_stats(dataset))
        readings.add("view", lambda: _of_view(dataset))
    readings.add("truth", lambda: _of_truth(source))
    readings.add("evaluation", lambda: evaluate_files(source, none) and None)
    return readings


def _errors(report: Report) -> list[str]:
    return sorted({finding.code for finding in report.findings if finding.severity is Severity.ERROR})


def assert_one_reading(source: Path) -> None:
    """All ways to read a file agree about it."""
    report, readings = check_file(source, Settings(deep=True)), _readings(source)
    errors = _errors(report)
    refused = {name: error for name, error in readings.errors.items() if UNDEFINED not in error.problem}
    assert bool(refused) == bool(errors), (errors, {name: str(error) for name, error in refused.items()})
    assert set(refused) <= set(OTHER_WORK)
    if not errors:
        assert set(readings.counts.values()) == {_of_check(source)}, readings.counts


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Two videos, for speed. Files are damaged one after the other."""
    data = clean_copy(tiny_data, tmp_path_factory.mktemp("reading") / "copy")
    data.tree["videos"] = data.tree["videos"][:2]
    data.tree["annotations"] = [entry for entry in data.tree["annotations"] if entry["video_id"] <= 2]
    data.save()
    return data


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_on_purpose(tiny_data: Path, tmp_path: Path, kind: str) -> None:
    data = clean_copy(tiny_data, tmp_path / "copy")
    DAMAGES[kind](data)
    data.save()
    assert_one_reading(data.source)


@pytest.mark.parametrize("mutate", [mutate_tree, mutate_masks, slip], ids=["tree", "masks", "slips"])
def test_mutated_trees(data: Copy, mutate: Any) -> None:
    for seed in range(ROUNDS):
        tree = copy.deepcopy(data.tree)
        mutate(tree, random.Random(seed))
        data.source.write_text(json.dumps(tree))
        assert_one_reading(data.source)


def test_mutated_bytes(data: Copy) -> None:
    clean = json.dumps(data.tree).encode()
    for seed in range(ROUNDS):
        data.source.write_bytes(mutate_bytes(clean, random.Random(seed)))
        assert_one_reading(data.source)
