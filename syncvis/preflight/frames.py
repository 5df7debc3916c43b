"""Whether every frame of a split is on the disk, can be read, and has the size of its video."""

from __future__ import annotations

from collections import defaultdict

from syncvis.data.annotations import Video
from syncvis.data.check.images import FrameLooker, Look
from syncvis.data.faulty_frames import Faulty, grouped
from syncvis.data.frames import FrameReader
from syncvis.data.video_file import split_name
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError

MISSING = "missing"


class Frames:
    """Looks at the frames of videos, as ``data check`` does: by their headers."""

    def __init__(self, dataset: VideoDataset) -> None:
        assert isinstance(dataset.frames, FrameReader)
        self._source, self._root, self._is_still = dataset.source, dataset.frames.root, dataset.is_still
        self._faulty: dict[str, list[Faulty]] = defaultdict(list)

    def add(self, video: Video) -> None:
        """Look at the frames of a video."""
        looker = FrameLooker(self._root)
        wrong: dict[str, dict[str, None]] = defaultdict(dict)
        for name in video.file_names:
            found = _fault(looker.look(name), name, (video.height, video.width))
            if found is not None:
                wrong[found[0]][found[1]] = None
        for state, examples in wrong.items():
            self._faulty[state].append(Faulty(video.id, len(set(video.file_names)), tuple(examples)))

    def errors(self) -> list[DataError]:
        """One for each kind of fault, with all videos that have it."""
        noun = "image" if self._is_still else "video"
        return [
            DataError(
                "; ".join(grouped(faulty, state, noun, examples=state != MISSING)),
                file=self._source,
                key=str(self._root),
                fix=_fix(state),
            )
            for state, faulty in self._faulty.items()
        ]


def folders_of(dataset: VideoDataset) -> list[str]:
    """The folders, below that of the frames, in which the files of the frames lie."""
    found: dict[str, None] = {}
    for video in dataset.videos:
        found |= dict.fromkeys(split_name(name)[0].rpartition("/")[0] for name in video.file_names)
    return list(found)


def _fault(look: Look, name: str, size: tuple[int, int]) -> tuple[str, str] | None:
    """What is wrong with a frame: the kind of fault, and the frame."""
    if look.problem is not None:
        if look.problem.code == "missing-frame":
            return MISSING, name
        return "unreadable", look.problem.text
    if look.size != size:
        found = " x ".join(map(str, look.size or ()))
        return "of a wrong size", f"{name} is {found}, not {size[0]} x {size[1]}"
    return None


def _fix(state: str) -> str:
    if state == MISSING:
        return "put the frames there, or correct file_names; `syncvis data check` lists every one"
    return "copy or extract them again; `syncvis data check` lists every one"
