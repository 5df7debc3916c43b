"""The published weights that the recipes start from, and where their publishers list them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FILE = "published_weights.csv"


@dataclass(frozen=True)
class PublishedWeights:
    """A row of the table.

    Attributes:
        name: of the file that ``syncvis weights import`` makes of it, in weights/.
        file: name of the published file: in its address, or where the page only links it, in the publisher's configs.
        what: model, data and backbone.
        page: where the publisher lists it.
        commit: of the publisher's repository in which the page was read.
        config: a recipe whose model takes every tensor of the file; other recipes start from the same result.
    """

    name: str
    file: str
    what: str
    page: str
    commit: str
    config: str


@cache
def published_weights() -> Mapping[str, PublishedWeights]:
    """All rows by ``name``."""
    text = files("syncvis.preflight").joinpath(FILE).read_text(encoding="utf-8")
    rows = [PublishedWeights(**row) for row in csv.DictReader(text.splitlines())]
    return {row.name: row for row in rows}
