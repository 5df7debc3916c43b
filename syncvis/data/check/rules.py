"""The tables of rules. A new check is a function in one of the three files, a line here, and its codes in ``KINDS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from syncvis.data.check import file_rules, track_rules, video_rules
from syncvis.data.check.findings import Finding
from syncvis.data.check.views import Clip, Track, Tree

FILE_RULES: dict[str, Callable[[Tree], Iterator[Finding]]] = {
    "top_level": file_rules.top_level,
    "entry_kinds": file_rules.entry_kinds,
    "ids": file_rules.ids,
    "category_names": file_rules.category_names,
    "category_use": file_rules.category_use,
    "references": file_rules.references,
    "shared_frames": file_rules.shared_frames,
    "annotated_videos": file_rules.annotated_videos,
    "instances": file_rules.instances,
}

VIDEO_RULES: dict[str, Callable[[Clip], Iterator[Finding]]] = {
    "size": video_rules.size,
    "image_sizes": video_rules.image_sizes,
    "frame_list": video_rules.frame_list,
    "limits": video_rules.limits,
    "frames": video_rules.frames,
    "turned": video_rules.turned,
    "file_remarks": video_rules.file_remarks,
    "frame_order": video_rules.frame_order,
    "repeated_frames": video_rules.repeated_frames,
    "identical_tracks": video_rules.identical_tracks,
    "overlaps": video_rules.overlaps,
}

TRACK_RULES: dict[str, Callable[[Track], Iterator[Finding]]] = {
    "shape": track_rules.shape,
    "crowd": track_rules.crowd,
    "mask_list": track_rules.mask_list,
    "masks": track_rules.masks,
    "visible": track_rules.visible,
    "measure_lists": track_rules.measure_lists,
    "boxes": track_rules.boxes,
    "area_kinds": track_rules.area_kinds,
    "areas": track_rules.areas,
}
