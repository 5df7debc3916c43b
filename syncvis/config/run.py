"""Run configuration: a frozen, typed tree that says everything a result depends on, and nothing else.

Where results go, on which device and with how many loader workers is not here (see ``training.run.Runtime``): those
must not change a number, so they are not part of a run's identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from syncvis.config.methods import Mask2FormerVISSettings, MethodConfig, complete, unread_changes
from syncvis.config.schema import CommonConfig
from syncvis.config.tables import OWN_CODE
from syncvis.references import is_reference


def plugins_of(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules of one's own that the tree of a resolved run config names."""
    names = (_value(tree, key.split(".")) for key in OWN_CODE)
    return tuple(sorted({name.partition(":")[0] for name in names if isinstance(name, str) and is_reference(name)}))


def _value(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


class RunConfig(CommonConfig):
    """One training run and its evaluation."""

    method: MethodConfig = Mask2FormerVISSettings()

    @model_validator(mode="before")
    @classmethod
    def _method_completes(cls, tree: Any) -> Any:
        return complete(tree) if isinstance(tree, Mapping) else tree

    @model_validator(mode="after")
    def _method_agrees(self) -> RunConfig:
        unread = list(unread_changes(self.method, self))
        if unread:
            raise ValueError(f"{', '.join(unread)}: {self.method.name} never reads this; leave it at its default")
        self.method.agree(self)
        return self

    @property
    def plugins(self) -> tuple[str, ...]:
        """The modules of one's own that it names."""
        return plugins_of(self.model_dump(include={"method", "sync", "subclips"}))

    def canonical(self) -> str:
        """Canonical JSON of the resolved config: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def cell_hash(self) -> str:
        """Identity of this run, seed included: 16 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    @property
    def variant_hash(self) -> str:
        """Identity of this run without its seed: runs that differ only in the seed share it."""
        return self.model_copy(update={"seed": 0}).cell_hash
