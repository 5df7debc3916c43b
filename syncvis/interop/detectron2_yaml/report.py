"""What became of each key of a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Values = Mapping[str, Any]
Verdict = Literal["mapped", "fixed", "dropped", "unsupported", "unknown"]

_TITLES: dict[Verdict, str] = {
    "mapped": "mapped",
    "fixed": "as it is here anyway",
    "dropped": "without counterpart",
    "unsupported": "with a value that has no counterpart",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Outcome:
    """What a key's value means here.

    Attributes:
        settings: our dotted keys and their values.
        note: the reason, for what is not mapped.
    """

    verdict: Verdict
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One key of the YAML or, where that is silent, a default of the public code; ``source`` is then its file."""

    key: str
    value: Any
    outcome: Outcome
    source: str | None = None

    @property
    def assignment(self) -> str:
        """The key and its value, and where it comes from if not from the YAML."""
        return f"{self.key} = {self.value!r}" + (f" (default of {self.source})" if self.source else "")

    def __str__(self) -> str:
        settings = ", ".join(f"{key} = {value!r}" for key, value in self.outcome.settings.items())
        arrow, colon = (" -> " if settings else ""), (": " if self.outcome.note else "")
        return f"{self.assignment}{arrow}{settings}{colon}{self.outcome.note}"


@dataclass(frozen=True)
class Report:
    """All keys of a YAML file, and the defaults that took part."""

    source: Path
    lines: tuple[Line, ...]

    def with_verdict(self, verdict: Verdict) -> list[Line]:
        return [line for line in self.lines if line.outcome.verdict == verdict]

    @property
    def unknown(self) -> list[str]:
        """Dotted names of the keys that nobody knows."""
        return [line.key for line in self.with_verdict("unknown")]

    @property
    def unsupported(self) -> list[str]:
        """Dotted names of the keys whose value cannot be had here."""
        return [line.key for line in self.with_verdict("unsupported")]

    def __str__(self) -> str:
        given = [line for line in self.lines if line.source is None]
        parts = [f"{self.source}: {len(given)} keys"]
        for verdict, title in _TITLES.items():
            found = self.with_verdict(verdict)
            parts.append(f"{len(found)} {title}" + (":" if found else ""))
            parts += [f"  {line}" for line in found]
        return "\n".join(parts)
