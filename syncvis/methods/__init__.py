"""Methods by name; the table is :data:`syncvis.config.METHODS`."""

from __future__ import annotations

from syncvis.config import BUILDERS, METHODS, RunConfig
from syncvis.methods.base import Method
from syncvis.references import load

__all__ = ["METHODS", "Method", "build"]


def build(config: RunConfig, num_classes: int) -> Method:
    """Build the model of a run config for K classes; parts that do not learn in its stage are frozen.

    Raises:
        ConfigError: Its method is a module of one's own that cannot be loaded, or is not allowed; or ``train.trained``
            names a part that the model does not have.
    """
    model: Method = load(config.method.name, BUILDERS)(config, num_classes)
    trained = model.trained if config.train.trained is None else config.train.trained
    if trained is not None:
        model.learn_only(trained)
    return model
