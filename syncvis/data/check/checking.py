"""Checking: find the files, read them, apply every rule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from syncvis.data.check.box_convention import BoxConvention
from syncvis.data.check.entries import entries, listed, show
from syncvis.data.check.findings import Finding, Report
from syncvis.data.check.images import FrameLooker
from syncvis.data.check.numbers import respelt
from syncvis.data.check.rules import FILE_RULES, TRACK_RULES, VIDEO_RULES
from syncvis.data.check.views import Clip, Tree
from syncvis.data.entries import FRAMES_FOLDER, find_frames
from syncvis.data.faulty_frames import Faulty
from syncvis.data.formats import recognise, recognise_folder
from syncvis.data.json_text import loads
from syncvis.data.ytvis import first_file
from syncvis.errors import DataError

LISTS = ("videos", "images", "annotations", "categories")
MAX_FOREIGN = 20
"""Files of another format that a folder is shown by: some formats have a file per image."""

Watch = Callable[[Iterable[Clip], int], Iterable[Clip]]
"""Hands the videos through while it shows how many of them are done."""


def unwatched(clips: Iterable[Clip], _total: int) -> Iterable[Clip]:
    """No progress display."""
    return clips


@dataclass(frozen=True)
class Settings:
    """Where the frames are (None: beside the JSON), whether every image is decoded, and who watches."""

    frames: Path | None = None
    deep: bool = False
    watch: Watch = unwatched


def annotation_files(path: Path) -> list[Path]:
    """The file itself, or the JSON files of a folder that are annotations or cannot be read; else those one level down.

    Raises:
        DataError: There is no such path, or the folder has no annotations.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", file=path, fix="give a JSON file, or the folder with it")
    foreign_files: list[Path] = []
    for pattern in ("*.json", "*/*.json"):
        kinds = {file: _kind(file) for file in sorted(path.glob(pattern)) if file.is_file()}
        if found := [file for file, kind in kinds.items() if kind == "annotations"]:
            return found
        foreign_files += [file for file, kind in kinds.items() if kind == "foreign"]
    if known := recognise_folder(path):
        raise DataError(f"no JSON file here has annotations: these are {known.name}", file=path, fix=known.fix)
    if foreign_files:
        return foreign_files[:MAX_FOREIGN]
    raise DataError("no JSON file here has annotations", file=path, fix="give the JSON file, or its folder")


def _kind(file: Path) -> str:
    """``annotations`` (perhaps damaged), ``foreign`` for those of another format, or ``other``."""
    try:
        tree = parse(file)
    except DataError:
        return "annotations"
    if isinstance(tree, dict) and any(name in tree for name in LISTS):
        return "annotations"
    return "foreign" if recognise(tree) else "other"


def parse(file: Path) -> Any:
    """What the JSON file holds, of whatever kind.

    Raises:
        DataError: It cannot be read, or is not JSON, or one of its lists is there twice.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file, fix="copy the file again") from None
    return loads(content, file)


def frames_folder(source: Path, frames: Path | None, raw: Any) -> Path | None:
    """The folder of the frames: the given one, or where the reader finds it if ``data.root`` is the JSON's folder, else
    if it is the one above.

    Raises:
        DataError: The given one does not exist.
    """
    if frames is not None and not frames.is_dir():
        raise DataError("there is no such folder", file=frames, fix="give the folder that file_names are relative to")
    if frames is not None:
        return frames
    videos = entries(raw, "videos") if isinstance(raw, dict) else ()
    first = first_file(videos[0].raw) if videos else None
    for root in (source.parent, source.absolute().parent.parent):
        with contextlib.suppress(DataError):
            return find_frames(root, source, first)
    return None


def check_file(source: Path, settings: Settings) -> Report:
    """Check one JSON file and its frames; damage of any kind ends in the report.

    Raises:
        DataError: ``settings.frames`` does not exist.
    """
    try:
        raw = parse(source)
    except DataError as error:
        key = f"{error.key}: " if error.key else ""
        return Report(source, (Finding("json", "", f"{key}{error.problem}: {error.fix}"),), {})
    looker = FrameLooker(frames_folder(source, settings.frames, raw), settings.deep)
    return check_tree(raw, source, looker, settings.watch)


def check_tree(raw: Any, source: Path, looker: FrameLooker, watch: Watch = unwatched) -> Report:
    """Apply every rule to a parsed JSON file; one in another format is only named."""
    if known := recognise(raw):
        stills = "; its images can be trained without tracks in data.mix with format: coco" if known.has_stills else ""
        return Report(source, (Finding("foreign-format", "", f"this is {known.name}: {known.fix}{stills}"),), {})
    if not isinstance(raw, dict):
        return Report(source, (Finding("json", "", f"the file is {show(raw)}, not an object"),), {})
    seen, found = respelt(raw)
    tree = Tree(seen)
    sizes, missing = _sizes(tree), list[Faulty]()
    findings = (*found, *_findings(tree, source, looker, watch, sizes, missing))
    return Report(source, findings, sizes, tree.form, tuple(missing))


def _findings(
    tree: Tree, source: Path, looker: FrameLooker, watch: Watch, sizes: dict[str, int], missing: list[Faulty]
) -> Iterator[Finding]:
    """What is found; the frames are counted in ``sizes``, those that are missing told in ``missing``."""
    for file_rule in FILE_RULES.values():
        yield from file_rule(tree)
    if looker.root is None:
        text = f"there is no {source.parent / FRAMES_FOLDER}, nor another folder of frames; they were not checked"
        yield Finding("frames-folder", "", f"{text}: give it with --frames")
    convention = BoxConvention()
    for clip in watch(tree.clips(looker, source), len(tree.videos)):
        if not tree.form.is_still:
            sizes["frames"] += len(clip.frames)
        missing += filter(None, [_missing(clip)])
        yield from chain.from_iterable(video_rule(clip) for video_rule in VIDEO_RULES.values())
        for track in clip.tracks:
            yield from chain.from_iterable(track_rule(track) for track_rule in TRACK_RULES.values())
            convention.see(track)
    yield from convention.findings()


def _missing(clip: Clip) -> Faulty | None:
    names = dict(enumerate(listed(clip.video, "file_names")))
    looks = [(t, look) for t, look in enumerate(clip.frames) if look.problem and look.problem.code == "missing-frame"]
    frames = tuple(str(names.get(t, f"frame {t}")) for t, look in looks if look.better_name is None)
    return Faulty(clip.video.id, len(clip.frames), frames) if frames else None


def _sizes(tree: Tree) -> dict[str, int]:
    """How much there is, for the head of the report; frames are not counted yet."""
    frames = {} if tree.form.is_still else {"frames": 0}
    annotations = {"annotations": len(tree.annotations), "categories": len(tree.categories)}
    return {tree.form.key("videos"): len(tree.videos), **frames, **annotations}
