"""Which cell a search runs next: a pure function of a study and its rows.

Optuna is asked through a study that is rebuilt in memory each time, so whoever holds the rows gets the same answer, and
nothing else has to be stored or repaired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from sweeps.definition import Cell, Study
from sweeps.space import Dimension, Label, Search, point_key
from sweeps.trials import SearchRow, distribution, quiet, tell
from syncvis.errors import ConfigError

# How often in a row a sampler may propose what is there already.
PATIENCE = 20
RANDOM_PATIENCE = 200


def next_cell(study: Study, rows: Sequence[SearchRow]) -> Cell | None:
    """The cell to add next; None when ``trials`` cells are there, or a finite space has no other.

    A proposed point that is there already gets its next seed. Optuna never averages over them: to its samplers
    they are repetitions.

    Raises:
        ConfigError: There is nothing to search by, a range without an end is to be a grid, or a config is invalid.
    """
    search = search_of(study)
    if len(rows) >= search.trials:
        return None
    if search.sampler == "grid":
        study.refuse_endless_grid()
        return _first_open(study, rows)
    taken = _Taken(study, rows)
    with quiet():
        found = taken.first_open_of(_proposals(study_of(study, rows), study, PATIENCE))
        if found or study.finite:
            return found or _first_open(study, rows)
        chance = optuna.create_study(sampler=RandomSampler(_sampler_seed(search, len(rows))))
        return taken.first_open_of(_proposals(chance, study, RANDOM_PATIENCE))


def study_of(study: Study, rows: Sequence[SearchRow]) -> optuna.Study:
    """The rows as an Optuna study in memory, with the sampler that chooses the next cell.

    The sampler is seeded by the number of rows: with one seed, a process that resumes a search would propose the
    start of it again. All rows inform it, whichever Hyperband bracket they were in.
    """
    with quiet():
        return tell(study, rows, _sampler(study, len(rows)))


def search_of(study: Study) -> Search:
    """Its search settings.

    Raises:
        ConfigError: It has none.
    """
    if study.search is None:
        raise ConfigError("has no search settings", file=study.source, key="search", fix="write search: {trials: 20}")
    return study.search


class _Taken:
    """The cells that a study has, and the first of some points that still lacks one."""

    def __init__(self, study: Study, rows: Sequence[SearchRow]):
        self._study = study
        self._points = {(point_key(row.axes), row.seed) for row in rows}
        self._hashes = {row.hash for row in rows}
        self._position = max((row.position for row in rows), default=-1) + 1

    def first_open_of(self, points: Iterator[dict[str, Label]]) -> Cell | None:
        cells = (cell for point in points for seed in self._study.seeds if (cell := self.open(point, seed)))
        return next(cells, None)

    def open(self, point: dict[str, Label], seed: int) -> Cell | None:
        """The cell of this point and seed, unless it, or one of the same config, is there."""
        if (point_key(point), seed) in self._points:
            return None
        cell = self._study.cell(point, seed, self._position)
        return None if cell.hash in self._hashes else cell


def _first_open(study: Study, rows: Sequence[SearchRow]) -> Cell | None:
    taken = _Taken(study, rows)
    cells = (cell for seed in study.seeds for point in study.points() if (cell := taken.open(point, seed)))
    return next(cells, None)


def _proposals(told: optuna.Study, study: Study, number: int) -> Iterator[dict[str, Label]]:
    """Points that the sampler proposes; each stays in ``told`` as a running trial, which drives TPE on to others."""
    for _ in range(number):
        trial = told.ask()
        point: dict[str, Label] = {}
        for axis in study.axes:
            if axis.exists(point):
                point[axis.name] = _suggest(trial, axis)
        yield point


def _suggest(trial: optuna.Trial, axis: Dimension) -> Label:
    if axis.range is None:
        return trial.suggest_categorical(axis.name, [point.label for point in axis.points])
    shape = distribution(axis)
    if isinstance(shape, optuna.distributions.IntDistribution):
        return trial.suggest_int(axis.name, shape.low, shape.high, step=shape.step, log=shape.log)
    assert isinstance(shape, optuna.distributions.FloatDistribution)
    return axis.range.nearest(trial.suggest_float(axis.name, shape.low, shape.high, step=shape.step, log=shape.log))


def _sampler(study: Study, rows: int) -> BaseSampler:
    search = search_of(study)
    seed = _sampler_seed(search, rows)
    if search.sampler != "tpe":
        return RandomSampler(seed)
    # Axes that exist together are modelled together.
    conditional = any(axis.when for axis in study.axes)
    return TPESampler(seed=seed, n_startup_trials=search.startup, group=conditional)


def _sampler_seed(search: Search, rows: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{search.seed}:{rows}".encode()).digest()[:4])
