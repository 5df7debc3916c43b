"""``python -m syncvis.training.fit [PLUGIN ...]``: whether initial weights fit models, and what they leave.

For :mod:`syncvis.preflight.fit`, whose callers plan without torch: JSON comes on stdin, and a line
of it goes to stdout for each question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from syncvis.config import RunConfig
from syncvis.errors import ConfigError, StorageError
from syncvis.references import allow
from syncvis.training.cost import shape_model
from syncvis.training.start import start_from


def answer(config: RunConfig, classes: Sequence[str]) -> dict[str, Any]:
    """``words`` of :class:`syncvis.training.start.Start`, or what is wrong: ``problem``, ``key`` and ``fix``."""
    try:
        return {"words": start_from(shape_model(config, len(classes)), str(config.train.init), classes).words}
    except (ConfigError, StorageError) as error:
        return {"problem": error.problem, "key": error.key, "fix": error.fix}


def main() -> None:
    """Answer a list of ``{"config", "classes"}`` in its order."""
    allow(sys.argv[1:])
    for one in json.load(sys.stdin):
        print(json.dumps(answer(RunConfig.model_validate(one["config"]), one["classes"])), flush=True)


if __name__ == "__main__":
    main()
