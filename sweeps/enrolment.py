"""Bringing a study into the ledger: new, as it was, or changed on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from sweeps.definition import Cell, Study, from_definition
from sweeps.difference import difference, draws_alike, extends, relabelled
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.errors import ConfigError, StorageError

Change = Literal["none", "extend", "replace"]
MAX_LINES = 5


def enrol(ledger: Ledger, study: Study, run_root: Path, change: Change = "none") -> StudyKey:
    """Make the ledger's study what this one says, and let it go on if it was stopped.

    Values that are the same numbers keep the label under which the ledger has them; the order is that of the file.

    Args:
        change: What may differ from the study that has begun: nothing; additions, so that all its cells stay; anything,
            where cells that the new study lacks keep their results but leave its tables.

    Raises:
        ConfigError: It differs in more than that; the text says in what, and how to go on.
    """
    key = StudyKey(study.experiment, study.scale)
    old, chosen = _begun(ledger, key, change), None
    if old is not None:
        study = relabelled(study, old)
        new = study.model_dump(mode="json")
        if change != "replace":
            _refuse_change(study, old, new, change)
        elif study.search and not extends(old, new):
            chosen = _still_in(ledger, key, study)
    planned = chosen if study.search else study.cells()
    ledger.add(key, study.model_dump(mode="json"), planned, run_root)
    return key


def _begun(ledger: Ledger, key: StudyKey, change: Change) -> dict[str, Any] | None:
    """The ledger's definition of a study of which a cell was claimed; one of another version can only be replaced."""
    known = ledger.view.studies([key]).get(key)
    if known is None or not known.definition or not ledger.view.number_of_claims([key]):
        return None
    try:
        from_definition(known.definition)
    except StorageError:
        if change != "replace":
            raise
        return None
    return known.definition


def _refuse_change(study: Study, old: Mapping[str, Any], new: Mapping[str, Any], change: Change) -> None:
    lines, allowed = difference(old, new), extends(old, new)
    if not lines or (change == "extend" and allowed):
        return
    ways = "--extend adds to it (results are kept), --out starts another one"
    if not allowed:
        ways = "--replace drops the cells that are no longer in it (results are kept), --out starts another one"
    if not draws_alike(old, new):
        ways = "--out starts another one, --replace goes on with cells of both scales in one study (results are kept)"
    shown = "; ".join(lines[:MAX_LINES]) + (f"; and {len(lines) - MAX_LINES} more" if len(lines) > MAX_LINES else "")
    raise ConfigError(
        f"is not the study {study.name} that has begun: {shown}",
        file=study.source,
        key="axes",
        fix=f"{ways}, or undo the change",
    )


def _still_in(ledger: Ledger, key: StudyKey, study: Study) -> list[Cell]:
    """The cells that a search has chosen before and that are cells of this study, too, in their order."""
    kept: list[Cell] = []
    for row in ledger.view.rows([key]):
        if row["seed"] in study.seeds and study.holds(row["axes"]):
            with suppress(ConfigError):  # with another base the point may be none any more
                cell = study.cell(row["axes"], row["seed"], len(kept))
                kept += [cell] if cell.hash == row["cell_hash"] else []
    return kept
