"""``python -m syncvis.training.count [PLUGIN ...]``: FLOPs of training clips.

For :mod:`syncvis.preflight.flops`, whose callers plan without torch: JSON comes on stdin, and a line of it goes to
stdout for each question.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from syncvis.config import RunConfig
from syncvis.references import allow
from syncvis.training.cost import clip_flops


def answer(config: RunConfig, classes: int) -> dict[str, Any]:
    """``flops``, or the ``problem`` that a model cannot be counted for: code of one's own can raise anything."""
    try:
        return {"flops": clip_flops(config, classes)}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer a list of ``{"config", "classes"}`` in its order."""
    allow(sys.argv[1:])
    for one in json.load(sys.stdin):
        print(json.dumps(answer(RunConfig.model_validate(one["config"]), one["classes"])), flush=True)


if __name__ == "__main__":
    main()
