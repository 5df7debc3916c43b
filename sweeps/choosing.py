"""What a study's own definition decides while it runs: its next cell, the end of a hopeless one, its Optuna mirror.

This module brings Optuna, which takes a moment to import: workers import it when a study asks for it.
"""

from __future__ import annotations

from sweeps.definition import Study, from_definition
from sweeps.ledger import Claim, Ledger
from sweeps.optuna_mirror import mirror
from sweeps.pruning import should_prune
from sweeps.search import next_cell
from sweeps.trials import SearchRow
from sweeps.view import Keys, StoredStudy, StudyKey, View


def grow(ledger: Ledger, keys: Keys) -> bool:
    """Add the next cell of a study that is searched; False when there is none to add.

    Several workers may ask at once: whose proposal comes second is thrown away, and it asks again.
    """
    for stored in ledger.view.studies(keys).values():
        if stored.may_grow:
            rows = search_rows(ledger.view, stored.key)
            cell = next_cell(from_definition(stored.definition), rows)
            if cell is not None:
                ledger.append(stored.key, cell)
                return True
            ledger.exhaust(stored.key, len(rows))
    return False


def reason_to_prune(ledger: Ledger, claim: Claim) -> str | None:
    """Why a running cell is not worth finishing, says the pruner of its study; None to go on.

    A cell that several studies share goes on as long as one of them wants it.
    """
    keys = [key for key, _ in ledger.view.memberships(claim.cell_hash)]
    owners = ledger.view.studies(keys).values()
    reasons = [_reason(ledger.view, stored, claim.cell_hash) for stored in owners]
    return reasons[0] if reasons and all(reasons) else None


def mirror_to_optuna(view: View, keys: Keys, url: str) -> int:
    """Bring the Optuna study of each study up to date; returns how many trials were added.

    Raises:
        StorageError: The storage cannot be used.
    """
    return mirror(rows_by_study(view, keys), url)


def rows_by_study(view: View, keys: Keys) -> list[tuple[Study, list[SearchRow]]]:
    """The studies with their cells, in the order in which they were added."""
    studies = [stored for stored in view.studies(keys).values() if stored.definition]
    return [(from_definition(stored.definition), search_rows(view, stored.key)) for stored in studies]


def search_rows(view: View, key: StudyKey) -> list[SearchRow]:
    """The cells of a study as samplers, pruners and the dashboard see them."""
    values, reports = view.final_values(key), view.reports(key)
    return [
        SearchRow(
            position=row["position"],
            axes=row["axes"],
            seed=row["seed"],
            state=row["state"],
            value=values.get(row["cell_hash"]),
            reports=reports.get(row["cell_hash"], {}),
            hash=row["cell_hash"],
            number=row["number"],
            run_dir=row["run_dir"],
            attempt=row["attempt"],
            started=row["started"],
            finished=row["finished"],
        )
        for row in view.rows([key])
    ]


def _reason(view: View, stored: StoredStudy, cell_hash: str) -> str | None:
    if not stored.prunes:
        return None
    rows = search_rows(view, stored.key)
    row = next(row for row in rows if row.hash == cell_hash)
    if not should_prune(from_definition(stored.definition), rows, row.position):
        return None
    step, value = max(row.reports.items())
    return f"AP {value:.2f} at step {step} is not worth going on, says the pruner of {stored.key.name}"
