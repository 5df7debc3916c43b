"""Which experiments of the ledger are reported, and at which scale."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from analysis.experiments import Definition, Experiment, Layout, experiment_id, read_layout
from analysis.trials import AXIS, Trials, used_axes
from syncvis.errors import ConfigError

SCALES = ("smoke", "small", "paper")


def find_experiments(
    trials: Trials, folder: Path, wanted: Iterable[str] = (), scale: str | None = None
) -> list[Experiment]:
    """The wanted experiments that the ledger knows; if none is named, all (at that scale).

    Args:
        wanted: ``nk@ovis_r50`` for one recipe, or ``nk`` for all that it stands on.
        folder: Experiment files, which may say how the numbers are laid out; a missing one is no fault.
        scale: None for each one's largest that has a finished cell.

    Raises:
        ConfigError: The ledger has no such experiment or scale, or a file is wrong.
    """
    cells = trials.cells
    known = sorted(set(cells["experiment"]))
    names = list(dict.fromkeys(found for name in wanted for found in _named(name, known, cells, scale)))
    if not names:
        names = [name for name in known if scale in (None, *cells["scale"][cells["experiment"] == name])]
    return [_experiment(trials, folder, name, pick_scale(trials, name, scale)) for name in names]


def _named(name: str, known: list[str], cells: pd.DataFrame, scale: str | None) -> list[str]:
    """What a name means; of several recipes those that are there at the scale."""
    found = [one for one in known if name in (one, experiment_id(one))]
    if not found:
        near = difflib.get_close_matches(name, known, n=1)
        listed = f"did you mean {near[0]!r}?" if near else f"run `syncvis sweep run {name}` first"
        raise ConfigError("no such experiment in the ledger", file="command line", key=name, fix=listed)
    return [one for one in found if scale in (None, *cells["scale"][cells["experiment"] == one])] or found


def pick_scale(trials: Trials, name: str, scale: str | None = None) -> str:
    """The asked scale, or the largest one of the experiment that has a finished cell, or its first.

    Raises:
        ConfigError: The ledger has no cell of the experiment at that scale.
    """
    cells = trials.cells[trials.cells["experiment"] == name]
    present: list[str] = sorted(set(cells["scale"]), key=lambda s: SCALES.index(s) if s in SCALES else len(SCALES))
    if scale is not None and scale in present:
        return scale
    if scale is not None or not present:
        problem = f"the ledger has no cell at scale {scale!r}" if scale else "the ledger has no cell"
        fix = f"use --scale {' or '.join(present)}" if present else f"run `syncvis sweep run {name}`"
        raise ConfigError(problem, file="experiment", key=name, fix=fix)
    finished = [s for s in present if ((cells["scale"] == s) & (cells["state"] == "done")).any()]
    return finished[-1] if finished else present[0]


def _experiment(trials: Trials, folder: Path, name: str, scale: str) -> Experiment:
    study = trials.studies.get((name, scale), Definition())
    file = folder / f"{experiment_id(name)}.yaml"
    if file.parent != folder or not file.is_file():
        return Experiment(name, scale, study, Layout())
    cells = trials.cells[(trials.cells["experiment"] == name) & (trials.cells["scale"] == scale)]
    axes = [axis.name for axis in study.axes] or [axis.removeprefix(AXIS) for axis in used_axes(cells)]
    return Experiment(name, scale, study, read_layout(file, axes), file)
