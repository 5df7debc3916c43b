"""Bringing a study into the ledger: new, as it was, or changed on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sweeps.definition import Study
from sweeps.difference import difference, extends
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.errors import ConfigError

Change = Literal["none", "extend", "replace"]
MAX_LINES = 5


def enrol(ledger: Ledger, study: Study, run_root: Path, change: Change = "none") -> StudyKey:
    """Make the ledger's study what this one says, and let it go on if it was stopped.

    Args:
        change: What may differ from the study that has begun: nothing; additions, so that all its cells stay; anything,
            where cells that the new study lacks keep their results but leave its tables.

    Raises:
        ConfigError: It differs in more than that; the text says in what, and how to go on.
    """
    key = StudyKey(study.experiment, study.scale)
    definition = study.model_dump(mode="json")
    known = ledger.view.studies([key]).get(key)
    if known and known.definition and change != "replace" and ledger.view.number_of_claims([key]):
        _refuse_change(study, known.definition, definition, change)
    ledger.add(key, definition, None if study.search else study.cells(), run_root)
    return key


def _refuse_change(study: Study, old: dict[str, object], new: dict[str, object], change: Change) -> None:
    lines = difference(old, new)
    allowed = extends(old, new)
    if not lines or (change == "extend" and allowed):
        return
    shown = "; ".join(lines[:MAX_LINES]) + (f"; and {len(lines) - MAX_LINES} more" if len(lines) > MAX_LINES else "")
    ways = "--extend adds to it" if allowed else "--replace drops the cells that are no longer in it"
    raise ConfigError(
        f"is not the study {study.name} that has begun: {shown}",
        file=study.source,
        key="axes",
        fix=f"{ways} (results are kept), --out starts another one, or undo the change",
    )
