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
    """Build the model of a run config for K classes; parts that do not learn in its stage are frozen.

    Raises:
        ConfigError: ``train.trained`` names a part that the model does not have.
    """
    model = METHODS[config.method.name](config, num_classes)
    trained = model.trained if config.train.trained is None else config.train.trained
    if trained is not None:
        model.learn_only(trained)
    return model
