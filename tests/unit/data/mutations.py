"""Random changes of JSON trees."""

from __future__ import annotations

import json
import random
from typing import Any

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf"),
    2**31, 2**63, -(2**63), 10**400, [10**400, 0, 1, 1], [float("nan")] * 4,
    "", "0", "\0", "\ud800", "../x", "/etc/passwd", "v\\0.png", "C:", ".", "a" * 5000,
    [], [[]], [None], [0, 0], [1, 2, 3, 4], [[1, 1, 5, 5, 9, 1]], [[1, 1, 5, 5, 9, 1], [1]], {},
    {"size": [32, 48]}, {"counts": [1536]}, {"size": None, "counts": None}, {"size": [True, 1], "counts": [1]},
    {"size": [32, 48], "counts": [1536]}, {"size": [32.0, 48.0], "counts": [0, 1536]},
    {"size": [32, 48], "counts": "`"}, {"size": [32, 48], "counts": [2**70]},
    {"size": [32, 48], "counts": [[1], [2, 3]]}, {"size": [2**40, 2**40], "counts": "oooo0"},
]  # fmt: skip


def _place(node: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container of a JSON tree and one of its keys; at any depth."""
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.2:
            return node, key
        node = node[key]


def mutate_tree(tree: dict[str, Any], rng: random.Random, most: int = 4) -> None:
    """Lose, repeat, move or replace up to ``most`` parts."""
    for _ in range(rng.randint(1, most)):
        if not tree:
            return
        container, key = _place(tree, rng)
        other, other_key = _place(tree, rng)
        kind = rng.randrange(6)
        if kind == 0:
            del container[key]
        elif kind == 1:
            container[key] = json.loads(json.dumps(other[other_key]))
        elif kind == 2 and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        else:
            container[key] = json.loads(json.dumps(rng.choice(JUNK)))
