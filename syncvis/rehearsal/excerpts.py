"""The annotation files of runs cut to a few videos, for a rehearsal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from syncvis.config import DataConfig
from syncvis.data.excerpt import write_excerpt
from syncvis.data.mixing import load_mixed
from syncvis.data.ytvis import VideoDataset
from syncvis.preflight.splits import Splits

VIDEOS = 4
"""Of each data set to train on."""


@dataclass(frozen=True)
class Excerpts:
    """Files of a few videos, each cut out once and kept as long as its source stays as it is.

    Attributes:
        folder: where they are; an absolute path, as runs name them.
        valid: how many videos there are to evaluate on.
    """

    folder: Path
    valid: int

    def of(self, data: DataConfig) -> DataConfig:
        """The section ``data`` with excerpts in the place of its annotation files.

        Raises:
            DataError: A data set cannot be read, or shows no instance.
            StorageError: An excerpt cannot be written.
        """
        whole, chosen = Splits(data), str(data.videos)
        train = self._file(data.root, data.train, VIDEOS, (chosen,), lambda: whole.train)
        valid = self._file(data.root, data.valid, self.valid, (chosen,), lambda: whole.valid_as_read)
        small = data.model_copy(update={"train": train, "valid": valid, "videos": None})
        classes, mix = (Splits(small).train.categories if data.mix else ()), []
        for source in data.mix:
            scope = source.format, *(category.name for category in classes)
            file = self._file(source.root, source.train, VIDEOS, scope, partial(load_mixed, source, classes))
            mix.append(source.model_copy(update={"train": file}))
        return small.model_copy(update={"mix": tuple(mix)})

    def _file(self, root: str, name: str, number: int, scope: tuple[str, ...], load: Callable[[], VideoDataset]) -> str:
        source = (Path(root) / name).absolute()
        found = source.stat()
        identity = json.dumps([str(source), root, found.st_size, found.st_mtime_ns, number, scope])
        folder = self.folder / sha256(identity.encode()).hexdigest()[:16]
        path = folder / source.name
        return str(path if path.exists() else write_excerpt(load(), number, folder))
