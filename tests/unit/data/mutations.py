"""Random changes of JSON trees, of masks in them, and of bytes."""

from __future__ import annotations

import copy
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


def mutate_masks(tree: dict[str, Any], rng: random.Random) -> None:
    """Change the compressed counts of up to 4 masks."""
    masks = [m for entry in tree["annotations"] for m in entry["segmentations"] if m]
    for mask in rng.sample(masks, rng.randint(1, 4)):
        text = list(mask["counts"])
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 2)] = rng.choice(["", chr(rng.randint(0, 130)), "o" * 7, "0", "o"])
            text = text or [""]
        mask["counts"] = "".join(text)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Lose, add or replace up to 6 pieces, and perhaps the end."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data) + 1)
        size = rng.choice([0, 1, 4, 50])
        data[place : place + size] = rng.choice([b"", rng.randbytes(1), rng.randbytes(4), b'"', b"[", b"\xff" * 4])
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data)


BLANK: list[Any] = [
    [], [[1, 1, 1, 1, 1, 1]], [[3, 3, 9, 9, 3, 3]], [[2.2, 2.2, 2.3, 2.2, 2.3, 2.4]],
    {"size": [32, 48], "counts": [1536]}, {"size": [32, 48], "counts": [5, 0, 1531]},
    {"size": [32, 48], "counts": "P`1"}, {"size": [32, 48], "counts": [1536, 0]},
]  # fmt: skip
"""Masks of 32 x 48 pixels without a pixel."""


def _slip(entry: dict[str, Any], rng: random.Random) -> None:
    """Write a value as another tool or another hand would."""
    key = rng.choice(list(entry))
    value = entry[key]
    if type(value) is int:
        entry[key] = rng.choice([float(value), str(value), value + 0.5, -value, None, value * 2**70])
    elif isinstance(value, str):
        entry[key] = rng.choice([value.upper(), value.replace("/", "\\"), f"C:\\{value}", f"./{value}", ""])
    elif isinstance(value, list) and value:
        place = rng.randrange(len(value))
        value[place] = copy.deepcopy(rng.choice(BLANK if key == "segmentations" else [None, 0, "0", value[place - 1]]))
    if rng.random() < 0.1:
        entry[rng.choice([key[:-1], f"{key}s", key.upper()])] = entry.pop(key)


def slip(tree: dict[str, Any], rng: random.Random, most: int = 3) -> None:
    """Up to ``most`` faults of the kinds that people meet."""
    for _ in range(rng.randint(1, most)):
        kind = rng.random()
        if kind < 0.7:
            _slip(rng.choice(tree[rng.choice(["videos", "categories", "annotations", "annotations"])] or [tree]), rng)
        elif kind < 0.8:
            entry = rng.choice(tree["annotations"] or [{"segmentations": [None]}])
            entry["segmentations"] = [copy.deepcopy(rng.choice(BLANK)) for _ in entry.get("segmentations") or [None]]
        elif kind < 0.9:
            for entry in tree["annotations"]:
                entry["iscrowd"] = rng.choice([0, 1, True, 1.0])
        else:
            tree["annotations"] = tree["annotations"][: rng.randint(0, 2)]
