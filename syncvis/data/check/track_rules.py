"""Rules that look at one annotation: its masks, and boxes and areas beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from syncvis.data.check.entries import is_number, listed, show
from syncvis.data.check.findings import Finding, Problem
from syncvis.data.check.masks import Mask
from syncvis.data.check.views import Track

BOX_TOLERANCE = 1.0
"""Pixels by which a side may be off that of the mask or its polygons: some tools count the last pixel, some do not."""

AREA_TOLERANCE = 1.0
"""Pixels by which the area of an RLE may be off."""

DRAWN_TOLERANCE = 0.05
"""Part by which the area of polygons may be off: they have an exact area and one in pixels. At least 4 pixels."""


def shape(track: Track) -> Iterator[Finding]:
    """Height, width and length, where an annotation repeats them, are those of the video."""
    if track.size is None:
        return
    expected = {"height": track.size[0], "width": track.size[1], "length": track.num_frames}
    for name, value in expected.items():
        if name in track.annotation.raw and track.annotation.raw[name] != value:
            text = f"{name} is {show(track.annotation.raw[name])}, that of its video {value}"
            mend = track.annotation.put(value, name) if name != "length" or track.has_all_masks else None
            yield track.annotation.finding("annotation-size", text, name, mend=mend)


def crowd(track: Track) -> Iterator[Finding]:
    """iscrowd is 0 or 1, or left out."""
    value = track.annotation.raw.get("iscrowd", 0)
    if type(value) is not int or value not in (0, 1):
        readable = isinstance(value, int | float | None)
        meant = int(bool(value)) if readable else {"0": 0, "1": 1}.get(str(value))
        mend = None if meant is None else track.annotation.put(meant, "iscrowd")
        code = "iscrowd" if readable else "iscrowd-type"
        yield track.annotation.finding(code, f"iscrowd is {show(value)}, not 0 or 1", "iscrowd", mend=mend)


def mask_list(track: Track) -> Iterator[Finding]:
    """There is one mask or null per frame."""
    value = track.annotation.raw.get("segmentations")
    if not isinstance(value, list):
        mend = track.annotation.drop("annotation") if value is None else None
        text = f"segmentations is {show(value)}, not a list of masks"
        yield track.annotation.finding("segmentations", text, "segmentations", mend=mend)
    elif len(value) != track.num_frames:
        text = f"{len(value)} masks for the {track.num_frames} frames of its video"
        yield track.annotation.finding("mask-count", text, "segmentations")


def masks(track: Track) -> Iterator[Finding]:
    """Every mask can be read and has pixels."""
    for t, (mask, problem) in enumerate(zip(track.masks, track.problems, strict=True)):
        path = ("segmentations", t)
        if problem:
            yield track.annotation.finding(problem.code, problem.text, *path, frame=t)
        if mask and not mask.area:
            mend = track.annotation.put(None, *path)
            yield track.annotation.finding("mask-empty", "the mask has no pixel", *path, frame=t, mend=mend)


def visible(track: Track) -> Iterator[Finding]:
    """The object is seen in some frame."""
    value = track.annotation.raw.get("segmentations")
    if isinstance(value, list) and not any(_maybe_seen(track, t) for t in range(len(value))):
        mend = track.annotation.drop("annotation")
        yield track.annotation.finding("empty-track", "no frame has a mask", "segmentations", mend=mend)


def _maybe_seen(track: Track, t: int) -> bool:
    mask = track.masks[t]
    return mask.area > 0 if mask else not track.known(t)


def boxes(track: Track) -> Iterator[Finding]:
    """Boxes are those of the masks."""
    return _measures(track, "box", "bboxes", _box, _box_problem)


def areas(track: Track) -> Iterator[Finding]:
    """Areas are those of the masks."""
    return _measures(track, "area", "areas", _area, _area_problem)


def area_kinds(track: Track) -> Iterator[Finding]:
    """Areas are numbers or null, for they decide the size in an evaluation; COCO's are not read."""
    code = "area-differs" if track.annotation.form.is_still else "area-invalid"
    for t, value in enumerate(listed(track.annotation, "areas")):
        if value is not None and not (is_number(value) and value >= 0):
            clear = t < len(track.masks) and track.known(t)
            mend = track.annotation.put(_area(track.masks[t]), "areas", t) if clear else None
            text = f"the area is {show(value)}, not a number of pixels"
            yield track.annotation.finding(code, text, "areas", t, frame=t, mend=mend)


