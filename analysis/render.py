"""Tables as Markdown, LaTeX, CSV and HTML, and figures as PNG and SVG: the only file that formats and draws.

The same numbers give the same bytes: nothing here depends on the time or on an unordered set.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.curves import Curve
from analysis.experiments import Experiment
from analysis.fit import FAMILY, height, wrapped
from analysis.layout import Cell, Row, Sheet, setting_text, title_text
from analysis.searches import OBJECTIVE, Search
from analysis.tables import Table
from analysis.trials import AXIS

WIDTH = 4.8
"""Inches of a figure."""
SIZE, TITLE_SIZE = 9.0, 10.8
"""Points of the font."""
# Okabe and Ito's palette, safe for colour-blind readers; marker and dash differ too, for print in grey.
METHOD_STYLES = {
    "SyncVIS": ("#0072B2", "o", "-"),
    "Mask2Former-VIS": ("#D55E00", "s", "--"),
    "VITA": ("#009E73", "^", "-."),
    "GenVIS": ("#CC79A7", "D", ":"),
    "DVIS": ("#E69F00", "v", (0, (5, 1))),
    "IDOL": ("#56B4E9", "P", (0, (3, 1, 1, 1))),
    "TMT-VIS": ("#000000", "X", (0, (1, 1))),
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "syncvis",
    "text.parse_math": False,
    "font.family": FAMILY,
    "font.size": SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}

HOLLOW = "hollow: fewer seeds than planned"


def markdown(sheet: Sheet) -> str:
    """A Markdown table with its title and caption."""
    shown = sheet.grid
    lines = [[_md(name) for name in shown.header]]
    lines.append(["---" if i < shown.labels else "--:" for i in range(len(shown.header))])
    lines += [[f"**{_md(c.text)}**" if c.bold else _md(c.text) for c in row] for row in shown.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_md(sheet.title)}**\n\n{body}\n\n{_md(sheet.caption)}\n"


def latex(sheet: Sheet) -> str:
    """A LaTeX table; it needs the package booktabs."""
    shown = sheet.grid
    lines = [[_tex(name) for name in shown.header]]
    lines += [[rf"\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row] for row in shown.rows]
    text = [" & ".join(line) + r" \\" for line in lines]
    columns = "l" * shown.labels + "r" * (len(shown.header) - shown.labels)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_tex(sheet.title)}. {_tex(sheet.caption)}}}",
            rf"\label{{tab:{slug(sheet.name)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            text[0],
            r"\midrule",
            *text[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv_text(table: Table) -> str:
    """Raw numbers, one row per setting and metric; text that a spreadsheet would run gets a quote."""
    return _csv(table.experiment, table.axes, table.frame)


def search_csv(found: Search) -> str:
    """Raw numbers, one row per trial of a search."""
    return _csv(found.table.experiment, found.table.axes, found.trials)


def _csv(experiment: Experiment, names: Sequence[str], frame: pd.DataFrame) -> str:
    axes = [AXIS + axis for axis in names]
    numbers = [str(name) for name in frame if name not in axes]
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_guard(name) for name in ["experiment", "scale", *names, *numbers])
    for row in frame.to_dict("records"):
        values = [experiment.id, experiment.scale, *(row[name] for name in [*axes, *numbers])]
        writer.writerow(_guard(value) for value in values)
    return out.getvalue()


def html(sheet: Sheet) -> Markup:
    """An HTML table with its caption, escaped."""
    shown = sheet.grid
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in shown.header)
    body = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(_td(cell, i < shown.labels) for i, cell in enumerate(row)))
        for row in shown.rows
    )
    return Markup(
        "<table>\n<caption>{}</caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>\n"
    ).format(f"{sheet.title}. {sheet.caption}", head, body)


def _td(cell: Cell, label: bool) -> Markup:
    text = Markup("<strong>{}</strong>").format(cell.text) if cell.bold else escape(cell.text)
    return Markup('<th scope="row">{}</th>' if label else "<td>{}</td>").format(text)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", text)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|$~])", r"\\\1", _one_line(text)).replace("&", "&amp;")


TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "–": "--",
    "−": "$-$",
    "†": r"$\dagger$",
}


def _tex(text: str) -> str:
    return "".join(TEX.get(mark, mark) for mark in _one_line(text))


def _guard(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def slug(name: str) -> str:
    """A name that is safe as a file name and as a LaTeX label: no dot, no separator, at most 80 letters."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "unnamed"


