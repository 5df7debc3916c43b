"""Methods by name; the table is :data:`syncvis.config.METHODS`."""

from __future__ import annotations

from syncvis.config import BUILDERS, METHODS, RunConfig
from syncvis.methods.base import Method
from syncvis.references import load

__all__ = ["METHODS", "Method", "build"]


def build(config: RunConfig, num_classes: int) -> Method:
    """Build the model of a run config for K classes.

    Raises:
        ConfigError: Its method is a module of one's own that cannot be loaded, or is not allowed.
    """
    method: Method = load(config.method.name, BUILDERS)(config, num_classes)
    return method
