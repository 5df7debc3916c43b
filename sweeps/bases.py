"""The run configs that an experiment starts from: the base of its scale, or the recipe that ``--on`` names."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncvis.config import read_tree
from syncvis.errors import ConfigError

BASE = "base"
"""Key of a variant that names the run config its cells start from."""
ON, SCALE = "{on}", "{scale}"
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Place:
    """Where an experiment stands: what fills the paths of its bases.

    Attributes:
        file: of the experiment; paths are relative to it.
        on: recipe by what stands for ``{on}``, or the path of a run config of one's own; empty where no base has one.
    """

    file: Path
    scale: str
    on: str = ""

    @property
    def name(self) -> str:
        """Of the recipe."""
        return Path(self.on).stem if self.is_file else self.on

    @property
    def is_file(self) -> bool:
        """Whether the recipe is a file of one's own."""
        return Path(self.on).suffix in YAML

    def path(self, pattern: str) -> Path:
        """The run config that a pattern means here; whether it is there is not looked at."""
        if self.is_file and ON in pattern:
            return Path(self.on)
        return self.file.parent / pattern.replace(SCALE, self.scale).replace(ON, self.on)

    def tree(self, pattern: str, key: str) -> dict[str, Any]:
        """What that run config says, with its own bases.

        Raises:
            ConfigError: There is no such file; the text has the nearest recipes.
        """
        path = self.path(pattern)
        if not path.is_file():
            raise self._missing(pattern, key)
        return {**read_tree(path), "scale": self.scale}

    def recipes(self, pattern: str) -> list[str]:
        """Names for which a pattern with ``{on}`` has a file, in alphabetical order."""
        head, _, tail = pattern.replace(SCALE, self.scale).partition(ON)
        found = (self.file.parent / head).parent.glob(f"{Path(head).name}*{tail}")
        start = len(Path(head).name)
        return sorted(path.name[start : len(path.name) - len(tail)] for path in found)

    def _missing(self, pattern: str, key: str) -> ConfigError:
        if ON not in pattern or self.is_file:
            what = f"run config {self.on}" if self.is_file else f"base {pattern!r}"
            return ConfigError(f"there is no {what}", file=self.file, key=key, fix="write that file")
        known = self.recipes(pattern)
        near = difflib.get_close_matches(self.on, known, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        problem = f"there is no recipe {self.on!r} for {pattern}{hint}"
        fix = f"take one of {', '.join(known)}, or give the path of a run config" if known else "write that file"
        return ConfigError(problem, file=self.file, key="--on", fix=fix)


def stands_on(*patterns: str) -> bool:
    """Whether one of these bases needs a recipe."""
    return any(ON in pattern for pattern in patterns)


def check_name(name: str, file: Path) -> None:
    """Raise ConfigError where a recipe's name cannot be a part of a study's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", name):
        problem = f"{name!r} cannot be a part of a study's name"
        raise ConfigError(problem, file=file, key="--on", fix="name the file with letters, digits and '_'")
