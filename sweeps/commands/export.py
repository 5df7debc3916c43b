"""``syncvis sweep export``: the ledger as a file for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sweeps.commands.options import OUT, OnlyScale, Out, Storage, Studies, keys_of, open_ledger
from sweeps.database import Row
from sweeps.tables import What, rows_of
from syncvis.errors import ConfigError
from syncvis.files import finite, write_bytes

Format = Literal["csv", "json", "parquet"]


def export(
    studies: Studies = None,
    what: Annotated[What, typer.Option(help="Which table.")] = "trials",
    scale: OnlyScale = None,
    out: Out = OUT,
    storage: Storage = None,
    format: Annotated[Format, typer.Option(help="Kind of file.")] = "csv",
    to: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write a table: a row per cell with axes, seed, state and metrics, or one of metrics, attempts, videos."""
    if format == "parquet" and to is None:
        raise ConfigError("Parquet is no text", key="--format", fix="name a file: --to trials.parquet")
    view = open_ledger(out, storage).view
    rows = rows_of(view, what, keys_of(view, studies, scale))
    content = _WRITERS[format](rows)
    if to is None:
        typer.echo(content.decode(), nl=False)
    else:
        write_bytes(to, content)
        typer.echo(f"{to}: {len(rows)} rows", err=True)


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow([harmless(name) for name in rows[0]])
    writer.writerows([harmless(value) for value in row.values()] for row in rows)
    return text.getvalue().encode()


def harmless(value: Any) -> Any:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(finite(list(rows)), indent=1, allow_nan=False) + "\n").encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: _array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _array(values: Sequence[Any]) -> Any:
    """A column of one type: numbers where all are, otherwise text; a column without a value is text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return pa.array(values, pa.float64() if float in kinds else pa.int64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


_WRITERS = {"csv": _csv, "json": _json, "parquet": _parquet}
