"""Rules that look at one video: its size, its frames, and its tracks beside one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise, zip_longest

import numpy as np
from pycocotools import mask as coco

from syncvis.data.check.entries import Entry, Size, listed, show
from syncvis.data.check.findings import Finding, Mend, Problem
from syncvis.data.check.images import Look
from syncvis.data.check.masks import Mask
from syncvis.data.check.views import Clip
from syncvis.data.entries import MAX_TRACKS
from syncvis.data.file_names import natural
from syncvis.data.turns import UPRIGHT, size_problem
from syncvis.data.ytvis import MAX_FRAMES, is_one_file
from syncvis.ops.masks import MAX_FRAME_PIXELS

HEAVY_OVERLAP = 0.8
"""IoU of two masks of one frame from which they are reported."""

MAX_COMPARED = 300
"""Frames with more masks than this are not compared: no real video has them, and all pairs would fill the memory."""


def size(clip: Clip) -> Iterator[Finding]:
    """Height and width are possible."""
    if clip.size is None:
        height, width = (show(clip.video.raw.get(side)) for side in ("height", "width"))
        text = f"height {height}, width {width}: not whole numbers from 1 up to {MAX_FRAME_PIXELS} pixels together"
        yield clip.video.finding("video-size", text, mend=_resize(clip))


def _resize(clip: Clip) -> Mend | None:
    agreed = clip.agreed_size
    if agreed is None or len(agreed) != 2 or min(agreed) < 1 or agreed[0] * agreed[1] > MAX_FRAME_PIXELS:
        return None
    height, width = (clip.video.put(value, side) for side, value in zip(("height", "width"), agreed, strict=True))
    return Mend(f"set height and width to {agreed[0]} and {agreed[1]}", height.edits + width.edits)


def image_sizes(clip: Clip) -> Iterator[Finding]:
    """Images have the video's size. If all have one other size, the video's own is probably wrong."""
    if clip.size is None:
        return
    sizes = clip.image_sizes
    if len(sizes) == 1 and clip.size not in sizes and len(clip.frames) > 1:
        text = f"all images are {_by(next(iter(sizes)))}, the video {_by(clip.size)} (height x width)"
        text += _because(clip.frames[0], clip.size)
        yield clip.video.finding("video-image-size", text, mend=_resize(clip))
        return
    for t, look in enumerate(clip.frames):
        if look.size not in (None, clip.size):
            text = f"the image is {_by(look.size)}, the JSON says {_by(clip.size)} (height x width)"
            text += _because(look, clip.size)
            yield clip.video.finding("image-size", text, *clip.place(t), frame=t)


def _because(look: Look, size: Size) -> str:
    """What a turn has to do with another size."""
    why, fix = size_problem(look.size or size, size, look.turn, look.turned_by)
    return f"{why}; {fix}" if why else ""


def _by(sides: Size | None) -> str:
    return " x ".join(map(str, sides or ()))


def frame_list(clip: Clip) -> Iterator[Finding]:
    """file_names is a list of at least one frame, and as long as length says; or there is a video file."""
    if is_one_file(clip.video.raw):
        if clip.problem:
            yield _of_video_file(clip, clip.problem)
        return
    names, length = clip.video.raw.get("file_names"), clip.video.raw.get("length")
    if not isinstance(names, list) or not names:
        text = f"file_names is {show(names)}, not a list of frames" if names != [] else "file_names is empty"
        mend = clip.video.drop("video") if not names else None
        yield clip.video.finding("video-frames", text, "file_names", mend=mend)
    elif "length" in clip.video.raw and (type(length) is not int or length != len(names)):
        text = f"length is {show(length)}, but file_names lists {len(names)} frames"
        agreed = all(track.has_all_masks for track in clip.tracks)  # else names may be missing
        mend = clip.video.put(len(names), "length") if agreed else None
        yield clip.video.finding("video-length", text, "length", mend=mend)


def _of_video_file(clip: Clip, problem: Problem) -> Finding:
    """Its length is put right where every annotation has as many masks as the video frames."""
    if problem.code == "video-file":
        return clip.video.finding(problem.code, problem.text, "file_name")
    agreed = all(len(track.masks) == len(clip.frames) for track in clip.tracks)
    mend = clip.video.put(len(clip.frames), "length") if agreed and problem.code == "video-length" else None
    return clip.video.finding(problem.code, problem.text, "length", mend=mend)


def limits(clip: Clip) -> Iterator[Finding]:
    """No more frames and annotations than the reader takes; of an image it counts the annotations with a mask."""
    still = clip.video.form.is_still
    tracks = sum(not still or any(listed(track.annotation, "segmentations")) for track in clip.tracks)
    for count, most, what in ((len(clip.frames), MAX_FRAMES, "frames"), (tracks, MAX_TRACKS, "annotations")):
        if count > most:
            yield clip.video.finding("video-limit", f"{count} {what} are over the limit of {most}")


def frames(clip: Clip) -> Iterator[Finding]:
    """Every frame has a good name and can be read."""
    for t, look in enumerate(clip.frames):
        if look.problem:
            better = None if is_one_file(clip.video.raw) else look.better_name
            mend = None if better is None else clip.video.put(better, "file_names", t)
            yield clip.video.finding(look.problem.code, look.problem.text, *clip.place(t), frame=t, mend=mend)


def turned(clip: Clip) -> Iterator[Finding]:
    """A note on frames that are turned to be shown: masks of the stored pixels cannot always be told by their size."""
    for what in sorted({look.turned_by for look in clip.frames if look.turn != UPRIGHT}):
        places = [t for t, look in enumerate(clip.frames) if look.turn != UPRIGHT and look.turned_by == what]
        whole = clip.video.form.is_still or is_one_file(clip.video.raw)
        who = f"the {clip.video.form.video} is" if whole else f"{len(places)} of {len(clip.frames)} frames are"
        text = f"{who} turned by {what}: height, width and masks have to be as shown, not as stored"
        yield clip.video.finding("frames-turned", text, *clip.place(places[0]), frame=None if whole else places[0])


def file_remarks(clip: Clip) -> Iterator[Finding]:
    """What is good to know of the files that hold the frames, once for each."""
    first: dict[Problem, int] = {}
    for t, look in enumerate(clip.frames):
        for remark in look.remarks:
            first.setdefault(remark, t)
    for remark, t in first.items():
        yield clip.video.finding(remark.code, remark.text, *clip.place(t))


def frame_order(clip: Clip) -> Iterator[Finding]:
    """The numbers in the names grow; a note on the first that does not, for names may be meant so."""
    listed_names = listed(clip.video, "file_names")
    names = [(t, listed_names[t]) for t, look in enumerate(clip.frames) if listed_names and not look.problem]
    for (_, before), (t, name) in pairwise(names):
        if natural(name) < natural(before):
            text = f"{show(name)} comes behind {show(before)}"
            yield clip.video.finding("frame-order", text, "file_names", t, frame=t)
            return


def repeated_frames(clip: Clip) -> Iterator[Finding]:
    """No file is shown twice."""
    first: dict[str, int] = {}
    for t, name in enumerate(listed(clip.video, "file_names")):
        if isinstance(name, str) and first.setdefault(name, t) != t:
            text = f"{show(name)} is already frame {first[name]}"
            yield clip.video.finding("file-name-duplicate", text, "file_names", t, frame=t)


def identical_tracks(clip: Clip) -> Iterator[Finding]:
    """No two annotations have the same masks; of two of one category the second is a copy."""
    first: dict[tuple[str, ...], Entry] = {}
    for track in clip.tracks:
        if track.complete and any(track.masks):
            other = first.setdefault(_shape(track.masks), track.annotation)
            if other is not track.annotation:
                same = track.annotation.raw.get("category_id") == other.raw.get("category_id")
                mend = track.annotation.drop("annotation") if same else None
                text = f"its masks are those of {other.key()}, annotation {show(other.raw.get('id'))}"
                yield track.annotation.finding("identical-tracks", text, mend=mend)


def _shape(masks: tuple[Mask | None, ...]) -> tuple[str, ...]:
    return tuple(mask.rle["counts"] if mask and mask.area else "" for mask in masks)


def overlaps(clip: Clip) -> Iterator[Finding]:
    """Pairs of tracks that cover nearly the same pixels in some frame."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for t, column in enumerate(zip_longest(*(track.masks for track in clip.tracks))):
        seen = [(place, mask.rle) for place, mask in enumerate(column) if mask and mask.area]
        if 1 < len(seen) <= MAX_COMPARED:
            rles = [rle for _, rle in seen]
            heavy = np.triu(coco.iou(rles, rles, [0] * len(rles)) >= HEAVY_OVERLAP, 1)
            for a, b in np.argwhere(heavy):
                found[seen[a][0], seen[b][0]].append(t)
    for (a, b), times in found.items():
        if _shape(clip.tracks[a].masks) != _shape(clip.tracks[b].masks):
            other, track = clip.tracks[a].annotation, clip.tracks[b].annotation
            where = "" if track.form.is_still else f" in {len(times)} frames"
            text = f"overlaps with annotation {show(other.raw.get('id'))} by {HEAVY_OVERLAP:.0%}{where}"
            yield track.finding("overlap", text, "segmentations", times[0], frame=times[0])
