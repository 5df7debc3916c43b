"""Rules that look at one annotation: its masks, and boxes and areas beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from syncvis.data.check.entries import is_number, listed, show
from syncvis.data.check.findings import Finding, Mend, Problem
from syncvis.data.check.masks import Mask
from syncvis.data.check.views import Track
from syncvis.data.spellings import NEAR, near, whole

AREA_TOLERANCE = 1.0
"""Pixels by which the area of an RLE may be off."""

DRAWN_TOLERANCE = 0.05
"""Part by which the area of polygons may be off: they have an exact area and one in pixels. At least 4 pixels."""


MIN_COPIES = 3
"""Identical masks at the end of a track from which they are reported."""

_WORDS = {"true": 1, "false": 0}


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
        meant = int(bool(value)) if readable else _WORDS.get(str(value).strip().lower(), whole(value))
        meant = meant if meant in (0, 1) else None
        mend = None if meant is None else track.annotation.put(meant, "iscrowd")
        code = "iscrowd" if readable else "iscrowd-type"
        yield track.annotation.finding(code, f"iscrowd is {show(value)}, not 0 or 1", "iscrowd", mend=mend)


def mask_list(track: Track) -> Iterator[Finding]:
    """There is one mask or null per frame."""
    value = track.annotation.raw.get("segmentations")
    if not isinstance(value, list):
        text = f"segmentations is {show(value)}, not a list of masks"
        yield track.annotation.finding("segmentations", text, "segmentations", mend=_masks_elsewhere(track))
    elif len(value) != track.num_frames:
        text = f"{len(value)} masks for the {track.num_frames} frames of its video"
        yield track.annotation.finding("mask-count", text, "segmentations")


def _masks_elsewhere(track: Track) -> Mend | None:
    """A list of masks under another name; an annotation without any can be dropped."""
    raw = track.annotation.raw
    lists = [name for name in ("segmentation", "segments", "masks", "rles") if isinstance(raw.get(name), list)]
    if len(lists) == 1 and len(raw[lists[0]]) == track.num_frames:
        return Mend(f"take those of {lists[0]}", track.annotation.put(raw[lists[0]], "segmentations").edits)
    return track.annotation.drop("annotation") if raw.get("segmentations") is None and not lists else None


def masks(track: Track) -> Iterator[Finding]:
    """Every mask can be read and has pixels."""
    for t, reading in enumerate(track.readings):
        path, blank = ("segmentations", t), reading.mask is not None and not reading.mask.area
        if reading.problem:
            mend = None if reading.respelt is None or blank else _respelling(track, reading.respelt, t)
            text = track.annotation.form.title(reading.problem.text)
            yield track.annotation.finding(reading.problem.code, text, *path, frame=t, mend=mend)
        if blank:
            mend = track.annotation.put(None, *path)
            yield track.annotation.finding("mask-empty", "the mask has no pixel", *path, frame=t, mend=mend)


def _respelling(track: Track, mask: Any, t: int) -> Mend:
    how = "write it as polygons" if isinstance(mask, list) else f"write it as an RLE of {mask['size']}"
    return Mend(how, track.annotation.put(mask, "segmentations", t).edits)


def visible(track: Track) -> Iterator[Finding]:
    """The object is seen in some frame."""
    value = track.annotation.raw.get("segmentations")
    if isinstance(value, list) and not any(_maybe_seen(track, t) for t in range(len(value))):
        mend = track.annotation.drop("annotation")
        yield track.annotation.finding("empty-track", "no frame has a mask", "segmentations", mend=mend)


def frozen_end(track: Track) -> Iterator[Finding]:
    """The track does not end in copies of one mask, as when an export loses where the object leaves the frame.

    One that has the same mask all the time, from the first frame on, is a still object.
    """
    shapes = [mask.rle["counts"] if mask and mask.area else None for mask in track.masks]
    last = next((t for t in range(len(shapes) - 1, -1, -1) if shapes[t] != shapes[-1]), -1) + 1
    copies = len(shapes) - last
    if track.complete and copies >= MIN_COPIES and shapes[-1] and shapes[0] != shapes[-1]:
        text = f"its last {copies} masks, from frame {last} on, are identical: was 'outside' lost in the export?"
        yield track.annotation.finding("frozen-end", text, "segmentations", last)


def _maybe_seen(track: Track, t: int) -> bool:
    mask = track.masks[t]
    return mask.area > 0 if mask else not track.known(t)


def boxes(track: Track) -> Iterator[Finding]:
    """Boxes are those of the masks."""
    return _measures(track, "box", "bboxes", _box, box_problem)


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
    for t, mask, value in beside(track, key):
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


def beside(track: Track, name: str) -> Iterator[tuple[int, Mask | None, Any]]:
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


def box_problem(mask: Mask, box: Any) -> Problem | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) <= 0:
        return Problem("box-invalid", f"the box is {show(box)}, not left, top, width, height")
    edges = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    height, width = mask.rle["size"]
    if min(edges) < -NEAR or edges[2] > width + NEAR or edges[3] > height + NEAR:
        return Problem("box-outside", f"the box {box} leaves the frame of {height} x {width}")
    if not is_of_mask(edges, mask):
        return Problem("box-differs", f"the box is {box}, that of the mask {_box(mask)}")
    return None


def is_of_mask(edges: tuple[float, float, float, float], mask: Mask) -> bool:
    """Whether left, top, right, bottom are about those of the mask or of its polygons."""
    return any(near(edges, own) for own in (mask.box, mask.outline) if own)


def _area_problem(mask: Mask, area: Any) -> Problem | None:
    if not is_number(area) or area < 0:  # see area_kinds()
        return None
    allowed = max(4.0, DRAWN_TOLERANCE * mask.area) if mask.outline else AREA_TOLERANCE
    if abs(area - mask.area) > allowed:
        return Problem("area-differs", f"the area is {area}, that of the mask {mask.area}")
    return None
