"""What a table of names is: published names on the left, ours on the right, and reasons for what is not taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syncvis.interop.names.sizes import Sizes
from syncvis.structures import Level

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Naming:
    """How one family of files names a part of the model.

    A table of rules is applied from top to bottom: each replaces what its pattern matches.

    Attributes:
        title: what the family, or the part, is called in messages.
        marker: found in a name of this family and in no other family's; of an addition, how each of its names begins.
        prefix: of our names.
        rules: (pattern, replacement), applied in order.
        skipped: (pattern, reason) of names that are left out on purpose.
        unused: (pattern, what it is) of names that belong to parts which no model of ours has.
        parts: top-level parts of our models that every file of the family has whole.
    """

    title: str
    marker: str
    prefix: str
    rules: Rules
    skipped: Rules = ()
    unused: Rules = ()
    parts: tuple[str, ...] = ()


Entries = Callable[[Sizes, Level, int, int], dict[str, Any]]
"""(sizes of a file, level of its queries, heads of the query decoder, points of a head) -> sections of a config."""


@dataclass(frozen=True)
class Family:
    """What is published of a method.

    Attributes:
        title: what its models are called in messages.
        additions: tables for the names that its files have besides a Mask2Former's. A model without anything under a
            table's ``prefix`` does not use them.
        entries: the sections of the config whose model has the sizes of a file; None: no model is made from a file.
    """

    title: str
    additions: tuple[Naming, ...] = ()
    entries: Entries | None = None


PACKED = {"in_proj_weight": "weight", "in_proj_bias": "bias"}
"""torch's packed attention: the rows of query, key and value one after another."""

PACKED_ORDER = ("query", "key", "value")


def reason_for(name: str, table: Rules) -> str | None:
    """What a table says of a name; None if nothing."""
    return next((reason for pattern, reason in table if re.search(pattern, name)), None)
