from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sweeps.definition import from_definition
from sweeps.difference import difference, extends
from sweeps.experiment import definition, load_experiment

Definition = dict[str, Any]
SYNC = {"off": {"sync": None, "method.structure": "video_only"}, "on": {}}
AXES = {
    "sync": {"variants": SYNC},
    "Nk": {"key": "sync.num_selected", "values": [2, 5, 10], "when": {"sync": "on"}},
}


@pytest.fixture
def described(write_experiment) -> Callable[..., Definition]:
    def describe(**changes: Any) -> Definition:
        content = {"axes": copy.deepcopy(AXES), "search": {"trials": 20}, **changes}
        return definition(load_experiment(write_experiment(**content)), "smoke")

    return describe


def with_axis(name: str, **changes: Any) -> dict[str, Any]:
    return {"axes": {**AXES, name: {**AXES.get(name, {}), **changes}}}


def test_nothing_that_matters_changed(described):
    old = described()
    new = described(title="Other", question="Why?", claims=["C01"])
    written_out = copy.deepcopy(new)
    written_out["base"]["train"]["batch_size"] = 8  # the default
    written_out["source"] = "elsewhere.yaml"
    for other in (old, new, written_out):
        assert difference(old, other) == []
        assert extends(old, other)


@pytest.mark.parametrize(
    ("changes", "lines", "extended"),
    [
        (with_axis("Nk", values=[2, 5, 10, 16]), ["axis Nk: value 16 added"], True),
        (with_axis("Nk", values=[2, 10]), ["axis Nk: value 5 dropped"], False),
        (with_axis("Nk", values=[10, 2, 5]), ["axis Nk: values reordered: 2, 5, 10 -> 10, 2, 5"], True),
        (with_axis("Nk", when={}), ['axis Nk when sync: ["on"] -> not set'], False),
        (
            with_axis("sync", variants={"none": SYNC["off"], "on": {}}),
            ['axis sync: value "off" renamed to "none"'],
            False,
        ),
        (
            with_axis("sync", variants={"off": SYNC["off"], "on": {"sync.momentum": 0.1}}),
            ['axis sync: value "on" sets [["sync.momentum", 0.1]], not []'],
            False,
        ),
        (
            with_axis("Nk", key="sync.momentum", values=[0.1], when={"sync": "on"}),
            [*(f"axis Nk: value {value} dropped" for value in (2, 5, 10)), "axis Nk: value 0.1 added"],
            False,
        ),
        ({"axes": {"sync": AXES["sync"]}}, ["axis Nk dropped"], False),
        ({"axes": {"sync": AXES["sync"], "selected": AXES["Nk"]}}, ["axis Nk renamed to selected"], False),
        (with_axis("T", key="data.frames", values=[2, 3]), ["axis T added"], False),
        ({"seeds": [0, 1, 2]}, ["seed 2 added"], True),
        ({"seeds": [1, 2]}, ["seed 0 dropped", "seed 2 added"], False),
        ({"seeds": [1, 0]}, ["seeds reordered: 0, 1 -> 1, 0"], True),
        ({"search": {"trials": 40}}, ["search.trials: 20 -> 40"], True),
        ({"search": {"trials": 20, "pruner": "median"}}, 1, True),
        ({"search": None}, 1, True),
    ],
)  # fmt: skip
def test_a_change_is_one_line_and_only_additions_extend(described, changes, lines, extended):
    old, new = described(), described(**changes)
    told = difference(old, new)
    assert told == lines if isinstance(lines, list) else len(told) == lines
    assert extends(old, new) is extended


def test_changed_base_keys_are_dotted(described):
    old = described()
    new = copy.deepcopy(old)
    new["base"]["train"] |= {"steps": 9, "lr": 0.5}
    new["base"]["subclips"] = None
    lines = difference(old, new)
    assert "base train.steps: 2 -> 9" in lines
    assert "base train.lr: 0.0001 -> 0.5" in lines
    assert any(line.startswith("base subclips: {") and line.endswith(" -> null") for line in lines)
    assert len(lines) == 3
    assert not extends(old, new)


def test_an_axis_that_exists_only_at_new_values_extends(described):
    variants = {**SYNC, "cosine": {"sync.aggregation": "query_similarity"}}
    momentum = {"key": "sync.momentum", "values": [0.1, 0.2], "when": {"sync": "cosine"}}
    axes = {"sync": {"variants": variants}, "Nk": AXES["Nk"], "momentum": momentum}
    old, new = described(), described(axes=axes)
    assert difference(old, new) == ["axis momentum added", 'axis sync: value "cosine" added']
    assert extends(old, new)
    axes["momentum"] = {**momentum, "when": {"sync": "on"}}
    assert not extends(old, described(axes=axes))


@pytest.mark.parametrize(
    ("given", "extended"),
    [
        ({"low": 0.01, "high": 0.9}, True),
        ({"low": 0.05, "high": 0.5}, False),
        ({"low": 0.01, "high": 0.51, "step": 0.1}, False),
    ],
)
def test_a_range_is_extended_by_a_wider_one(described, given, extended):
    def over(numbers):
        return described(axes={"momentum": {"key": "sync.momentum", "range": numbers}})

    old, new = over({"low": 0.01, "high": 0.5}), over(given)
    (line,) = difference(old, new)
    assert line.startswith('axis momentum: sync.momentum in {"low": 0.01, "high": 0.5} -> ')
    assert extends(old, new) is extended


def test_what_extends_says_is_true_of_the_cells(described):
    variants = [
        described(),
        described(seeds=[0, 1, 2]),
        described(**with_axis("Nk", values=[2, 10])),
        described(**with_axis("Nk", values=[10, 5, 2, 16])),
        described(**with_axis("sync", variants={"on": {}})),
        described(**with_axis("T", key="data.frames", values=[2, 4])),
    ]
    members = [{(cell.hash, str(sorted(cell.axes.items()))) for cell in from_definition(v).cells()} for v in variants]
    for old, its in zip(variants, members, strict=True):
        for new, others in zip(variants, members, strict=True):
            assert extends(old, new) == (its <= others)