def frames_curve(curve: Curve, title: str) -> dict[str, bytes]:
    """Draw a metric against the frames per training clip (or another axis): "png" and "svg" bytes."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(title, 3.4)
        axes = figure.subplots()
        for name, (colour, marker, dash) in styles(curve.series).items():
            line = curve.lines[curve.lines["series"] == name]
            points = curve.points[curve.points["series"] == name]
            axes.plot(
                line["x"],
                line["mean"],
                dash,
                color=colour,
                marker=marker,
                markersize=5,
                label=wrapped(name, 0.4 * WIDTH, SIZE),
            )
            few = line[line["n"] < line["planned"]]
            axes.plot(few["x"], few["mean"], marker, color=colour, mfc="white", markersize=5, linestyle="")
            low, high = line["mean"] - line["spread"], line["mean"] + line["spread"]
            axes.fill_between(line["x"], low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(points["x"], points["value"], marker, color=colour, markersize=3, alpha=0.5, linestyle="")
        axes.set(xlabel=wrapped(x_label(curve.x), 0.7 * WIDTH, SIZE), ylabel=f"{curve.metric} (%)")
        axes.set_xticks(sorted(set(curve.lines["x"])))
        if curve.series:
            axes.legend()
        else:
            axes.text(0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center")
        _footnote(figure, f"line: mean over seeds; band: ± sample standard deviation; small marks: seeds\n{HOLLOW}")
        return _encode(figure)


def dot_plot(table: Table) -> dict[str, bytes]:
    """Draw the first metric of every setting, with a dot per seed, mean and spread: "png" and "svg" bytes."""
    rows = table.of_metric().to_dict("records")
    with matplotlib.rc_context(STYLE):
        names = [wrapped(setting_text(table, row), 0.4 * WIDTH, SIZE) for row in rows]
        tall = 1.1 + sum(max(0.34, height(name, SIZE) + 0.1) for name in names)
        figure = _figure(title_text(table), tall)
        axes = figure.subplots()
        for place, row in enumerate(rows):
            _dots(axes, place, row, list(table.seeds(row).values()), _colour(table, row))
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=f"{table.metric} (%)", ylabel=wrapped(", ".join(table.axes), 0.8 * tall, SIZE))
        _footnote(figure, f"diamond and bar: mean ± sample standard deviation; dots: seeds\n{HOLLOW}")
        return _encode(figure)


def search_figure(found: Search) -> dict[str, bytes]:
    """Draw AP over the trial number with the best so far, and the importance of the axes: "png" and "svg" bytes."""
    bars = len(found.importance)
    heights = [3.0, 0.5 + 0.28 * bars] if bars else [3.0]
    with matplotlib.rc_context(STYLE):
        figure = _figure(title_text(found.table), sum(heights))
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        _draw_trials(panels[0], found)
        if bars:
            _draw_importance(panels[1], found)
        _footnote(figure, "one mark: one run; a pruned one at its last evaluation")
        return _encode(figure)


def _draw_trials(axes: Axes, found: Search) -> None:
    done, pruned = found.finished, found.pruned.dropna(subset=["value"])
    axes.plot(done["number"], done["value"], "o", color="#0072B2", markersize=4, label="finished")
    if len(pruned):
        axes.plot(pruned["number"], pruned["value"], "x", color="#D55E00", markersize=5, label="pruned")
    if len(done):
        axes.step(done["number"], done["best"], where="post", color="#000000", linewidth=1.2, label="best so far")
    axes.set(xlabel="trial", ylabel=f"{OBJECTIVE} (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(done) or len(pruned):
        axes.legend()
    else:
        axes.text(0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center")


def _draw_importance(axes: Axes, found: Search) -> None:
    names, shares = list(found.importance), list(found.importance.values())
    axes.barh(range(len(names)), shares, color="#0072B2", height=0.6)
    axes.set_yticks(range(len(names)), [wrapped(name, 0.4 * WIDTH, SIZE) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"importance for the best {OBJECTIVE} (PED-ANOVA)", xlim=(0, 1))


def _dots(axes: Axes, place: int, row: Row, seeds: Sequence[float], colour: str) -> None:
    axes.plot(seeds, [place + 0.22] * len(seeds), "o", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
    if not math.isfinite(row["mean"]):
        axes.annotate(
            "no finished run", (0.02, place), xycoords=("axes fraction", "data"), va="center", color="#666666"
        )
        return
    spread = row["spread"] if math.isfinite(row["spread"]) else None
    style: dict[str, Any] = {"color": colour, "markersize": 6, "capsize": 3, "linewidth": 1.2}
    whole = row["n"] == row["planned"]
    axes.errorbar(row["mean"], place, xerr=spread, fmt="D", mfc=colour if whole else "white", **style)


def _colour(table: Table, row: Row) -> str:
    named = [METHOD_STYLES[v][0] for v in map(str, table.labels(row).values()) if v in METHOD_STYLES]
    return named[0] if named else METHOD_STYLES["SyncVIS"][0]


def styles(names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Colour, marker and dash of each name: a known method has its own everywhere, others take the rest."""
    free = [style for method, style in METHOD_STYLES.items() if method not in names]
    others = [name for name in names if name not in METHOD_STYLES]
    taken = {name: free[i % len(free)] if free else METHOD_STYLES["SyncVIS"] for i, name in enumerate(others)}
    return {name: METHOD_STYLES.get(name) or taken[name] for name in names}


def x_label(axis: str) -> str:
    return "frames per training clip T" if axis == "T" else axis


def _figure(title: str, tall: float) -> Figure:
    """A figure of this height, in inches, and its title above that, in as many lines as it needs."""
    text = wrapped(title, 0.94 * WIDTH, TITLE_SIZE)
    figure = Figure(figsize=(WIDTH, tall + height(text, TITLE_SIZE)), layout="constrained")
    figure.suptitle(text, fontsize=TITLE_SIZE)
    return figure


def _footnote(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=6.5, color="#555555")


def _encode(figure: Figure) -> dict[str, bytes]:
    FigureCanvasAgg(figure)
    png, svg = BytesIO(), BytesIO()
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return {"png": png.getvalue(), "svg": svg.getvalue()}
