"""The source behind a trial: kept with each of its attempts, told, and compared with the one that is here."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from sweeps.database import Row, attempt_sources, sources
from sweeps.ledger import Claim, Ledger
from sweeps.view import View
from syncvis.config import plugins_of
from syncvis.source import Source, snapshot


def keep_source(ledger: Ledger, claim: Claim) -> None:
    """Keep the source of this process as that of an attempt, with the modules of one's own that its config names."""
    ledger.keep_source(claim, as_row(snapshot(plugins_of(json.loads(claim.config)))))


def as_row(source: Source) -> Row:
    """As the table ``sources`` holds it."""
    return {
        "digest": source.digest,
        "commit": source.commit,
        "code": source.code,
        "patch": gzip.compress(source.patch, mtime=0),
        "changed": json.dumps(source.changed),
        "left_out": json.dumps(source.left_out),
    }


def from_row(row: Row) -> Source:
    """What :func:`as_row` made."""
    changed, left_out = (tuple(json.loads(row[name])) for name in ("changed", "left_out"))
    return Source(row["commit"], row["code"], changed, gzip.decompress(row["patch"]), left_out)


def sources_of(view: View, cell_hash: str) -> dict[int, Source]:
    """Attempt -> its source, of the attempts that noted one."""
    query = sa.select(attempt_sources.c.attempt, sources).join_from(attempt_sources, sources)
    found = view.read(query.where(attempt_sources.c.cell_hash == cell_hash).order_by(attempt_sources.c.attempt))
    return {row["attempt"]: from_row(row) for row in found}


def changes_of_source(result: Mapping[str, Any], here: Source) -> Iterator[str]:
    """What of the source in a record is not as it is here; the fingerprint decides where the record has one."""
    stored = result.get("source")
    if stored is None:  # of an older version, which had only the commit, and a sum over stray files, too
        yield from _change("commit", result.get("commit"), here.commit)
        yield from _change("dirty", result.get("dirty"), here.diff is not None)
    elif stored != here.code:
        yield f"source: {told(result)} in the record, {told(as_record(here))} now"


def source_now(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines about the sources of a trial's attempts, and whether this is the last of them."""
    states, now = record["sources"], snapshot(plugins_of(record["config"])).code
    for attempt, state in states.items():
        yield f"source of attempt {attempt}: {told(state)}"
    if states and list(states.values())[-1]["source"] != now:
        way = f"`syncvis sweep restore {record['number']} --to FOLDER` brings it back"
        yield f"source is not as it was: {now} here now; {way}"


def as_record(source: Source) -> Row:
    """As a result has it."""
    return {
        "source": source.code,
        "commit": source.commit,
        "changed": list(source.changed),
        "left_out": list(source.left_out),
    }


def told(record: Mapping[str, Any]) -> str:
    """``64bac1b3a77422e7 (commit ba426c00e6 with changes in syncvis/losses/matcher.py)``."""
    changed = record.get("changed") or []
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    commit = f"commit {record['commit'][:10]}" if record.get("commit") else "no commit"
    return f"{record['source']} ({commit}{f' with changes in {shown}' if changed else ''})"


def _change(name: str, before: Any, now: Any) -> Iterator[str]:
    if before != now:
        yield f"{name}: {before} in the record, {now} now"
