"""What ``syncvis data check`` prints and returns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from syncvis.data.check.checking import Settings, annotation_files, check_file
from syncvis.data.check.findings import Report, exit_code
from syncvis.data.check.mending import Fixed, fix_file
from syncvis.data.check.text import listing, render, summary, to_json
from syncvis.data.check.views import Clip
from syncvis.errors import ConfigError

FIRST = 5
"""Findings of a kind that are shown without --all."""


def run_check(
    path: Path, frames: Path | None, deep: bool, fix: Path | None, drop: bool, show_all: bool, as_json: bool
) -> tuple[str, int]:
    """Check, mend if asked to: what to print, and the exit code (after mending: that of what remains).

    Raises:
        DataError: There is nothing to check.
        ConfigError: ``fix`` is given for several files, or ``drop`` without it.
        StorageError: The mended file cannot be written.
    """
    if drop and fix is None:
        raise ConfigError("--drop goes with --fix", file="command line", fix="add --fix OUT.json")
    files, settings = annotation_files(path), Settings(frames, deep, _watch)
    if fix is not None:
        if len(files) > 1:
            raise ConfigError(f"--fix takes one of {len(files)} files", file=path, fix="give the JSON file")
        return _fixed(fix_file(files[0], fix, settings, drop), fix, show_all, as_json)
    reports = [check_file(file, settings) for file in files]
    findings = [finding for report in reports for finding in report.findings]
    code = exit_code(findings)
    if as_json:
        return json.dumps({"files": [to_json(report) for report in reports], "exit_code": code}, indent=1), code
    return "\n".join(_text(report, show_all) for report in reports), code


def _watch(clips: Iterable[Clip], total: int) -> Iterable[Clip]:
    """A bar on the terminal; nothing where the errors go to a file."""
    shown = sys.stderr.isatty()
    return track(clips, "videos", total, console=Console(stderr=True), transient=True, disable=not shown)


def _text(report: Report, show_all: bool, verdict: str | None = None) -> str:
    return "\n".join([*render(report, None if show_all else FIRST), f"  {verdict or summary(report)}"])


def _fixed(fixed: Fixed, out: Path, show_all: bool, as_json: bool) -> tuple[str, int]:
    code = exit_code(fixed.remains.findings)
    mended = replace(fixed.before, findings=fixed.mended, missing=())
    if as_json:
        parts = {"before": fixed.before, "mended": mended, "remains": fixed.remains}
        named = {name: to_json(report) for name, report in parts.items()}
        tree = {"fixed": str(out), **named, "dropped": fixed.dropped, "exit_code": code}
        return json.dumps(tree, indent=1), code
    kept = sum(not finding.mend.drops for finding in fixed.mended if finding.mend)
    lost = f"dropped {listing(fixed.dropped)}" if fixed.dropped else "nothing dropped"
    done = _text(mended, show_all, f"{kept} mended, {lost}")
    return "\n".join(["MENDED", done, "REMAINS", _text(fixed.remains, show_all)]), code
