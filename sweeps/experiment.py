"""An experiment at one scale, on one recipe: here it becomes a study, with everything resolved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.bases import BASE, Place, check_name, stands_on
from sweeps.definition import Cell, Study
from sweeps.experiment_file import (
    MAX_NAME,
    SCALES,
    Experiment,
    Scale,
    at_scale,
    error_in,
    find_experiments,
    read_experiment,
)
from sweeps.space import Dimension, HyperbandSettings, Label, Point, Search, describe

# Cell, Label and describe belong to planning for whoever plans.
__all__ = [
    "SCALES",
    "Cell",
    "Experiment",
    "Label",
    "Scale",
    "definition",
    "describe",
    "find_experiments",
    "load_experiment",
    "plan_cells",
    "studies_at",
    "study_at",
]


def load_experiment(path: str | Path, scale: str | None = None) -> Experiment:
    """Read an experiment file; with a ``scale``, also check that it can be run at that scale.

    Raises:
        ConfigError: Naming the file and every wrong key, or the scales that there are.
    """
    experiment = read_experiment(path)
    if scale is not None:
        studies_at(experiment, scale)
    return experiment


def studies_at(experiment: Experiment, scale: str, on: Sequence[str] = ()) -> list[Study]:
    """The experiment at one scale, on each of these recipes; on those that it names itself if none is given.

    Raises:
        ConfigError: See :func:`study_at`; also recipes for an experiment that stands on none at this scale.
    """
    recipes = list(dict.fromkeys(on or experiment.recipes))
    if not _stands_on_recipe(experiment, scale):
        if on:
            problem = f"stands on no recipe at scale {scale!r}"
            raise error_in(experiment, "--on", problem, "leave --on away, or choose another --scale")
        recipes = [""]
    elif not recipes:
        raise error_in(experiment, "recipes", "names none", "give --on RECIPE, or name some")
    return [study_at(experiment, scale, recipe) for recipe in recipes]


def study_at(experiment: Experiment, scale: str, on: str = "") -> Study:
    """The experiment at one scale, with everything resolved.

    Args:
        on: the recipe that it stands on; empty for the first that it names itself.

    Raises:
        ConfigError: No base, values or seeds for this scale, no such recipe, a point listed twice, or a pruner that
            cannot work.
    """
    place = Place(experiment.path, scale)
    if _stands_on_recipe(experiment, scale):
        place = Place(experiment.path, scale, on or next(iter(experiment.recipes), ""))
        check_name(place.name, experiment.path)
    key = f"{experiment.id}@{place.name}" if place.on else experiment.id
    if len(key) > MAX_NAME:
        raise error_in(experiment, "--on", f"{key!r} is longer than {MAX_NAME} letters", "give the file a shorter name")
    axes, left_out = _dimensions(experiment, place)
    study = Study(
        name=f"{key}-{scale}",
        experiment=key,
        scale=scale,
        source=str(experiment.path),
        title=f"{experiment.title}, {place.name}" if place.on else experiment.title,
        question=experiment.question,
        claims=tuple(experiment.claims),
        notes=(*_notes(experiment, scale), *left_out),
        axes=tuple(axes),
        seeds=tuple(_seeds(experiment, scale)),
        base=place.tree(_base(experiment, scale), "base"),
        search=_search(experiment, scale),
    )
    _check_pruner(experiment, study)
    return study


def definition(experiment: Experiment, scale: str) -> dict[str, Any]:
    """:func:`study_at` as JSON; ``sweeps.definition.from_definition`` reads it back anywhere."""
    return study_at(experiment, scale).model_dump(mode="json")


def plan_cells(experiment: Experiment, scale: str) -> list[Cell]:
    """The whole grid at one scale, see :meth:`Study.cells`.

    Raises:
        ConfigError: See :func:`study_at`; also an axis that is a range, or an invalid config.
    """
    return study_at(experiment, scale).cells()


def _base(experiment: Experiment, scale: str) -> str:
    """The path of the base at a scale, not filled in.

    Raises:
        ConfigError: There is none for this scale; the text lists the scales that have one.
    """
    pattern = at_scale(experiment.base, scale)
    if pattern is not None and _is_there(experiment, pattern, scale):
        return pattern
    bases = {name: at_scale(experiment.base, name) for name in SCALES}
    present = [name for name, found in bases.items() if found and _is_there(experiment, found, name)]
    problem = f"there is no base {pattern!r} for scale {scale!r}" if pattern else f"there is none for scale {scale!r}"
    fix = f"use one of the scales {', '.join(present)}" if present else "write that file"
    raise error_in(experiment, "base", problem, fix)


def _is_there(experiment: Experiment, pattern: str, scale: str) -> bool:
    """Whether a base has a file at a scale; of one on a recipe the recipe decides."""
    return stands_on(pattern) or Place(experiment.path, scale).path(pattern).is_file()


def _stands_on_recipe(experiment: Experiment, scale: str) -> bool:
    """Whether the base at a scale, or that of a variant, has a place for a recipe's name."""
    variants = [at_scale(axis.variants, scale) or {} for axis in experiment.axes.values()]
    bases = [str(variant.get(BASE, "")) for points in variants for variant in points.values()]
    return stands_on(_base(experiment, scale), *bases)


