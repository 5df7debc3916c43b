"""Formats of labels and results that are not read here, known by what stands in them.

YouTube-VIS and COCO are read (:mod:`syncvis.data.ytvis`, :mod:`syncvis.data.coco`). A file of another format gets one
error that names the format, instead of one for each key that it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]

_CONVERT = "convert it to YouTube-VIS JSON: an entry of 'videos' per video, an annotation per track (docs/data.md)"
_CONVERT_RESULTS = "write one row per track, with a mask or null for every frame of its video (docs/data.md)"


@dataclass(frozen=True)
class Format:
    """A format that a file is in.

    Attributes:
        name: in words, to stand behind "is".
        fix: what to do about it.
        has_stills: its images and annotations can be read as COCO, if tracks may be lost.
    """

    name: str
    fix: str = _CONVERT
    has_stills: bool = False


COCO_VID = Format("per-image tracks in COCO's manner (CocoVID: 'videos' and 'images')", has_stills=True)
COCO_TRACKS = Format("COCO with track ids (as CVAT exports videos)", has_stills=True)
TAO = Format("TAO (images and tracks)")
BURST = Format("BURST ('sequences' with 'segmentations' per frame)")
YOUTUBE_VOS = Format("YouTube-VOS meta data ('objects' by video; the masks are PNG files)")
EXPRESSIONS = Format("referring expressions (Ref-YouTube-VOS, MeViS; the masks lie elsewhere)")
PANOPTIC = Format("COCO panoptic ('segments_info'; the masks are PNG files)")
LABELME = Format("labelme ('shapes' of one image)")
VIA = Format("a project of the VGG Image Annotator")
LABEL_STUDIO = Format("an export of Label Studio")
SCALABEL = Format("Scalabel (BDD100K: 'labels' per frame)")
SA_V = Format("SA-V ('masklet' of one video)")
SUPERVISELY = Format("a video annotation of Supervisely")
RESULTS = Format(
    "results (predictions with scores), not annotations",
    "give the ground truth here; results go to `syncvis eval-results GT.json RESULTS.json`",
)
IMAGE_RESULTS = Format("results per image (COCO's, or a tracker's), not annotations of videos")
FRAME_RESULTS = Format("results per image or frame, not per track", _CONVERT_RESULTS)
MOTS = Format("MOTS text (a line per object and frame)", _CONVERT_RESULTS)
MOT = Format("MOT text (a line of numbers per object and frame; boxes, no masks)", _CONVERT_RESULTS)
TABLE = Format("a table (CSV)", _CONVERT_RESULTS)

COCO_STILLS = Format(
    "COCO ('images'), not videos",
    "name it in data.mix with format: coco to train on its images, or convert it to YouTube-VIS JSON (docs/data.md)",
)
VIDEOS = Format("YouTube-VIS ('videos'), not COCO", "read it without format: coco")
PNG_MASKS = Format(
    "masks as PNG files (DAVIS, YouTube-VOS)",
    "get their JSON in YouTube-VIS format, or write one: a video per folder, a track per colour (docs/data.md)",
)
MOT_TEXT = Format("tracks as text (MOTChallenge, MOTS)")
YOLO_TEXT = Format("YOLO labels (a text file per image, without tracks)")
XML_FILES = Format(
    "XML files (Pascal VOC, CVAT)", "export them as JSON from the tool that made them; XML is not read here"
)

TRACK_KEYS = ("track_id", "instance_id", "tracking_id", "trackid", "object_id")
"""How annotations of single images name their track."""


def recognise(tree: Any) -> Format | None:
    """The format of a parsed JSON file that is neither YouTube-VIS nor plain COCO; None for those and the unknown.

    Args:
        tree: all of it, or of its lists only the first entries (:meth:`syncvis.data.jsonfile.JsonFile.sample`).
    """
    if isinstance(tree, list):
        return next((known for known, test in _LISTS if test(tree)), None)
    if not isinstance(tree, Mapping) or _is_youtube_vis(tree):
        return None
    return next((known for known, test in _OBJECTS if test(tree)), None)


def unread(tree: Any, stills: bool = False) -> Format | None:
    """The format of a file that a reader cannot read, that of YouTube-VIS or, with ``stills``, that of COCO."""
    known = recognise(tree)
    if known is not None:
        return None if stills and known.has_stills else known
    if not isinstance(tree, Mapping):
        return None
    if stills:
        return VIDEOS if "images" not in tree and _is_youtube_vis(tree) else None
    return COCO_STILLS if "videos" not in tree and _has_images(tree) else None


def recognise_folder(folder: Path) -> Format | None:
    """The format of a folder without a JSON of labels; None if it is not known."""
    return next((known for known, pattern in _FOLDERS if _has_file(folder, pattern)), None)


def _has_file(folder: Path, pattern: str) -> bool:
    return next(islice(folder.glob(pattern), 1), None) is not None


def recognise_results(tree: Any) -> Format | None:
    """What a file is that was given as results of videos and is not: a ground truth, or rows per image or frame.

    Args:
        tree: its object, or its first rows.
    """
    if isinstance(tree, list):
        return FRAME_RESULTS if any(map(_is_of_frame, tree[:10])) else None
    if not isinstance(tree, Mapping):
        return None
    if ("videos" in tree or "images" in tree) and "annotations" in tree:
        return Format("annotations (a ground truth), not results", "give the ground truth first, the results second")
    for name, value in tree.items():
        if isinstance(value, list) and _are_results(value):
            return Format(
                f"an object with the rows under {name!r}, not their list", f"write what is under {name!r} alone"
            )
    other = recognise(tree)
    return other and Format(other.name, _CONVERT_RESULTS)


def recognise_text(head: str) -> Format | None:
    """The format of results that are no JSON, by their first line."""
    line = next(iter(head.strip().splitlines()), "")
    return next((known for known, pattern in _LINES if pattern.fullmatch(line)), None)


def track_key(annotation: Any) -> str | None:
    """The key of the track id of an annotation of a single image, ``attributes.track_id`` say; None if it has none."""
    if not isinstance(annotation, Mapping):
        return None
    attributes = annotation.get("attributes")
    places = ((annotation, ""), (attributes if isinstance(attributes, Mapping) else {}, "attributes."))
    return next((before + key for held, before in places for key in TRACK_KEYS if held.get(key) is not None), None)


def _entries(tree: Json, name: str) -> Iterator[Json]:
    """The objects of a member that is a list, or of one that is an object."""
    member = tree.get(name)
    values = member if isinstance(member, list) else member.values() if isinstance(member, Mapping) else ()
    yield from (value for value in values if isinstance(value, Mapping))


def _any_has(tree: Json, name: str, *keys: str) -> bool:
    return any(all(key in entry for key in keys) for entry in _entries(tree, name))


def _is_youtube_vis(tree: Json) -> bool:
    """Whether videos list their frames, or annotations their masks: damage of other kinds does not make it another.

    Where there are images too, videos with a file name may be those of a tracker's COCO.
    """
    listed = isinstance(tree.get("videos"), list) and (
        _any_has(tree, "videos", "file_names") or ("images" not in tree and _any_has(tree, "videos", "file_name"))
    )
    return listed or (_any_has(tree, "annotations", "segmentations") and not _has_results(tree))


def _has_results(tree: Json) -> bool:
    """Whether the rows of a results.json stand in one of its members."""
    return any(_any_has(tree, name, "video_id", "score") for name in tree)


def _has_tracks(tree: Json) -> bool:
    return any(track_key(annotation) for annotation in _entries(tree, "annotations"))


def _has_images(tree: Json) -> bool:
    return isinstance(tree.get("images"), list)


def _are_results(rows: list[Any]) -> bool:
    return any(isinstance(row, Mapping) and {"video_id", "score"} <= set(row) for row in rows[:10])


def _are_image_results(rows: list[Any]) -> bool:
    return any(isinstance(row, Mapping) and "image_id" in row and "video_id" not in row for row in rows[:10]) or any(
        isinstance(row, Mapping) and "image_id" in row and track_key(row) is not None for row in rows[:10]
    )


def _is_of_frame(row: Any) -> bool:
    """Whether a row of results has the mask of one frame or image."""
    if not isinstance(row, Mapping) or "segmentations" in row:
        return False
    one = "image_id" in row or bool({"segmentation", "bbox", "rle", "mask"} & set(row))
    return one and ("video_id" not in row or bool(_FRAME_KEYS & set(row)) or track_key(row) is not None)


_FRAME_KEYS = {"image_id", "frame_id", "frame", "frame_idx", "frame_index", "image_name", "file_name", "timestamp"}

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_LINES = (
    (MOTS, re.compile(r"(?:[0-9]+ ){5}\S+")),
    (MOT, re.compile(rf"{_NUMBER}(?:[ \t]*[, \t][ \t]*{_NUMBER}){{5,}}")),
    (TABLE, re.compile(r"\w[^,;\t{}\[\]]*(?:[,;\t][^,;\t{}\[\]]+){2,}")),
)

_OBJECTS: tuple[tuple[Format, Callable[[Json], bool]], ...] = (
    (BURST, lambda tree: _any_has(tree, "sequences", "annotated_image_paths")),
    (BURST, lambda tree: _any_has(tree, "sequences", "track_category_ids")),
    (EXPRESSIONS, lambda tree: _any_has(tree, "videos", "expressions")),
    (YOUTUBE_VOS, lambda tree: _any_has(tree, "videos", "objects")),
    (LABELME, lambda tree: "shapes" in tree and bool({"imagePath", "imageHeight", "imageData"} & set(tree))),
    (VIA, lambda tree: bool({"_via_img_metadata", "_via_settings"} & set(tree))),
    (SCALABEL, lambda tree: _any_has(tree, "frames", "labels")),
    (SA_V, lambda tree: "masklet" in tree),
    (SUPERVISELY, lambda tree: {"frames", "objects", "framesCount"} <= set(tree)),
    (RESULTS, _has_results),
    (PANOPTIC, lambda tree: _any_has(tree, "annotations", "segments_info")),
    (PANOPTIC, lambda tree: any(_any_has(a, "annotations", "segments_info") for a in _entries(tree, "annotations"))),
    (TAO, lambda tree: _has_images(tree) and isinstance(tree.get("tracks"), list)),
    (COCO_VID, lambda tree: _has_images(tree) and "videos" in tree),
    (COCO_VID, lambda tree: _has_images(tree) and _any_has(tree, "images", "video_id") and _has_tracks(tree)),
    (COCO_TRACKS, lambda tree: _has_images(tree) and "videos" not in tree and _has_tracks(tree)),
)  # fmt: skip

_FOLDERS: tuple[tuple[Format, str], ...] = (
    *((PNG_MASKS, f"Annotations/{depth}*.png") for depth in ("*/", "*/*/", "")),
    *((PNG_MASKS, f"*/Annotations/{depth}*.png") for depth in ("*/", "*/*/")),
    (MOT_TEXT, "gt/gt.txt"),
    (MOT_TEXT, "*/gt/gt.txt"),
    (MOT_TEXT, "*/*/gt/gt.txt"),
    (MOT_TEXT, "instances_txt/*.txt"),
    (PNG_MASKS, "instances/*/*.png"),
    (YOLO_TEXT, "labels/*.txt"),
    (YOLO_TEXT, "labels/*/*.txt"),
    (XML_FILES, "Annotations/*.xml"),
    (XML_FILES, "*.xml"),
)

_LISTS: tuple[tuple[Format, Callable[[list[Any]], bool]], ...] = (
    (RESULTS, _are_results),
    (IMAGE_RESULTS, _are_image_results),
    (LABEL_STUDIO, lambda rows: any(isinstance(r, Mapping) and {"annotations", "data"} <= set(r) for r in rows[:10])),
    (SCALABEL, lambda rows: any(isinstance(r, Mapping) and {"name", "labels"} <= set(r) for r in rows[:10])),
)
