"""Methods by name; a new method is a file, its line here and its name in ``config.schema.MethodConfig.name``."""

from __future__ import annotations

from collections.abc import Callable

from syncvis.config import RunConfig
from syncvis.methods import mask2former_vis
from syncvis.methods.base import Method

METHODS: dict[str, Callable[[RunConfig, int], Method]] = {
    "mask2former_vis": mask2former_vis.build,
}


def build(config: RunConfig, num_classes: int) -> Method:
    """Build the model of a run config for K classes."""
    return METHODS[config.method.name](config, num_classes)
