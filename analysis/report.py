"""Writes what the ledger says: one self-contained HTML report, and every table and figure as a file."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from analysis import render
from analysis.curves import curve
from analysis.experiments import Experiment
from analysis.layout import Sheet, importance_text, search_sheet, setting_text, sheet
from analysis.reference import claims
from analysis.searches import search
from analysis.sources import commits_text, source_states, sources_text, state_name
from analysis.tables import Table, ablation_table
from analysis.trials import Trials
from analysis.verdicts import curve_verdict, search_verdict, verdict
from syncvis.files import write_bytes

PICTURES = 3  # sample overlays per shown run
PICTURE_WIDTH = 360  # pixels


@dataclass(frozen=True)
class Section:
    """One experiment, ready to be written: what is shown, what follows from it, and raw numbers.

    Attributes:
        figure: "png" and "svg" bytes.
        csv: raw numbers behind ``sheet``.
    """

    table: Table
    sheet: Sheet
    verdict: str
    figure: dict[str, bytes]
    csv: str

    @property
    def name(self) -> str:
        return render.slug(self.table.experiment.id)


def sections(trials: Trials, experiments: Sequence[Experiment]) -> list[Section]:
    """Tables, verdicts and figures of these experiments.

    Raises:
        ConfigError: An experiment names an unknown reference or claim, or a curve over an axis without numbers.
        StorageError: Two cells claim the same setting and seed.
    """
    return [_section(trials, ablation_table(trials, experiment)) for experiment in experiments]


def _section(trials: Trials, table: Table) -> Section:
    if table.experiment.is_searched:
        found = search(trials, table)
        told = f"{search_verdict(found)} {importance_text(found)}"
        return Section(table, search_sheet(found), told, render.search_figure(found), render.search_csv(found))
    raw = render.csv_text(table)
    if table.experiment.layout.curve is None:
        return Section(table, sheet(table), verdict(table), render.dot_plot(table), raw)
    line = curve(table)
    figure = render.frames_curve(line, table.experiment.title)
    return Section(table, sheet(table), curve_verdict(line), figure, raw)


def write_report(parts: Sequence[Section], out: Path) -> list[Path]:
    """Write ``out/report``: index.html, tables/ and figures/; returns the paths, index.html first.

    Raises:
        StorageError: A file cannot be written.
    """
    folder = out / "report"
    files: dict[Path, bytes] = {folder / "index.html": page(parts, out).encode()}
    for part in parts:
        texts = {
            "md": render.markdown(part.sheet),
            "tex": render.latex(part.sheet),
            "csv": part.csv,
            "html": str(render.html(part.sheet)),
        }
        files |= {folder / "tables" / f"{part.name}.{kind}": text.encode() for kind, text in texts.items()}
        files |= {folder / "figures" / f"{part.name}.{kind}": data for kind, data in part.figure.items()}
    for path, data in files.items():
        write_bytes(path, data)
    return list(files)


def page(parts: Sequence[Section], out: Path) -> str:
    """The HTML report; ``out`` is where run folders are looked for when their stored path is gone."""
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    cells = pd.concat([part.table.cells for part in parts]).drop_duplicates("cell_hash")
    template = environment.get_template("report.html.j2")
    return template.render(summary=_summary(cells, parts), sections=[_view(part, out) for part in parts])


def _summary(cells: pd.DataFrame, parts: Sequence[Section]) -> dict[str, Any]:
    done = cells[cells["state"] == "done"]
    last = done["finished"].max()
    return {
        "scales": sorted({part.table.scale for part in parts}),
        "finished": len(done),
        "cells": len(cells),
        "seeds": sorted({int(seed) for seed in done["seed"]}),
        "commits": commits_text(done),
        "states": len(source_states(done)),
        "last": f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC" if len(done) else "",
        "seconds": float(done["seconds"].sum()),
        "machines": _environments(done),
    }


def _environments(done: pd.DataFrame) -> list[dict[str, Any]]:
    """Distinct environments with the number of runs in each, most frequent first."""
    counts = Counter(done["environment"])
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"runs": runs, "facts": json.loads(text)} for text, runs in ordered]


def _view(part: Section, out: Path) -> dict[str, Any]:
    table = part.table
    return {
        "name": part.name,
        "experiment": table.experiment,
        "metric": table.metric,
        "scale": table.scale,
        "verdict": part.verdict,
        "figure": data_uri(part.figure["svg"], "image/svg+xml"),
        "table": render.html(part.sheet),
        "claims": claims(table.experiment.study.claims).to_dict("records"),
        "unpublished": bool(table.experiment.layout.reference) and not table.published,
        "runs": _runs(table),
        "pictures": list(_pictures(table, out)),
        "provenance": _provenance(table),
    }


def _runs(table: Table) -> list[dict[str, Any]]:
    """One row per cell, finished or not, in plan order."""
    defaults = {tuple(table.labels(row).values()): row["default"] for row in table.of_metric().to_dict("records")}
    rows = []
    for cell in table.cells.sort_values("position").to_dict("records"):
        row = {**cell, "default": defaults[tuple(table.labels(cell).values())], "metric": table.metric}
        value = table.seeds(row).get(int(cell["seed"])) if cell["state"] == "done" else None
        known = {key: "" if pd.isna(cell[key]) else cell[key] for key in ("error", "run_dir", "seed", "number")}
        numbers = {"value": value, "seconds": cell["seconds"], "memory": cell["peak_memory_mb"]}
        shown = {key: None if number is None or pd.isna(number) else number for key, number in numbers.items()}
        name = {"hash": cell["cell_hash"], "state": cell["state"], "setting": setting_text(table, row)}
        name["source"] = state_name(cell) if cell["state"] == "done" else ""
        rows.append({**name, **known, **shown})
    return rows


def _provenance(table: Table) -> list[tuple[str, str]]:
    done = table.done
    source = table.experiment.source
    facts = {
        "layout": str(source) if source else "(no experiment file; the ledger alone is shown)",
        "source": sources_text(done),
        "data": ", ".join(sorted(set(done["data"].dropna()))),
        "data fingerprint": ", ".join(sorted(set(done["data_fingerprint"].dropna()))),
        "training steps": ", ".join(str(int(step)) for step in sorted(set(done["steps"].dropna()))),
        "published values": table.published or "none shown",
    }
    return [(name, text or "unknown") for name, text in facts.items()]


def _pictures(table: Table, out: Path) -> Iterator[dict[str, str]]:
    """Overlays of one run of the default setting and one of the best setting."""
    shown = [row for row in table.of_metric().to_dict("records") if row["default"]] + table.ranked()[:1]
    labels = dict.fromkeys(tuple(table.labels(row).values()) for row in shown)
    for cell in table.done.sort_values("position").to_dict("records"):
        key = tuple(table.labels(cell).values())
        if key not in labels:
            continue
        del labels[key]  # one run per setting
        name = f"{setting_text(table, {**cell, 'default': False})}, seed {int(cell['seed'])}"
        for path in _overlays(cell, out):
            picture = _thumbnail(path)
            yield {"name": f"{name}: {path.name}", "data": picture or ""}


def _overlays(cell: dict[Any, Any], out: Path) -> list[Path]:
    folders = [Path(str(cell["run_dir"])) / "overlays", out / "runs" / str(cell["cell_hash"]) / "overlays"]
    found = next((sorted(folder.glob("*.png")) for folder in folders if folder.is_dir()), [])
    return found[:PICTURES]


def _thumbnail(path: Path) -> str | None:
    """The picture, scaled down, as a data URI; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    data = BytesIO()
    small.save(data, format="PNG", optimize=True)
    return data_uri(data.getvalue(), "image/png")


def data_uri(data: bytes, kind: str) -> Markup:
    """Bytes as a data URI for ``src``."""
    return Markup("data:{};base64,{}").format(kind, base64.b64encode(data).decode())
