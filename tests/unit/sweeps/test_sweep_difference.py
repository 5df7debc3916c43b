from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sweeps.definition import from_definition
from sweeps.difference import difference, draws_alike, extends, relabelled
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
        (with_axis("Nk", values=[10, 2, 5, 16]), ["axis Nk: value 16 added"], True),
        (with_axis("Nk", values=[True, 5, 10]), ["axis Nk: value 2 dropped", "axis Nk: value true added"], False),
        (with_axis("Nk", values=["2", 5, 10]), ['axis Nk: value 2 dropped', 'axis Nk: value "2" added'], False),
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


CHANGED_RANGES = [  # what stands in the file, how it is shown, whether it extends the one that has begun
    ({"low": 0.01, "high": 0.9}, "numbers from 0.01 to 0.9 (linear)", True),
    ({"low": 0.05, "high": 0.5}, "numbers from 0.05 to 0.5 (linear)", False),
    ({"low": 0.01, "high": 0.51, "step": 0.1}, "numbers from 0.01 to 0.51 in steps of 0.1 (linear)", False),
    ({"low": 0.01, "high": 0.5, "log": True}, "numbers from 0.01 to 0.5 (logarithmic)", False),
    ({"low": 0.001, "high": 0.9, "log": True}, "numbers from 0.001 to 0.9 (logarithmic)", False),
]


def over(described, numbers):
    return described(axes={"momentum": {"key": "sync.momentum", "range": numbers}})


@pytest.mark.parametrize(("given", "shown", "extended"), CHANGED_RANGES)
def test_a_range_is_extended_by_a_wider_one(described, given, shown, extended):
    old, new = over(described, {"low": 0.01, "high": 0.5}), over(described, given)
    was = "axis momentum: sync.momentum in numbers from 0.01 to 0.5 (linear)"
    assert difference(old, new) == [f"{was} -> sync.momentum in {shown}"]
    assert extends(old, new) is extended
    assert draws_alike(old, new) is ("log" not in given)


def test_a_range_of_whole_numbers_is_not_one_of_all_numbers(described):
    old, same = over(described, {"low": 0, "high": 0.5}), over(described, {"low": 0.0, "high": 0.5})
    assert difference(old, same) == []
    steps = [over(described, {"low": low, "high": high, "step": 2}) for low, high in ((2, 10), (2.0, 10.0), (2, 11))]
    for other in steps[1:]:
        assert difference(steps[0], other) == difference(other, steps[0]) == []
        assert extends(steps[0], other)
        assert extends(other, steps[0])
    whole, every = over(described, {"low": 1, "high": 16}), over(described, {"low": 1.0, "high": 16.0})
    assert difference(whole, every) == [
        "axis momentum: sync.momentum in whole numbers from 1 to 16 (linear) -> "
        "sync.momentum in numbers from 1.0 to 16.0 (linear)"
    ]
    assert (extends(whole, every), extends(every, whole)) == (True, False)


def selected(*values: Any) -> dict[str, Any]:
    return {"Nk": {"key": "sync.num_selected", "values": list(values)}}


def frames(**when: Any) -> dict[str, Any]:
    return {"T": {"key": "data.frames", "values": [2, 3], "when": when}}


def variants(**changes: Any) -> dict[str, Any]:
    return {"sync": {"variants": changes}}


OFF = SYNC["off"]
EQUAL = [  # two ways to write the same axes
    (selected(2, 10), selected(10, 2)),
    (selected(2, 10), selected(10.0, 2.0)),
    ({"lr": {"key": "train.lr", "values": [2, 1e-3]}}, {"lr": {"key": "train.lr", "values": [0.001, 2.0]}}),
    (
        variants(off=OFF, on={"sync.momentum": 1, "train.lr": 0.001}),
        variants(on={"train.lr": 1e-3, "sync.momentum": 1.0}, off=OFF),
    ),
    (
        variants(on={"sync": {"momentum": 1, "num_selected": 2}}),
        variants(on={"sync": {"num_selected": 2.0, "momentum": 1.0}}),
    ),
    (selected(2, 4) | frames(Nk=[2, 4]), selected(2, 4) | frames(Nk=[4.0, 2.0])),
    (selected(2, 4) | frames(), frames() | selected(2, 4)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_another_order_and_another_way_to_write_a_number_are_no_change(described, one, other):
    old, new = described(axes=one, search=None, seeds=[0, 1]), described(axes=other, search=None, seeds=[1, 0])
    for first, second in ((old, new), (new, old)):
        assert difference(first, second) == []
        assert extends(first, second)
    hashes = [sorted(cell.hash for cell in from_definition(tree).cells()) for tree in (old, new)]
    assert hashes[0] == hashes[1]
    kept = relabelled(from_definition(new), old)
    labels = [
        {(cell.hash, str(sorted(cell.axes.items()))) for cell in study.cells()}
        for study in (kept, from_definition(old))
    ]
    assert labels[0] == labels[1]


def test_true_is_no_number_in_the_base_either(described):
    old, new = described(), described()
    old["base"]["sync"]["order"], new["base"]["sync"]["order"] = True, 1  # needs the axes to be valid
    assert difference(old, new) == ["base sync.order: true -> 1"]


def test_the_order_of_axes_that_set_the_same_key_matters(described):
    whole = {"sync": {"variants": {"off": SYNC["off"], "half": {"sync": {"momentum": 0.5}}}}}
    part = {"Nk": {"key": "sync.num_selected", "values": [2, 5]}}
    old, new = described(axes=whole | part), described(axes=part | whole)
    assert difference(old, new) == ["axes reordered, and they set the same key: sync, Nk -> Nk, sync"]
    assert not extends(old, new)


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
