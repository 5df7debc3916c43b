"""Kinds of damage to a data set, each with the findings that it has to lead to."""

from __future__ import annotations

import copy
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from syncvis.data.check.findings import Report
from syncvis.ops import masks as rle

Found = tuple[str, int | None, int | None, int | None]
"""Code and ids of video, frame and annotation."""


@dataclass
class Copy:
    """A copy of a data set to damage: one annotation and one frame in which it is seen, and its video."""

    root: Path
    tree: dict[str, Any]
    place: int = 0
    frame: int = 1

    @property
    def source(self) -> Path:
        return self.root / "train.json"

    @property
    def annotation(self) -> dict[str, Any]:
        return self.tree["annotations"][self.place]

    @property
    def video(self) -> dict[str, Any]:
        return next(video for video in self.tree["videos"] if video["id"] == self.annotation["video_id"])

    @property
    def image(self) -> Path:
        return self.root / "JPEGImages" / self.video["file_names"][self.frame]

    def save(self) -> None:
        self.source.write_text(json.dumps(self.tree))

    def here(self, *codes: str) -> set[Found]:
        """Findings at the frame of the annotation."""
        return {(code, self.video["id"], self.frame, self.annotation["id"]) for code in codes}

    def whole(self, *codes: str) -> set[Found]:
        """Findings at the annotation, in no frame."""
        return {(code, self.video["id"], None, self.annotation["id"]) for code in codes}

    def in_video(self, code: str, frame: int | None = None) -> set[Found]:
        return {(code, self.video["id"], frame, None)}

    def siblings(self) -> list[dict[str, Any]]:
        """The annotations of the video."""
        video_id = self.annotation["video_id"]
        return [entry for entry in self.tree["annotations"] if entry["video_id"] == video_id]


Damage = Callable[[Copy], set[Found]]
"""Damages a copy (in memory, or its images) and says what a check has to find."""


def clean_copy(source: Path, root: Path) -> Copy:
    """The synthetic data set with two categories, both in use, so that a check has nothing to say."""
    shutil.copytree(source, root)
    tree = json.loads((root / "train.json").read_text())
    tree["categories"] = [{"id": 1, "name": "odd"}, {"id": 2, "name": "even"}]
    for index, annotation in enumerate(tree["annotations"]):
        annotation["category_id"] = 1 + index % 2
    place = next(i for i, entry in enumerate(tree["annotations"]) if None not in entry["segmentations"])
    found = Copy(root, tree, place)
    found.save()
    return found


def found(report: Report) -> set[Found]:
    return {(finding.code, finding.video, finding.frame, finding.annotation) for finding in report.findings}


