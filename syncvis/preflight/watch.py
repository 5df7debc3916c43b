"""Who is shown how far a look has come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track

from syncvis.data.annotations import Video

Watch = Callable[[Iterable[Video], int, Path], Iterable[Video]]
"""Hands videos through, of which there are so many in that JSON file, while it shows how many of them are done."""


def unwatched(videos: Iterable[Video], _total: int, _source: Path) -> Iterable[Video]:
    """No progress display."""
    return videos


def on_terminal(videos: Iterable[Video], total: int, source: Path) -> Iterable[Video]:
    """A bar on the terminal; nothing where the errors go to a file."""
    console, shown = Console(stderr=True), sys.stderr.isatty()
    return track(videos, f"looking at {source.name}", total, console=console, transient=True, disable=not shown)
