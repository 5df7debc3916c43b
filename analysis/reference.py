"""Published values and claims, with their sources. What was not published stays empty."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from syncvis.errors import ConfigError

COLUMNS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AR1": "ar1", "AR10": "ar10"}

# Configuration name of a base method -> its name in the publications.
PUBLISHED_NAMES = {
    "mask2former_vis": "Mask2Former-VIS",
    "vita": "VITA",
    "ctvis": "CTVIS",
    "minvis": "MinVIS",
    "genvis": "GenVIS",
    "dvis": "DVIS",
    "idol": "IDOL",
    "tmt_vis": "TMT-VIS",
}

# Folder of a benchmark in the recipes, and their name of a backbone -> its name in the published rows.
DATASETS = {"ytvis_2019": "ytvis19", "ytvis_2021": "ytvis21", "ytvis_2022": "ytvis22", "ovis": "ovis"}
BACKBONES = {"resnet50": "R50", "resnet101": "R101", "swin_l": "Swin-L"}

# Our name of an axis -> its name in the published rows.
AXIS_ALIASES = {"momentum": "lambda"}


@cache
def _read(name: str) -> pd.DataFrame:
    text = files("analysis").joinpath("reference", name).read_text(encoding="utf-8")
    frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    for column in COLUMNS.values():
        if column in frame:
            frame[column] = pd.to_numeric(frame[column].replace("", None), errors="raise")
    return frame


def reference_for(table_id: str) -> pd.DataFrame:
    """The rows of one published table; a value that was not published is NaN.

    Raises:
        ConfigError: No table has that id.
    """
    frame = _read("reference_results.csv")
    rows = frame[frame["table_id"] == table_id]
    if rows.empty:
        raise _unknown("table", table_id, frame["table_id"], "reference_results.csv")
    return rows.reset_index(drop=True)


def of_recipe(rows: pd.DataFrame, base: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that were published for the data set and the backbone of a run config, or do not say for which.

    Args:
        rows: Rows of :func:`reference_for`.
        base: Tree of the run config; one on data that are no benchmark has no published rows.
    """
    root = Path(str(base.get("data", {}).get("root", "")))
    dataset = next((name for folder, name in DATASETS.items() if folder in root.parts), None)
    backbone = BACKBONES.get(str(base.get("model", {}).get("backbone", {}).get("name")))
    same = (rows["dataset"].str.rstrip("?") == dataset) & rows["backbone"].isin(["", backbone])
    return rows[same].reset_index(drop=True)


def claims(ids: Iterable[str]) -> pd.DataFrame:
    """The published claims with these ids, in this order.

    Raises:
        ConfigError: A claim is not listed.
    """
    frame = _read("reference_claims.csv").set_index("id", drop=False)
    wanted = list(ids)
    for claim in wanted:
        if claim not in frame.index:
            raise _unknown("claim", claim, frame["id"], "reference_claims.csv")
    return frame.loc[wanted].reset_index(drop=True)


def published_row(rows: pd.DataFrame, labels: Mapping[str, object], method: str | None) -> pd.Series | None:
    """The published row of one setting, or None when no row, or more than one, fits.

    A row fits when its ``variant`` is one of the labels ("+SVFM") or names the setting ("lambda=0.05; ..."),
    and its ``method`` is a label, the published name of the base method ``method``, or SyncVIS.

    Args:
        rows: Rows of :func:`reference_for`.
        labels: Axis -> value of the setting.
        method: ``method.name`` of the setting's run configuration.
    """
    names = {_plain(value) for value in labels.values()}
    methods = names | {_plain(PUBLISHED_NAMES.get(method or "", "")), "syncvis"}
    fits = [
        row for _, row in rows.iterrows() if _plain(row["method"]) in methods and _names(row["variant"], labels, names)
    ]
    return fits[0] if len(fits) == 1 else None


def _names(variant: str, labels: Mapping[str, object], names: set[str]) -> bool:
    pairs = [part.partition("=") for part in variant.split(";")]
    if not all(sign for _, sign, _ in pairs):
        return _plain(variant) in names
    ours = {AXIS_ALIASES.get(_plain(axis), _plain(axis)): _plain(value) for axis, value in labels.items()}
    return all(ours.get(_plain(axis)) == _plain(value) for axis, _, value in pairs)


def _plain(text: object) -> str:
    return re.sub(r"[\s_-]+", " ", str(text)).strip().lower()


def _unknown(kind: str, given: str, known: Iterable[str], file: str) -> ConfigError:
    near = difflib.get_close_matches(given, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use an id of analysis/reference/{file}"
    return ConfigError(f"no published {kind} has this id", file=file, key=given, fix=hint)
