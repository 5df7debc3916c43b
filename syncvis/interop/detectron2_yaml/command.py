"""The command ``syncvis import-config``."""

from __future__ import annotations

from pathlib import Path

import yaml

from syncvis.config import resolve
from syncvis.errors import ConfigError
from syncvis.interop.detectron2_yaml.report import Report
from syncvis.interop.detectron2_yaml.translate import read_detectron2_yaml


def import_config(path: Path, allow_unknown: bool) -> tuple[str, Report]:
    """A public YAML file as a run config of ours, checked.

    Args:
        allow_unknown: go on without the keys that are unknown, or have a value without counterpart.

    Returns:
        The text of our YAML, and what became of every key.

    Raises:
        ConfigError: The file cannot be read, has keys that cannot be carried over (all are named), or gives a config
            that is not valid.
    """
    tree, report = read_detectron2_yaml(path)
    if not allow_unknown:
        _check(report)
    resolve(tree, path)
    return f"# Imported from {path.name}.\n{yaml.safe_dump(tree, sort_keys=False)}", report


def _check(report: Report) -> None:
    problems = []
    if report.unknown:
        problems.append("unknown keys: " + ", ".join(report.unknown))
    if report.unsupported:
        values = ", ".join(line.assignment for line in report.with_verdict("unsupported"))
        problems.append(f"values without counterpart: {values}")
    if problems:
        fix = "correct them, or leave them out with --allow-unknown"
        raise ConfigError("; ".join(problems), file=report.source, fix=fix)
