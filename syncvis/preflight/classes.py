"""How many classes a run has where no data set is there to tell."""

from __future__ import annotations

from pathlib import Path

from syncvis.preflight.benchmarks import BENCHMARKS

CLASSES = {known.folder: known.classes for known in BENCHMARKS}
"""K of the benchmarks."""

ASSUMED = 40


def classes_by_name(root: str | Path, name: str = "") -> tuple[int, str]:
    """K and where it is from: of the benchmark that a folder of the data set's root, or a config's name, speaks of."""
    known = [benchmark for benchmark in CLASSES if benchmark in Path(root).parts or benchmark in name]
    return (CLASSES[known[0]], f"{known[0]}, by its name") if known else (ASSUMED, "assumed: no data set tells")