def _notes(experiment: Experiment, scale: str) -> list[str]:
    notes = {name: at_scale(axis.note, scale) for name, axis in experiment.axes.items()}
    return [f"{name}: {note}" for name, note in notes.items() if note]


def _dimensions(experiment: Experiment, place: Place) -> tuple[list[Dimension], list[str]]:
    """The axes, and in words the variants that are left out since there is no recipe for them."""
    found: list[Dimension] = []
    left_out: list[str] = []
    for name, given in experiment.axes.items():
        axis, words = _with_bases(given.at(name, place.scale), place)
        key = f"axes.{name}"
        if not axis.points and axis.range is None:
            problem = words[0] if words else f"has no point at scale {place.scale!r}"
            raise error_in(experiment, key, problem, f"add {place.scale!r} to its points")
        for one, other in itertools.combinations(axis.points, 2):
            if dict(one.changes) == dict(other.changes):
                problem = f"the points {one.label!r} and {other.label!r} are the same"
                raise error_in(experiment, key, problem, "remove one of them")
        found.append(axis)
        left_out += words
    return found, left_out


def _with_bases(axis: Dimension, place: Place) -> tuple[Dimension, list[str]]:
    """An axis whose variants hold the run configs that they name; without those for which there is no recipe."""
    points, left_out = [], []
    for point in axis.points:
        changes = dict(point.changes)
        pattern = changes.get(BASE)
        if isinstance(pattern, str):
            if stands_on(pattern) and not place.is_file and not place.path(pattern).is_file():
                left_out.append(str(point.label))
                continue
            changes[BASE] = place.tree(pattern, f"axes.{axis.name}.variants.{point.label}.{BASE}")
        points.append(Point(label=point.label, changes=tuple(changes.items())))
    words = (
        [f"{axis.name}: on {place.name} without {', '.join(left_out)}, of which there is no recipe"] if left_out else []
    )
    return axis.model_copy(update={"points": tuple(points)}), words


def _check_pruner(experiment: Experiment, study: Study) -> None:
    pruner = study.search.pruner if study.search else None
    if isinstance(pruner, HyperbandSettings) and (pruner.min_resource or 0) > study.base_config().train.steps:
        problem, fix = "is more than the base's train.steps", "give the step of the first evaluation"
        raise error_in(experiment, "search.pruner.min_resource", problem, fix)


def _seeds(experiment: Experiment, scale: str) -> list[int]:
    seeds = at_scale(experiment.seeds, scale)
    if not seeds:
        raise error_in(experiment, "seeds", f"there are none for scale {scale!r}", f"add {scale}: [0, 1]")
    if len(set(seeds)) < len(seeds):
        raise error_in(experiment, "seeds", f"one is listed twice in {seeds}", "remove one of them")
    return seeds


def _search(experiment: Experiment, scale: str) -> Search | None:
    search = at_scale(experiment.search, scale)
    if search is None and experiment.search is not None:
        raise error_in(experiment, "search", f"there is none for scale {scale!r}", f"add {scale}: {{trials: 20}}")
    return search
