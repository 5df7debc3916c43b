"""What the official evaluator does not say: kinds of errors, identities, length and occlusion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syncvis.evaluation.summary import Details
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo
from syncvis.evaluation.ytvis import evaluate
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

LENGTH = 10


def strip(*parts: tuple[int, int, int, int]) -> tuple:
    """(LENGTH, 1, 40) as RLEs: each part (frames from, to, columns from, to) is filled."""
    tube = np.zeros((LENGTH, 1, 40), bool)
    for start, stop, left, right in parts:
        tube[start:stop, :, left:right] = True
    return tuple(masks.encode(frame) if frame.any() else None for frame in tube)


WHOLE, OTHER = strip((0, LENGTH, 0, 10)), strip((0, LENGTH, 20, 30))


def details(tracks: list[Track], crowd: bool = False) -> Details:
    annotated = [GroundTruthTrack(0, WHOLE), GroundTruthTrack(0, OTHER, iscrowd=crowd)]
    video = GroundTruthVideo(1, 1, 40, LENGTH, annotated)
    found = evaluate([video], [VideoPrediction(1, tuple(tracks))], ["a", "b"], details=True).details
    assert found is not None
    return found


SECOND = Track(0, 0.9, OTHER)


@pytest.mark.parametrize(
    ("kind", "wrong", "gain"),
    [
        ("class", Track(1, 0.8, WHOLE), 50),
        ("mask", Track(0, 0.8, strip((0, LENGTH, 0, 4))), 50),  # 40 % of the columns of every frame
        ("track", Track(0, 0.8, strip((0, 4, 0, 10))), 50),  # right, but lost after four of ten frames
        ("track", Track(0, 0.8, strip((0, 6, 0, 10), (6, 10, 30, 40))), 50),  # gone astray
        ("background", Track(0, 0.95, strip((0, LENGTH, 32, 40))), 25),
        ("duplicate", Track(0, 0.8, OTHER), 0),
    ],
)
def test_a_wrong_track_has_its_kind(kind: str, wrong: Track, gain: float) -> None:
    errors = details([SECOND, wrong]).errors
    assert {name for name, found in errors.items() if found["count"]} - {"miss"} == {kind}
    assert errors[kind]["count"] == 1
    assert errors["miss"]["count"] == (kind in ("background", "duplicate"))
    assert errors[kind]["AP50"] == pytest.approx(gain, abs=0.5)


def test_a_missed_instance_costs_its_share() -> None:
    errors = details([SECOND]).errors
    assert errors["miss"]["count"] == 1
    assert errors["miss"]["AP50"] == pytest.approx(50, abs=0.5)


def test_a_lost_trajectory_is_a_number() -> None:
    late = Track(0, 0.7, strip((7, LENGTH, 0, 10)))
    early = Track(0, 0.8, strip((0, 4, 0, 10)))
    tracking = details([early, late, SECOND]).tracking
    assert tracking["switches"] == 1
    assert tracking["purity"] == 1
    assert tracking["coverage"] == pytest.approx(14 / 20)  # 4 of 10 frames, and all 10
    assert tracking["lost"] == pytest.approx(3 / 20)


def test_swapped_identities_are_switches_and_not_pure() -> None:
    swapped = [
        Track(0, 0.8, strip((0, 6, 0, 10), (6, 10, 20, 30))),
        Track(0, 0.8, strip((0, 6, 20, 30), (6, 10, 0, 10))),
    ]
    tracking = details(swapped).tracking
    assert tracking == {"switches": 2, "purity": 0.6, "coverage": 0.6, "lost": 0}


def test_unsure_tracks_and_crowds_have_no_identity() -> None:
    tracking = details([Track(0, 0.1, WHOLE), SECOND], crowd=True).tracking
    assert tracking["lost"] == 1
    assert math.isnan(tracking["purity"])


def test_ap_by_length_and_occlusion() -> None:
    apart = GroundTruthVideo(1, 1, 40, LENGTH, [GroundTruthTrack(0, WHOLE), GroundTruthTrack(0, OTHER)])
    long = tuple(WHOLE) * 2
    crossing = GroundTruthVideo(2, 1, 40, 2 * LENGTH, [GroundTruthTrack(0, long), GroundTruthTrack(0, long)])
    predictions = [VideoPrediction(1, (Track(0, 0.9, WHOLE), Track(0, 0.9, OTHER))), VideoPrediction(2, ())]
    result = evaluate([apart, crossing], predictions, ["a"], details=True)
    assert result.details is not None
    assert result.details.per_length == pytest.approx({"1-16": 100, "17-32": 0})
    assert result.details.per_occlusion == pytest.approx({"none": 100, "heavy": 0})
    assert "AP by occlusion" in str(result)
    assert result.to_json()["per_length"] == pytest.approx({"1-16": 1, "17-32": 0})