def _measures(
    track: Track,
    name: str,
    key: str,
    measure: Callable[[Mask | None], object],
    problem_of: Callable[[Mask, Any], Problem | None],
) -> Iterator[Finding]:
    for t, mask, value in _beside(track, key):
        problem = _presence(name, mask, value) or (problem_of(mask, value) if mask else None)
        if problem:
            mend = track.annotation.put(measure(mask), key, t)
            yield track.annotation.finding(problem.code, problem.text, key, t, frame=t, mend=mend)


def measure_lists(track: Track) -> Iterator[Finding]:
    """There is one box and one area, or null, per mask; the lists may be left out."""
    if not isinstance(track.annotation.raw.get("segmentations"), list):
        return
    for name, code, plural, measure in (("bboxes", "box", "boxes", _box), ("areas", "area", "areas", _area)):
        value = track.annotation.raw.get(name)
        if value is None or (isinstance(value, list) and len(value) == track.num_frames):
            continue
        found = f"{len(value)} {plural}" if isinstance(value, list) else f"{name} is {show(value)}"
        mend = track.annotation.put([measure(mask) for mask in track.masks], name) if track.complete else None
        text = f"{found} for the {track.num_frames} frames of its video"
        wrong = "count" if isinstance(value, list) else "invalid"
        yield track.annotation.finding(f"{code}-{wrong}", text, name, mend=mend)


def _beside(track: Track, name: str) -> Iterator[tuple[int, Mask | None, Any]]:
    """Frame, mask and value where it is clear what the value has to be."""
    values = listed(track.annotation, name)
    if len(values) == len(track.masks):
        for t, (mask, value) in enumerate(zip(track.masks, values, strict=True)):
            if track.known(t):
                yield t, mask, value


def _presence(name: str, mask: Mask | None, value: Any) -> Problem | None:
    if mask is None and value is not None:
        return Problem(f"{name}-without-mask", f"the {name} is {show(value)}, the mask null")
    if mask is not None and value is None:
        return Problem(f"{name}-missing", f"the {name} is null, but there is a mask")
    return None


def _box(mask: Mask | None) -> list[float] | None:
    return [float(side) for side in mask.box] if mask else None


def _area(mask: Mask | None) -> int | None:
    return mask.area if mask else None


def _box_problem(mask: Mask, box: Any) -> Problem | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) <= 0:
        return Problem("box-invalid", f"the box is {show(box)}, not left, top, width, height")
    edges = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    height, width = mask.rle["size"]
    if min(edges) < -BOX_TOLERANCE or edges[2] > width + BOX_TOLERANCE or edges[3] > height + BOX_TOLERANCE:
        return Problem("box-outside", f"the box {box} leaves the frame of {height} x {width}")
    if not any(_is_near(edges, own) for own in (mask.box, mask.outline) if own):
        return Problem("box-differs", f"the box is {box}, that of the mask {_box(mask)}")
    return None


def _is_near(edges: Iterable[float], box: tuple[float, float, float, float]) -> bool:
    left, top, width, height = box
    own = (left, top, left + width, top + height)
    return max(abs(a - b) for a, b in zip(edges, own, strict=True)) <= BOX_TOLERANCE


def _area_problem(mask: Mask, area: Any) -> Problem | None:
    if not is_number(area) or area < 0:  # see area_kinds()
        return None
    allowed = max(4.0, DRAWN_TOLERANCE * mask.area) if mask.outline else AREA_TOLERANCE
    if abs(area - mask.area) > allowed:
        return Problem("area-differs", f"the area is {area}, that of the mask {mask.area}")
    return None
