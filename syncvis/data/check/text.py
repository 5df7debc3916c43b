"""Reports for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from syncvis.data.check.findings import KINDS, Finding, Report, Severity, dropped_entries
from syncvis.data.faulty_frames import grouped
from syncvis.errors import one_line


def render(report: Report, most: int | None) -> Iterator[str]:
    """What was found: for every kind, worst first, how often and the first ``most`` findings (None: all).

    Of frames that are missing all videos are told instead, in a few lines.
    """
    sizes = ", ".join(f"{count} {name}" for name, count in report.sizes.items())
    yield f"{one_line(str(report.source))}: {sizes}" if sizes else one_line(str(report.source))
    for code, found in _by_code(report.findings).items():
        yield f"  {KINDS[code].severity} {code}: {report.form.title(KINDS[code].title)}: {len(found)}"
        if code == "missing-frame" and most is not None:
            yield from (f"    {one_line(group)}" for group in grouped(report.missing, "missing", report.form.video))
            found = [finding for finding in found if finding.mend]
        yield from (f"    {line(finding)}" for finding in found[:most])
        if most is not None and len(found) > most:
            yield f"    ... and {len(found) - most} more (--all)"


def _by_code(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found = defaultdict(list)
    for finding in findings:
        found[finding.code].append(finding)
    return {code: found[code] for code in KINDS if code in found}


def line(finding: Finding) -> str:
    """One finding: ids, key, what is wrong, what --fix or --drop does."""
    ids = ((name, getattr(finding, name)) for name in ("video", "image", "frame", "annotation"))
    place = ", ".join(f"{name} {value}" for name, value in ids if value is not None)
    key = f"({finding.key})" if finding.key else ""
    mend = f" [{'--drop' if finding.mend.drops else '--fix'}: {finding.mend.how}]" if finding.mend else ""
    where = " ".join(part for part in (place, key) if part)
    return one_line(f"{where}: {finding.text}{mend}" if where else f"{finding.text}{mend}")


def summary(report: Report) -> str:
    """The report in one line."""
    counts = ", ".join(_counted(report.count(severity), severity) for severity in Severity)
    mends = [finding.mend.drops for finding in report.findings if finding.mend]
    verdict = "" if report.count(Severity.ERROR) or report.count(Severity.WARNING) else "nothing wrong: "
    mended = f"; --fix mends {mends.count(False)}" if False in mends else ""
    dropped = f"; --drop would drop {droppable(report)}" if True in mends else ""
    return f"{verdict}{counts}{mended}{dropped}"


def droppable(report: Report) -> str:
    """What --drop would drop, in words."""
    mends = [finding.mend for finding in report.findings if finding.mend and finding.mend.drops]
    return listing(dropped_entries(edit for mend in mends for edit in mend.edits))


def listing(counts: Mapping[str, int]) -> str:
    """``3 annotations, 1 video``."""
    singular = {"categories": "category"}
    return ", ".join(f"{n} {name if n != 1 else singular.get(name, name[:-1])}" for name, n in counts.items())


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def to_json(report: Report) -> dict[str, Any]:
    """A report for programs."""
    counts = {code: len(found) for code, found in _by_code(report.findings).items()}
    findings = [_finding_json(finding) for finding in report.findings]
    return {"file": str(report.source), "sizes": report.sizes, "counts": counts, "findings": findings}


def _finding_json(finding: Finding) -> dict[str, Any]:
    names = ("severity", "code", "video", "image", "frame", "annotation", "key", "text")
    mend = {"mend": finding.mend.how if finding.mend else None, "drops": bool(finding.mend and finding.mend.drops)}
    return {name: getattr(finding, name) for name in names} | mend
