"""What may be varied and how it is searched: points, ranges, conditions, samplers and pruners. No file is read here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from syncvis.config import Natural, Positive, Section

Label = bool | int | float | str | None
Labels = Mapping[str, Label]
SamplerName = Literal["tpe", "random", "grid"]
# AP does not tell values apart that agree in so many digits, and a label should be readable.
DIGITS = 4
MAX_PROBES = 50
"""Numbers of a range up to which each is tried before the first cell."""


class Range(Section):
    """All numbers from ``low`` to ``high``, both included; whole ones where both bounds (and the step) are whole.

    ``step`` leaves only ``low``, ``low + step``, ...; ``log`` gives each magnitude the same weight.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step {self.step} is not positive")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("a logarithmic range starts above 0 and has no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def count(self) -> int | None:
        """How many numbers there are; None where there is no end of them."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else int((self.high - self.low) / step + 1e-9) + 1

    def choices(self) -> list[int | float] | None:
        """Every number in order, or None where there is no end of them."""
        return None if self.count is None else [self._number(place) for place in range(self.count)]

    def probes(self) -> list[int | float]:
        """Every number if they are few, else some at both ends and one between, where it can be a fraction."""
        count = self.count
        if count is None:
            return [self.low, self.nearest(self.low + (self.high - self.low) * 0.382), self.high]
        places = range(count) if count <= MAX_PROBES else (0, 1, count // 2, count - 2, count - 1)
        return [self._number(place) for place in places]

    @property
    def last(self) -> int | float:
        """The largest of its numbers."""
        return self.high if self.count is None else self._number(self.count - 1)

    def nearest(self, value: float) -> int | float:
        """The number to write down for a proposal: on the step, or with few digits."""
        if self.step or self.whole:
            return self._number(round((value - self.low) / (self.step or 1)))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def __contains__(self, label: Label) -> bool:
        if isinstance(label, bool) or not isinstance(label, int if self.whole else (int, float)):
            return False
        if self.step is None:
            return self.low <= label <= self.high
        return self.low <= label <= self.high and abs(self.nearest(label) - label) < 1e-9 * self.step

    def _number(self, place: int) -> int | float:
        number = self.low + place * (self.step or 1)
        return number if self.whole else float(f"{number:.12g}")


class Point(Section):
    """One value of an axis: its name, and (dotted key, value) pairs that are set one after the other."""

    label: Label
    changes: tuple[tuple[str, Any], ...]


class Dimension(Section):
    """One axis at one scale: either ``points``, or a ``key`` with a ``range``.

    Attributes:
        when: earlier axis -> its labels at which this axis exists; at other points it is left out.
    """

    name: str
    when: dict[str, tuple[Label, ...]] = Field(default={})
    points: tuple[Point, ...] = ()
    key: str | None = None
    range: Range | None = None

    def exists(self, earlier: Labels) -> bool:
        """Whether there is this axis at a point of the axes before it."""
        return all(axis in earlier and is_among(earlier[axis], labels) for axis, labels in self.when.items())

    def choices(self) -> Sequence[Label] | None:
        """Its labels in order, or None where there is no end of them."""
        return self.range.choices() if self.range else [point.label for point in self.points]

    def probes(self) -> Sequence[Label]:
        """Labels that stand for all: every one, of a long range some."""
        return self.range.probes() if self.range else [point.label for point in self.points]

    def changes(self, label: Label) -> Sequence[tuple[str, Any]] | None:
        """What a label sets; None for a label that the axis does not have."""
        if self.range:
            return [(str(self.key), label)] if label in self.range else None
        return next((point.changes for point in self.points if is_among(label, [point.label])), None)


class MedianSettings(Section):
    """Stops a run whose best AP so far is below the median of the finished runs at the same step."""

    name: Literal["median"]
    startup_trials: Natural = Field(5, description="finished runs before any is stopped")
    warmup_steps: Natural = Field(0, description="training steps before a run may be stopped")


class HyperbandSettings(Section):
    """Lets the best 1/reduction_factor of the runs pass each rung, in several brackets with later first rungs."""

    name: Literal["hyperband"]
    min_resource: Positive | None = Field(None, description="steps of the first rung; null: the first evaluation")
    reduction_factor: Annotated[int, Field(ge=2)] = 3


def _pruner(given: Any) -> Any:
    """``none`` and a name alone are short forms."""
    return (None if given == "none" else {"name": given}) if isinstance(given, str) else given


Pruner = Annotated[
    Annotated[MedianSettings | HyperbandSettings, Field(discriminator="name")] | None, BeforeValidator(_pruner)
]


class Search(Section):
    """How cells are chosen one by one.

    ``trials`` counts cells, whatever became of them. ``startup`` cells must be finished before ``tpe`` looks at
    results; until then it draws at random.
    """

    sampler: SamplerName = "tpe"
    trials: Positive
    startup: Natural = 10
    pruner: Pruner = None
    seed: Natural = 0


def is_among(label: Label, labels: Sequence[Label]) -> bool:
    """Membership in which true is not 1."""
    return any(label == other and isinstance(label, bool) == isinstance(other, bool) for other in labels)


def point_key(labels: Labels) -> str:
    """A hashable name of a point; the order of its axes does not matter."""
    return json.dumps(dict(labels), sort_keys=True)


def describe(axes: Labels) -> str:
    """``Nk=10, method=SyncVIS``."""
    return ", ".join(f"{axis}={label}" for axis, label in axes.items())
