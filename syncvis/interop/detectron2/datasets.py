"""Data sets in YouTube-VIS format as detectron2 video dicts, registered by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from syncvis.data.frames import FrameReader
from syncvis.data.ytvis import TrackAnnotation, Video, VideoDataset
from syncvis.interop.splits import SPLITS, datasets_root
from syncvis.ops import masks
from syncvis.structures import RLE

_log = logging.getLogger(__name__)


def register_datasets(root: str | Path | None = None) -> list[str]:
    """Register the public data sets (``syncvis.interop.splits``) below ``root``; nothing is read yet.

    Names that are registered already, by Mask2Former or by an earlier call, are left as they are.

    Args:
        root: default $DETECTRON2_DATASETS, else ``datasets``.

    Returns:
        The names that are new.
    """
    base = Path(root) if root is not None else datasets_root()
    new = [name for name in SPLITS if name not in DatasetCatalog]
    if len(new) < len(SPLITS):
        taken = ", ".join(name for name in SPLITS if name not in new)
        _log.warning("data sets that are registered already keep their definition: %s", taken)
    for name in new:
        folder, json_name = SPLITS[name]
        register_dataset(name, base / folder, json_name)
    return new


def register_dataset(name: str, root: str | Path, json_name: str) -> None:
    """Register one data set: ``root/json_name``, with frames where ``VideoDataset.load`` looks for them."""
    DatasetCatalog.register(name, partial(load_videos, root, json_name, name))
    MetadataCatalog.get(name).set(json_file=str(Path(root) / json_name), evaluator_type="ytvis")


def load_videos(root: str | Path, json_name: str, name: str | None = None) -> list[dict[str, Any]]:
    """The videos of a JSON file as Mask2Former-VIS' mappers read them.

    Each has video_id, height, width, length, file_names (T paths) and annotations (for each frame a list of id,
    category_id 0 .. K-1, iscrowd, bbox, bbox_mode, segmentation as RLE; instances that a frame does not show are not
    in its list).

    Args:
        name: the data set whose metadata gets the names of the classes.

    Raises:
        DataError: The file or one of its masks is damaged.
    """
    dataset = VideoDataset.load(root, json_name)
    if name is not None:
        ids = {category.id: label for label, category in enumerate(dataset.categories)}
        names = [category.name for category in dataset.categories]
        MetadataCatalog.get(name).set(thing_classes=names, thing_dataset_id_to_contiguous_id=ids)
    assert isinstance(dataset.frames, FrameReader)
    return [_video_dict(video, dataset.frames.root) for video in dataset.videos]


def _video_dict(video: Video, folder: Path) -> dict[str, Any]:
    return {
        "video_id": video.id,
        "height": video.height,
        "width": video.width,
        "length": len(video),
        "file_names": [str(folder / file_name) for file_name in video.file_names],
        "annotations": [_frame_annotations(video, t) for t in range(len(video))],
    }


def _frame_annotations(video: Video, t: int) -> list[dict[str, Any]]:
    found = [_annotation(track, t) for track in video.tracks if track.has_mask(t)]
    return [annotation for annotation in found if annotation["bbox"][2:] != (0, 0)]


def _annotation(track: TrackAnnotation, t: int) -> dict[str, Any]:
    rle = _rle(track, t)
    return {
        "id": track.id,
        "category_id": track.label,
        "iscrowd": int(track.iscrowd),
        "bbox": masks.bbox(rle),
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": rle,
    }


def _rle(track: TrackAnnotation, t: int) -> RLE:
    segmentation = track.segmentations[t]
    if isinstance(segmentation, Mapping):
        lengths = masks.runs(segmentation, f"{track.where}.segmentations[{t}]")
        return masks.from_runs(lengths, track.height, track.width)
    return masks.encode(track.mask(t))
