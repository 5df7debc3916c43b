"""How many classes a run has where no data set is there to tell."""

from __future__ import annotations

from pathlib import Path

CLASSES = {"ytvis_2019": 40, "ytvis_2021": 40, "ytvis_2022": 40, "ovis": 25}
"""K of the benchmarks (syncvis/data/reference/dataset_stats.csv names the pages; 2022 has the classes of 2021)."""

ASSUMED = 40


def classes_by_name(root: str | Path, name: str = "") -> tuple[int, str]:
    """K and where it is from: of the benchmark that a folder of the data set's root, or a config's name, speaks of."""
    known = [benchmark for benchmark in CLASSES if benchmark in Path(root).parts or benchmark in name]
    return (CLASSES[known[0]], f"{known[0]}, by its name") if known else (ASSUMED, "assumed: no data set tells")
