"""What the numbers of one experiment say, in one sentence that claims no more than the seeds carry."""

from __future__ import annotations

import math

from analysis.curves import Curve
from analysis.labels import count_text, labels_text
from analysis.searches import OBJECTIVE, Search
from analysis.statistics import Summary, paired_difference, summarise
from analysis.tables import Table


def verdict(table: Table) -> str:
    """Best and second setting by mean of the first metric, and whether the seeds can tell them apart."""
    ranked = table.ranked()
    if len(ranked) < 2:
        return "Fewer than two settings have a finished run: nothing to compare yet."
    best, second = ranked[:2]
    count = count_text(int(best["n"]), int(best["planned"]))
    first = f"Best mean {table.metric} at {labels_text(table.labels(best))}, {best['mean']:.1f} ({count})"
    return f"{first}; its lead over the second, {labels_text(table.labels(second))}, {_decision(table, lead(table))}."


def lead(table: Table) -> Summary:
    """Best minus second setting, paired over their common seeds; n = 0 with fewer than two settings."""
    ranked = table.ranked()
    if len(ranked) < 2:
        return summarise([])
    return paired_difference(table.seeds(ranked[0]), table.seeds(ranked[1]))


def curve_verdict(curve: Curve) -> str:
    """For each line of a curve, whether it rises or falls, from one slope per seed."""
    return " ".join(_trend(name, curve) for name in curve.series) or "No finished run yet."


def search_verdict(found: Search) -> str:
    """The best trial of a search, how far it was searched, and how much that says."""
    ranked, pruned = found.ranked(), len(found.pruned)
    if not ranked:
        return f"No finished trial yet, {pruned} pruned."
    best = ranked[0]
    where = f"trial {int(best['number'])} ({labels_text(found.table.labels(best))}, seed {int(best['seed'])})"
    told = f"Best {OBJECTIVE} {best['value']:.1f} at {where}, of {len(ranked)} finished and {pruned} pruned trials"
    return f"{told}; it is one run chosen for its result: repeat it over seeds before it is compared."


def _trend(name: str, curve: Curve) -> str:
    slopes = curve.slopes(name)
    summary = summarise([value for value in slopes.values() if math.isfinite(value)])
    if summary.n == 0:
        return f"{name}: no seed has finished at least two, and every, {curve.x}."
    change = f"{name}: {summary.mean:+.2f} {curve.metric} per unit of {curve.x}"
    if summary.n < 2:
        return f"{change} (1 seed): undecided."
    direction = ("rises" if summary.mean > 0 else "falls") if summary.excludes_zero else "undecided"
    return f"{change}, {_interval(summary)} over {summary.n} seeds: {direction}."


def _decision(table: Table, pair: Summary) -> str:
    if pair.n == 0:
        return "cannot be judged: no seed has finished both, undecided"
    gap = f"is {pair.mean:.1f} {table.metric}"
    if pair.n == 1:
        return f"{gap} (1 common seed, no spread): undecided"
    where = f"{gap} ({_interval(pair)} over {pair.n} paired seeds)"
    if pair.excludes_zero:
        return f"{where}: beyond the seed spread, not corrected for choosing the best"
    return f"{where}: within the seed spread, undecided"


def _interval(summary: Summary) -> str:
    return f"95 % interval {summary.low:.1f} to {summary.high:.1f}"