def set_mask(mask: Any, *codes: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        data.annotation["segmentations"][data.frame] = mask(data) if callable(mask) else mask
        return data.here(*codes)

    return damage


def set_at_frame(name: str, value: Any, code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        old = data.annotation[name][data.frame]
        data.annotation[name][data.frame] = value(old) if callable(value) else value
        return data.here(code)

    return damage


def set_whole(name: str, value: Any, code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        expected = data.whole(code)
        data.annotation[name] = value
        return expected

    return damage


def set_video(name: str, value: Any, code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        data.video[name] = value
        return data.in_video(code)

    return damage


def set_name(name: Any, code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        data.video["file_names"][data.frame] = name(data) if callable(name) else name
        return data.in_video(code, data.frame)

    return damage


def set_image(content: Callable[[Copy], bytes | None], code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        path, new = data.image, content(data)
        path.unlink()
        if new is not None:
            path.write_bytes(new)
        return data.in_video(code, data.frame)

    return damage


def _tree(change: Callable[[dict[str, Any]], object], *codes: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        change(data.tree)
        return {(code, None, None, None) for code in codes}

    return damage


def _video_without_id(data: Copy) -> set[Found]:
    lost = {("unknown-video", entry["video_id"], None, entry["id"]) for entry in data.siblings()}
    data.video["id"] = None
    return lost | {("video-id", None, None, None)}


def _duplicate_video_id(data: Copy) -> set[Found]:
    first, second = data.tree["videos"][:2]
    lost = [entry for entry in data.tree["annotations"] if entry["video_id"] == second["id"]]
    expected = {("unknown-video", entry["video_id"], None, entry["id"]) for entry in lost}
    second["id"] = first["id"]
    return expected | {("video-duplicate-id", first["id"], None, None)}


def _copied_video(data: Copy) -> set[Found]:
    data.tree["videos"].append(copy.deepcopy(data.video))
    return data.in_video("video-duplicate-id")


def _higher_video(data: Copy) -> set[Found]:
    data.video["height"] += 1
    expected = data.in_video("video-image-size")
    for entry in data.siblings():
        expected |= {("annotation-size", entry["video_id"], None, entry["id"])}
        seen = [t for t, mask in enumerate(entry["segmentations"]) if mask]
        expected |= {("mask-size", entry["video_id"], t, entry["id"]) for t in seen}
    return expected


def _shared_frames(data: Copy) -> set[Found]:
    first, second = data.tree["videos"][:2]
    second["file_names"] = list(first["file_names"])
    return {("shared-frames", second["id"], 0, None)}


def _duplicate_annotation_id(data: Copy) -> set[Found]:
    first, second = data.tree["annotations"][:2]
    second["id"] = first["id"]
    return {("annotation-duplicate-id", second["video_id"], None, first["id"])}


def _no_annotation_id(data: Copy) -> set[Found]:
    del data.annotation["id"]
    return data.in_video("annotation-id")


def _unknown_video(data: Copy) -> set[Found]:
    expected, alone = {("unknown-video", 999, None, data.annotation["id"])}, len(data.siblings()) == 1
    expected |= data.in_video("video-without-annotations") if alone else set()
    data.annotation["video_id"] = 999
    return expected


def _unannotated(data: Copy) -> set[Found]:
    expected, gone = data.in_video("video-without-annotations"), data.siblings()
    data.tree["annotations"] = [entry for entry in data.tree["annotations"] if entry not in gone]
    data.place = 0
    return expected


def _empty_track(data: Copy) -> set[Found]:
    for name in ("segmentations", "bboxes", "areas"):
        data.annotation[name] = [None] * len(data.annotation[name])
    return data.whole("empty-track")


def _shorter(name: str, code: str) -> Damage:
    def damage(data: Copy) -> set[Found]:
        data.annotation[name].pop()
        return data.whole(code)

    return damage


def _identical(data: Copy) -> set[Found]:
    data.tree["annotations"].append(copy.deepcopy(data.annotation) | {"id": 900})
    return {("identical-tracks", data.video["id"], None, 900)}


def _overlapping(data: Copy) -> set[Found]:
    other = copy.deepcopy(data.annotation) | {"id": 900}
    for name in ("segmentations", "bboxes", "areas"):
        other[name][0] = None
    data.tree["annotations"].append(other)
    return {("overlap", data.video["id"], 1, 900)}


def _polygon(*points: float) -> list[list[float]]:
    return [list(points)]


def _with_counts(counts: Any) -> Callable[[Copy], dict[str, Any]]:
    def mask(data: Copy) -> dict[str, Any]:
        old = data.annotation["segmentations"][data.frame]
        return old | {"counts": counts(old) if callable(counts) else counts}

    return mask


def _pixels(mask: dict[str, Any]) -> int:
    height, width = mask["size"]
    return int(height * width)


def _nothing(data: Copy) -> Any:
    return rle.encode(np.zeros((data.video["height"], data.video["width"]), bool))


def _small_image(data: Copy) -> bytes:
    path = data.root / "small.png"
    Image.new("RGB", (9, 7)).save(path)
    return path.read_bytes()


def _bomb(_: Copy) -> bytes:
    """A PNG of a few bytes that claims to be 60,000 x 60,000."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    parts = [struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _frames_out_of_order(data: Copy) -> set[Found]:
    names = data.video["file_names"]
    names[1], names[2] = names[2], names[1]
    return data.in_video("frame-order", 2)


def _last_frame_not_named(data: Copy) -> set[Found]:
    """What length and the masks agree on is not mended."""
    data.video["file_names"].pop()
    expected = data.in_video("video-length")
    for entry in data.siblings():
        codes = ("annotation-size", "mask-count", "box-count", "area-count")
        expected |= {(code, entry["video_id"], None, entry["id"]) for code in codes}
    return expected


def _link(data: Copy) -> set[Found]:
    outside = data.image.rename(data.root.parent / "outside.png")
    data.image.symlink_to(outside)
    return data.in_video("file-name-outside", data.frame)


DAMAGES: dict[str, Damage] = {
    "no list of categories": _tree(lambda tree: tree.pop("categories"), "top-level"),
    "entry is text": _tree(lambda tree: tree["annotations"].append("x"), "entry"),
    "no annotations": _tree(lambda tree: tree.update(annotations=None), "no-annotations"),
    "category id is text": _tree(lambda tree: tree["categories"][0].update(id=" 1 "), "number-spelling"),
    "annotation of a category with a point": set_whole("category_id", 1.0, "number-spelling"),
    "height is text": set_video("height", "32", "number-spelling"),
    "category id twice": _tree(
        lambda tree: tree["categories"].append({"id": 1, "name": "third"}), "category-duplicate-id"
    ),
    "category without name": _tree(lambda tree: tree["categories"][0].pop("name"), "category-name"),
    "category name twice": _tree(
        lambda tree: tree["categories"][1].update(name=tree["categories"][0]["name"]), "category-duplicate-name"
    ),
    "category name blank": _tree(lambda tree: tree["categories"][0].update(name=" \t"), "category-name"),
    "category name nearly twice": _tree(
        lambda tree: tree["categories"][1].update(name=f" {tree['categories'][0]['name'].upper()}"),
        "category-similar-name",
    ),
    "category unused": _tree(lambda tree: tree["categories"].append({"id": 3, "name": "third"}), "category-unused"),
    "category ids with a gap": _tree(
        lambda tree: tree["categories"].append({"id": 9, "name": "third"}), "category-unused", "category-gap"
    ),
    "video without id": _video_without_id,
    "video id twice": _duplicate_video_id,
    "video twice": _copied_video,
    "width missing": set_video("width", None, "video-size"),
    "height zero": set_video("height", 0, "video-size"),
    "video too large": set_video("height", 10**9, "video-size"),
    "video higher than its images": _higher_video,
    "no frames": set_video("file_names", [], "video-frames"),
    "length wrong": set_video("length", 99, "video-length"),
    "file shown twice": set_name(lambda data: data.video["file_names"][0], "file-name-duplicate"),
    "frames out of order": _frames_out_of_order,
    "last frame not named": _last_frame_not_named,
    "file name is a number": set_name(7, "file-name"),
    "file name that no disk has": set_name("a\0b", "file-name"),
    "file name with ..": set_name("../../secret.png", "file-name-outside"),
    "file name absolute": set_name("/etc/hostname", "file-name-outside"),
    "file name with a drive": set_name("C:\\frames\\0.png", "file-name-outside"),
    "frame missing": set_image(lambda data: None, "missing-frame"),
    "frame is text": set_image(lambda data: b"no image", "unreadable-image"),
    "frame empty": set_image(lambda data: b"", "unreadable-image"),
    "frame smaller": set_image(_small_image, "image-size"),
    "frame is a bomb": set_image(_bomb, "image-bomb"),
    "frames shared": _shared_frames,
    "annotation without id": _no_annotation_id,
    "annotation id twice": _duplicate_annotation_id,
    "annotation of no video": _unknown_video,
    "annotation of no category": set_whole("category_id", 77, "unknown-category"),
    "video without annotations": _unannotated,
    "no masks": set_whole("segmentations", None, "segmentations"),
    "one mask too few": _shorter("segmentations", "mask-count"),
    "one box too few": _shorter("bboxes", "box-count"),
    "one area too few": _shorter("areas", "area-count"),
    "mask is a number": set_mask(7, "mask-type"),
    "mask of another size": set_mask(lambda data: rle.encode(np.ones((5, 6), bool)), "mask-size"),
    "mask bomb": set_mask({"size": [10**9, 10**9], "counts": "0"}, "mask-size"),
    "RLE cut off": set_mask(_with_counts(lambda old: old["counts"][:-2]), "mask-damaged"),
    "RLE with a wrong sum": set_mask(_with_counts([3, 4]), "mask-damaged"),
    "RLE with a negative run": set_mask(_with_counts(lambda old: [-1, _pixels(old) + 1]), "mask-damaged"),
    "RLE of bytes as text": set_mask(_with_counts(lambda old: str(old["counts"].encode())), "mask-spelling"),
    "RLE with too large a run": set_mask(_with_counts("oooooooooooo0"), "mask-damaged"),
    "mask without pixels": set_mask(_nothing, "mask-empty"),
    "mask null, box there": set_mask(None, "box-without-mask", "area-without-mask"),
    "polygon of two points": set_mask(_polygon(1, 1, 5, 5), "polygon"),
    "polygon with NaN": set_mask(_polygon(1, 1, 5, 5, float("nan"), 3), "polygon"),
    "polygon far outside": set_mask(_polygon(-5, 1, 5, 5, 1, 9), "polygon-far-outside"),
    "polygon flat": set_mask([1, 1, 30, 1, 30, 20, 1, 20], "mask-spelling", "box-differs", "area-differs"),
    "track empty": _empty_track,
    "box null, mask there": set_at_frame("bboxes", None, "box-missing"),
    "box moved": set_at_frame("bboxes", lambda box: [box[0] / 2, box[1] / 2, 3.0, 3.0], "box-differs"),
    "box outside": set_at_frame("bboxes", lambda box: [box[0] + 5000, *box[1:]], "box-outside"),
    "box with NaN": set_at_frame("bboxes", lambda box: [float("nan"), *box[1:]], "box-invalid"),
    "box of negative width": set_at_frame("bboxes", lambda box: [*box[:2], -3, 4], "box-invalid"),
    "area null, mask there": set_at_frame("areas", None, "area-missing"),
    "area wrong": set_at_frame("areas", lambda area: area + 2, "area-differs"),
    "area infinite": set_at_frame("areas", float("inf"), "area-invalid"),
    "iscrowd is 2": set_whole("iscrowd", 2, "iscrowd"),
    "iscrowd is text": set_whole("iscrowd", "0", "iscrowd-type"),
    "areas are text": set_whole("areas", "x", "area-invalid"),
    "area is text": set_at_frame("areas", "x", "area-invalid"),
    "file name with a line break": set_name("a\nb", "file-name"),
    "frame is a link to elsewhere": _link,
    "annotation of another width": set_whole("width", 3, "annotation-size"),
    "track twice": _identical,
    "track nearly twice": _overlapping,
}
