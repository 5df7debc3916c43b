"""Rules that look at the whole file: its lists, categories, names of files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from syncvis.data.check.entries import NAMES, Entry, by_id, identifier, listed, show, video_size
from syncvis.data.check.findings import Edit, Finding, Mend
from syncvis.data.check.masks import read_mask
from syncvis.data.check.views import Tree
from syncvis.data.coco_names import plain
from syncvis.data.file_names import one_spelling
from syncvis.data.jsonfile import mislaid


def top_level(tree: Tree) -> Iterator[Finding]:
    """The three lists are there; annotations of videos may be missing or null, as in public test sets."""
    for key in map(tree.form.key, NAMES):
        value = tree.raw.get(key)
        if key not in tree.raw and (other := _list_of_nearly_this_name(tree, key)):
            mend = Mend(f"name it {key}", (Edit((key,), tree.raw[other]),))
            yield Finding("top-level", key, f"is missing, but there is {show(other)}", mend=mend)
        elif key == "annotations" and value in (None, []) and not tree.form.is_still:
            if tree.videos:
                yield Finding("no-annotations", key, "there are no annotations: a test set?")
        elif not isinstance(value, list):
            text = f"is {show(value)}, not a list" if key in tree.raw else "is missing"
            yield Finding("top-level", key, text)
        elif not value:
            yield Finding("top-level", key, "the list is empty")


def _list_of_nearly_this_name(tree: Tree, key: str) -> str | None:
    return mislaid(key, (name for name, value in tree.raw.items() if isinstance(value, list) and value))


def entry_kinds(tree: Tree) -> Iterator[Finding]:
    """Every entry of the lists is an object."""
    for name in NAMES:
        values = tree.raw.get(tree.form.key(name))
        for index, value in enumerate(values if isinstance(values, list) else []):
            if not isinstance(value, dict):
                entry = Entry(name, index, {}, tree.form)
                yield entry.finding("entry", f"is {show(value)}, not an object", mend=entry.drop("entry"))


def category_names(tree: Tree) -> Iterator[Finding]:
    """Every category has a name of its own; a note on names that mixing data sets takes for one."""
    first: dict[str, Entry] = {}
    alike: dict[str, Entry] = {}
    for category in tree.categories:
        name = category.raw.get("name")
        if not isinstance(name, str) or not name.strip():
            text = f"the name is {show(name)}, not text" if "name" in category.raw else "has no name"
            mend = None if category.id is None else category.put(f"category {category.id}", "name")
            yield category.finding("category-name", text, "name", mend=mend)
        elif first.setdefault(name, category) is not category:
            text = f"the name {show(name)} is already that of {first[name].key()}"
            yield category.finding("category-duplicate-name", text, "name")
        elif (other := alike.setdefault(plain(name), category)) is not category:
            text = f"the name {show(name)} is nearly that of {other.key()}, {show(other.raw['name'])}"
            yield category.finding("category-similar-name", text, "name")


def category_use(tree: Tree) -> Iterator[Finding]:
    """Categories without annotations, and gaps in their ids: fine, but good to know."""
    used = {identifier(annotation.raw.get("category_id")) for annotation in tree.annotations}
    for category in tree.categories if tree.annotations else ():
        if category.id is not None and category.id not in used:
            name = show(category.raw.get("name"))
            yield category.finding("category-unused", f"category {category.id}, {name}, has no annotation")
    known = sorted(by_id(tree.categories))
    if known and known[-1] - known[0] >= len(known):
        text = f"{len(known)} ids between {known[0]} and {known[-1]}: labels are positions in the list, not ids"
        yield Finding("category-gap", "categories", text)


def name_cases(tree: Tree) -> Iterator[Finding]:
    """No two files of videos differ only in case (or kind of accents): on Windows and macOS they are one file."""
    first: dict[str, tuple[str, Entry]] = {}
    seen: set[tuple[int, int]] = set()
    for video in tree.videos:
        for t, name in enumerate(listed(video, "file_names")):
            if not isinstance(name, str):
                continue
            name = posixpath.normpath(name.replace("\\", "/"))
            other, owner = first.setdefault(one_spelling(name), (name, video))
            if other != name and (owner.index, video.index) not in seen:
                seen.add((owner.index, video.index))
                text = f"{show(name)} and {show(other)} of {owner.key()} are one file there"
                yield video.finding("file-name-case", text, "file_names", t, frame=t)


def shared_frames(tree: Tree) -> Iterator[Finding]:
    """No two videos show the same files; one finding for each pair of videos."""
    owner: dict[str, Entry] = {}
    shared: dict[tuple[int, int], list[int]] = {}
    for video in tree.videos:
        for t, name in enumerate(listed(video, "file_names")):
            other = owner.setdefault(posixpath.normpath(name), video) if isinstance(name, str) else video
            if other is not video:
                shared.setdefault((other.index, video.index), []).append(t)
    positions = {video.index: video for video in tree.videos}
    for (first, second), frames in shared.items():
        other, video = positions[first], positions[second]
        if other.raw == video.raw:
            continue  # a copy of an entry, see ids()
        text = f"{len(frames)} of its frames are also in {other.key()}, {video.form.video} {show(other.raw.get('id'))}"
        yield video.finding("shared-frames", text, "file_names", frames[0], frame=frames[0])


def annotated_videos(tree: Tree) -> Iterator[Finding]:
    """Videos without annotations, in a file that has some."""
    used = {identifier(annotation.raw.get("video_id")) for annotation in tree.annotations}
    for video in tree.videos if tree.annotations else ():
        if video.id is not None and video.id not in used:
            yield video.finding("video-without-annotations", f"no annotation is of this {video.form.video}")


def instances(tree: Tree) -> Iterator[Finding]:
    """COCO's file shows an instance that is no crowd: only images that do are read."""
    if not tree.form.is_still or not tree.annotations:
        return
    images = by_id(tree.videos)
    if not any(_maybe_shown(annotation, images) for annotation in tree.annotations):
        yield Finding("no-instances", "annotations", "each is a crowd or without a mask")


def _maybe_shown(annotation: Entry, images: Mapping[int, Entry]) -> bool:
    """Whether an annotation is no crowd and has a mask with a pixel, or one that is damaged."""
    (segmentation,), image = annotation.raw["segmentations"], identifier(annotation.raw.get("video_id"))
    if not segmentation or annotation.raw.get("iscrowd"):
        return False
    owner = None if image is None else images.get(image)
    mask = read_mask(segmentation, video_size(owner) if owner else None).mask
    return mask is None or mask.area > 0
