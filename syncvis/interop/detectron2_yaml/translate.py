"""From the keys of a detectron2 config to a run config of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from syncvis.config import set_dotted
from syncvis.interop.detectron2_yaml.defaults import defaults_of
from syncvis.interop.detectron2_yaml.files import read_flat
from syncvis.interop.detectron2_yaml.keys import CHOICES, FIXED, RENAMED
from syncvis.interop.detectron2_yaml.report import Line, Outcome, Report
from syncvis.interop.detectron2_yaml.rules import RULES
from syncvis.interop.detectron2_yaml.without_counterpart import INACTIVE, NO_COUNTERPART

KNOWN = (*RENAMED, *CHOICES, *FIXED, *RULES, *NO_COUNTERPART)
ARCHITECTURE, LAST = "MODEL.META_ARCHITECTURE", "MODEL.SYNCVIS.OVERRIDES"


def read_detectron2_yaml(path: str | Path) -> tuple[dict[str, Any], Report]:
    """Read a YAML file of Mask2Former-VIS or SyncVIS, with its bases, as a run config tree.

    What the file does not say has the value that its public code gives it; what that code does not have either keeps
    our default. Needs no detectron2.

    Returns:
        The tree for ``syncvis.config.resolve``, and what became of every key.

    Raises:
        ConfigError: The file, or one of its bases, cannot be read.
    """
    given = read_flat(path)
    tree, lines = translate(given)
    return tree, Report(Path(path), tuple(lines))


def translate(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Line]]:
    """Dotted keys with their values -> run config tree, and a line for each key and each default that took part."""
    defaults = defaults_of(str(given.get(ARCHITECTURE)))
    values = {**{key: value for key, (value, _) in defaults.items()}, **given}
    lines = [Line(key, given[key], _outcome(key, values)) for key in given]
    silent = [key for key in defaults if key not in given]
    lines += [Line(key, defaults[key][0], _outcome(key, values), defaults[key][1]) for key in silent]
    lines = [line for line in lines if line.source is None or line.outcome.verdict in ("mapped", "unsupported")]
    tree: dict[str, Any] = {}
    for line in sorted(lines, key=lambda line: line.key == LAST):
        for key, value in line.outcome.settings.items():
            tree = set_dotted(tree, key, list(value) if isinstance(value, tuple) else value)
    return tree, lines


def _outcome(key: str, values: Mapping[str, Any]) -> Outcome:
    if not any(_covers(known, key) for known in KNOWN):
        near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.8)
        return Outcome("unknown", note=f"did you mean {near[0]}?" if near else "")
    try:
        return _known_outcome(key, values)
    except (TypeError, ValueError, AttributeError):
        return Outcome("unsupported", note="the value is not of the kind that this key takes")


def _known_outcome(key: str, values: Mapping[str, Any]) -> Outcome:
    value = values[key]
    for reason in _reasons_against(key, values):
        return Outcome("dropped", note=reason)
    if key in RENAMED:
        return Outcome("mapped", dict.fromkeys(RENAMED[key], value))
    if key in RULES:
        return RULES[key](values)
    allowed = CHOICES[key] if key in CHOICES else FIXED[key]
    if value not in allowed:
        return Outcome("unsupported", note=f"only {' or '.join(repr(choice) for choice in allowed)}")
    return Outcome("mapped", CHOICES[key][value]) if key in CHOICES else Outcome("fixed")


def _reasons_against(key: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Why a key does not count here."""
    for keys, control, active, reason in INACTIVE:
        if _covers(keys, key) and values.get(control) not in active:
            yield reason
    for keys, reason in NO_COUNTERPART.items():
        if _covers(keys, key):
            yield reason


def _covers(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith(".*") else key == pattern
