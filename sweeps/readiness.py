"""Whether the cells that are left can be run: their data and initial weights, and the disk for their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import ValidationError

from sweeps.database import State, cells
from sweeps.definition import Study, from_definition
from sweeps.forecast import plan_of
from sweeps.view import ENDED, OPEN, Keys, View, among
from syncvis.config import RunConfig
from syncvis.files import require_space, require_writable

if TYPE_CHECKING:
    from syncvis.preflight import Findings

CHECKPOINTS = 3
"""Of a cell that runs, on the disk at most; each of the size of the weights and two moments of all that is trained."""


def left(studies: Sequence[Study], view: View | None, retry: bool = False) -> list[RunConfig]:
    """The configs of cells that have not ended, those given up too if they are tried again.

    For cells that a search has yet to choose, configs in which every value of its axes occurs.
    """
    ended: list[State] = [state for state in ENDED if not (retry and state == "gave_up")]
    over = {row["cell_hash"] for row in view.cells(None, ended)} if view else set()
    found: dict[str, RunConfig] = {}
    for study in studies:
        plan = plan_of(study, view)
        planned = list(plan.cells)
        if plan.unchosen:
            planned += [study.cell(point, study.seeds[0], 0) for point in study.probes()]
        found |= {cell.hash: cell.config for cell in planned if cell.hash not in over}
    return list(found.values())


def open_in(view: View, keys: Keys) -> list[RunConfig]:
    """The configs of the cells of a ledger that have not ended, and of those that a search may yet add.

    Not of cells that this version cannot read: their trials tell why.
    """
    found = [cell for stored in view.studies(keys).values() if stored.may_grow for cell in _probes(stored.definition)]
    for row in view.read(sa.select(cells.c.config).where(cells.c.state.in_(OPEN), among(keys))):
        with suppress(ValidationError):
            found.append(RunConfig.model_validate_json(row["config"]))
    return found


def _probes(definition: Mapping[str, Any]) -> list[RunConfig]:
    study = from_definition(definition)
    return [study.cell(point, study.seeds[0], 0).config for point in study.probes()]


def look_at(configs: Sequence[RunConfig]) -> Findings:
    """The look that a training takes before its first step, once for all."""
    from syncvis.preflight import look_at_runs, on_terminal  # they bring libraries for pictures and videos

    return look_at_runs(configs, on_terminal)


def lacking(found: Findings, gpus: tuple[int, int] | None = None) -> list[str]:
    """What this machine lacks for the cells: lines with each thing once and the commands that mend it; none if nothing.

    Args:
        gpus: how many GPUs a trial needs, and how many are here; None: they are not asked for.
    """
    from syncvis.preflight import Missing, listed, look_at_gpus

    items = [*found.lacking, *(look_at_gpus(*gpus) if gpus else ())]
    return ["missing on this machine:", *listed(map(Missing.of, items))] if items else []


def require_disk(out: Path, configs: Sequence[RunConfig], at_once: int) -> None:
    """Refuse a folder that cannot be written to, or a disk without room for the checkpoints of the first cells.

    By the size of the initial weights; a run that has none tells its need itself, before its first step.

    Raises:
        StorageError: It is one of these.
    """
    require_writable(out)
    starts = [Path(config.train.init) for config in configs if config.train.init]
    sizes = sorted((path.stat().st_size for path in starts if path.is_file()), reverse=True)[:at_once]
    require_space(out, 3 * CHECKPOINTS * sum(sizes), f"the checkpoints of {len(sizes)} cells at once")
