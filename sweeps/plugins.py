"""Modules of one's own that cells name: whether the command line has allowed them, and whether they can be loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from sweeps.database import cells
from sweeps.definition import from_definition
from sweeps.view import OPEN, Keys, View, among
from syncvis.config import AGGREGATIONS, BUILDERS, WINDOWS, RunConfig, plugins_of
from syncvis.references import allowed, load, require

SECTIONS = ("method", "sync", "subclips")


def require_plugins(view: View, keys: Keys) -> None:
    """Raises ConfigError if a cell that a worker of these studies could take names a module that is not allowed."""
    require([*_of_cells(view, keys), *_of_searches(view, keys)])


def try_plugins(configs: Iterable[RunConfig]) -> None:
    """Load what the configs name of one's own, before the first cell.

    Raises:
        ConfigError: It is not allowed, or cannot be loaded.
    """
    own = [config for config in configs if config.plugins]
    require(module for config in own for module in config.plugins)
    for config in own:
        load(config.method.name, BUILDERS)
        if config.sync is not None:
            load(config.sync.aggregation, AGGREGATIONS)
        if config.subclips is not None:
            load(config.subclips.windows, WINDOWS)


def missing_flags(configs: Iterable[RunConfig]) -> str:
    """What of a command line would allow all that the configs name; empty where nothing is missing."""
    missing = {module for config in configs for module in config.plugins} - set(allowed())
    return " ".join(f"--plugin {module}" for module in sorted(missing))


def _of_cells(view: View, keys: Keys) -> Iterator[str]:
    """Of cells that have not ended."""
    columns = [view.json_at(cells.c.config, name).label(name) for name in SECTIONS]
    for row in view.read(sa.select(*columns).where(cells.c.state.in_(OPEN), among(keys)).distinct()):
        yield from plugins_of({name: json.loads(row[name]) if row[name] else None for name in SECTIONS})


def _of_searches(view: View, keys: Keys) -> Iterator[str]:
    """Of cells that a search may add."""
    for stored in view.studies(keys).values():
        if stored.may_grow:
            study = from_definition(stored.definition)
            for point in study.probes():
                yield from study.cell(point, study.seeds[0], 0).config.plugins
