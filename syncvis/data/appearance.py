"""What a synthetic object looks like: its shape, texture and colour as pure functions.

A category is a colour, a texture and a shape together, so that each of the three tells it from the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Field = Callable[[Array, Array], Array]


def _star(u: Array, v: Array) -> Array:
    gap: Array = 0.77 + 0.23 * np.cos(5 * np.arctan2(v, u)) - np.hypot(u, v)
    return gap


def _ring(u: Array, v: Array) -> Array:
    radius = np.hypot(u, v)
    gap: Array = np.minimum(1 - radius, radius - 0.42)
    return gap


def _cross(u: Array, v: Array) -> Array:
    along, across = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    gap: Array = np.minimum(1 - along, 0.36 - across)
    return gap


# Positive inside; the value is close to the distance from the outline, in radii.
SHAPES: dict[str, Field] = {
    "ellipse": lambda u, v: 1 - np.hypot(u, v),
    "rectangle": lambda u, v: 0.84 - np.maximum(abs(u), abs(v)),
    "triangle": lambda u, v: np.minimum(0.62 - v, 0.5 * (v + 1.0) - 0.87 * abs(u)),
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}


def _wave(x: Array) -> Array:
    """A soft square wave of period 1 between 0 and 1."""
    light: Array = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * x))
    return light


# Between 0 (dark) and 1 (light), over coordinates counted in texture periods.
TEXTURES: dict[str, Field] = {
    "striped": lambda p, q: _wave(p),
    "checked": lambda p, q: 0.5 + 0.5 * np.tanh(6 * np.sin(2 * np.pi * p) * np.sin(2 * np.pi * q)),
    "dotted": lambda p, q: 0.5 - 0.5 * np.tanh(4 * (np.cos(2 * np.pi * p) + np.cos(2 * np.pi * q) - 0.4)),
    "plain": lambda p, q: np.full_like(p, 0.85),
    "circled": lambda p, q: _wave(np.hypot(p, q)),
    "shaded": lambda p, q: 0.5 + 0.5 * np.tanh(p),
}


def category_parts(index: int) -> tuple[str, str]:
    """The texture and shape of a category; past the sixth the pairs shift, so that they stay different."""
    shapes, textures = list(SHAPES), list(TEXTURES)
    turn, place = divmod(index, len(shapes))
    return textures[(place + turn) % len(textures)], shapes[place]


def rgb(hue: float, saturation: float, value: float) -> Array:
    """HSV in [0, 1] to RGB in [0, 1], shape (3,)."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    colour: Array = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return colour
