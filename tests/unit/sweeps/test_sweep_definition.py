from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter

import pytest
from helpers import tiny_config

from sweeps.cost import kind_of
from sweeps.definition import Study, from_definition
from sweeps.experiment import definition, load_experiment, plan_cells, study_at
from sweeps.space import Range
from syncvis.errors import ConfigError, StorageError

SYNC = {"off": {"sync": None, "method.structure": "video_only"}, "cosine": {"sync.aggregation": "query_similarity"}}
NK = {"key": "sync.num_selected", "values": [2, 5, 10], "when": {"sync": ["cosine"]}}


def random_study(number: int) -> Study:
    """Up to four axes of up to four values, some of which exist only at some labels of an earlier one."""
    chance = random.Random(number)
    keys = ["train.batch_size", "train.log_every", "train.checkpoint_every", "data.frames"]
    axes: list[dict] = []
    for key in keys[: chance.randint(1, 4)]:
        values = chance.sample(range(1, 30), chance.randint(1, 4))
        when = {}
        if axes and chance.random() < 0.6:
            other = chance.choice(axes)
            labels = [point["label"] for point in other["points"]]
            when = {other["name"]: chance.sample(labels, chance.randint(1, len(labels)))}
        points = [{"label": value, "changes": [[key, value]]} for value in values]
        axes.append({"name": key, "when": when, "points": points})
    seeds = chance.sample(range(9), chance.randint(1, 3))
    base = {"data": {"root": "data"}, "train": {"steps": 2}}
    place = {"name": "x-smoke", "experiment": "x", "scale": "smoke", "source": "x.yaml"}
    return from_definition({**place, "axes": axes, "seeds": seeds, "base": base})


def expected_points(study: Study) -> list[dict]:
    """By brute force: the full product, with every axis taken out where it does not exist, each point once."""
    names = [axis.name for axis in study.axes]
    found: list[dict] = []
    for labels in itertools.product(*([point.label for point in axis.points] for axis in study.axes)):
        point = dict(zip(names, labels, strict=True))
        for axis in study.axes:
            if any(point.get(other) not in allowed for other, allowed in axis.when.items()):
                del point[axis.name]
        if point not in found:
            found.append(point)
    return found


@pytest.mark.parametrize("number", range(12))
def test_the_grid_is_complete_in_its_stated_order_and_balanced_over_seeds(number):
    study = random_study(number)
    cells, points = study.cells(), expected_points(study)
    assert list(study.points()) == points
    assert [(cell.seed, cell.axes) for cell in cells] == [(seed, point) for seed in study.seeds for point in points]
    assert [cell.position for cell in cells] == list(range(len(cells)))
    counts = Counter({json.dumps(point): 0 for point in points})
    for cell in cells:
        counts[json.dumps(cell.axes)] += 1
        assert max(counts.values()) - min(counts.values()) <= 1
    for cell in cells:
        again = study.cell(cell.axes, cell.seed, cell.position)
        assert again == cell
        assert study.holds(cell.axes)


def test_an_axis_is_left_out_where_its_condition_does_not_hold(write_experiment):
    path = write_experiment(axes={"sync": {"variants": SYNC}, "Nk": NK}, seeds=[0])
    cells = plan_cells(load_experiment(path), "smoke")
    assert [cell.axes for cell in cells] == [
        {"sync": "off"}, *({"sync": "cosine", "Nk": selected} for selected in (2, 5, 10)),
    ]  # fmt: skip
    assert [cell.config.sync and cell.config.sync.num_selected for cell in cells] == [None, 2, 5, 10]


def test_an_axis_whose_own_condition_axis_is_missing_is_left_out_too(write_experiment):
    momentum = {"key": "sync.momentum", "values": [0.1, 0.2], "when": {"Nk": 10}}
    path = write_experiment(axes={"sync": {"variants": SYNC}, "Nk": NK, "momentum": momentum}, seeds=[0])
    axes = [cell.axes for cell in plan_cells(load_experiment(path), "smoke")]
    assert len(axes) == 5
    assert [labels for labels in axes if "momentum" in labels] == [
        {"sync": "cosine", "Nk": 10, "momentum": 0.1}, {"sync": "cosine", "Nk": 10, "momentum": 0.2},
    ]  # fmt: skip


def test_a_definition_travels_as_sorted_json_without_its_files(write_experiment):
    axes = {"sync": {"variants": SYNC}, "Nk": NK}
    path = write_experiment(axes=axes, seeds=[1, 0], search={"trials": 3, "pruner": "hyperband"})
    told = definition(load_experiment(path), "smoke")
    here = plan_cells(load_experiment(path), "smoke")
    shutil.rmtree(path.parent)
    study = from_definition(json.loads(json.dumps(told, sort_keys=True)))
    assert study.name == "nk-smoke"
    assert study.cells() == here
    assert study.model_dump(mode="json") == told


def test_a_range_takes_any_number_of_it_but_has_no_grid(write_experiment):
    axis = {"key": "sync.momentum", "range": {"low": 0.01, "high": 0.5, "log": True}}
    experiment = load_experiment(write_experiment(axes={"momentum": axis}), "smoke")
    study = from_definition(definition(experiment, "smoke"))
    assert study.cell({"momentum": 0.123}, 4, 0).config.sync.momentum == 0.123
    with pytest.raises(ConfigError, match=r"nk\.yaml: axes\.momentum\.range: .*'step'.*'values'.*`search:`"):
        plan_cells(experiment, "smoke")


def test_a_range_with_a_step_is_a_grid(write_experiment):
    axis = {"key": "sync.momentum", "range": {"low": 0.1, "high": 0.7, "step": 0.2}}
    cells = plan_cells(load_experiment(write_experiment(axes={"momentum": axis}, seeds=[0])), "smoke")
    assert [cell.axes["momentum"] for cell in cells] == [0.1, 0.3, 0.5, 0.7]
    assert [cell.config.sync.momentum for cell in cells] == [0.1, 0.3, 0.5, 0.7]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("most", [0, 500])
def test_every_label_of_every_axis_is_probed_where_it_exists(number, most, monkeypatch):
    monkeypatch.setattr("sweeps.definition.MAX_PROBES", most)
    study = random_study(number)
    probes = study.probes()
    assert all(study.holds(point) for point in probes)
    seen = {(name, label) for point in probes for name, label in point.items()}
    assert seen == {(name, label) for point in study.points() for name, label in point.items()}


def test_a_space_has_as_many_cells_as_different_configs(write_experiment):
    same = {"a": {"train.steps": 2}, "b": {"train.steps": 3}, "c": {"train.steps": 2, "sync.order": "video_first"}}
    search = {"sampler": "random", "trials": 50}
    path = write_experiment(axes={"X": {"variants": same}}, seeds=[0, 1], search=search)
    assert study_at(load_experiment(path), "smoke").size() == 4
    axis = {"key": "sync.momentum", "range": {"low": 0.1, "high": 0.7}}
    assert study_at(load_experiment(write_experiment(axes={"X": axis}, search=search)), "smoke").size() is None


def test_another_kind_of_backbone_starts_from_its_own_defaults(write_experiment, tmp_path):
    base = {"data": {"root": "data"}, "train": {"steps": 2}, "model": {"backbone": {"width": 8, "base_stride": 2}}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    kinds = {
        "tiny": {},
        "wide": {"model.backbone.width": 32},
        "resnet": {"model.backbone.freeze_at": 2, "model.backbone.name": "resnet18"},
    }
    cells = plan_cells(load_experiment(write_experiment(axes={"X": {"variants": kinds}}, seeds=[0])), "smoke")
    assert [cell.config.model.backbone.model_dump() for cell in cells] == [
        {"name": "tiny", "width": 8, "base_stride": 2},
        {"name": "tiny", "width": 32, "base_stride": 2},
        {"name": "resnet18", "width": 64, "norm": "frozen", "freeze_at": 2},
    ]


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"sync": "off", "Nk": 2}, "no Nk=2 at sync=off"),
        ({"sync": "cosine"}, "lacks the axis Nk"),
        ({"sync": "cosine", "Nk": 3}, "no Nk=3"),
        ({"sync": "cosine", "Nk": True}, "no Nk=True"),
        ({"sync": "off", "T": 2}, "no axis 'T'"),
    ],
)
def test_a_point_outside_of_the_space_is_refused(write_experiment, point, words):
    path = write_experiment(axes={"sync": {"variants": SYNC}, "Nk": NK})
    study = from_definition(definition(load_experiment(path), "smoke"))
    assert not study.holds(point)
    with pytest.raises(ConfigError, match=words):
        study.cell(point, 0, 0)


def test_what_is_no_definition_is_named():
    with pytest.raises(StorageError, match=r"definition of nk-small.*axes"):
        from_definition({"name": "nk-small"})


@pytest.mark.parametrize(
    ("numbers", "choices"),
    [
        ({"low": 1, "high": 4}, [1, 2, 3, 4]),
        ({"low": 1, "high": 8, "step": 3}, [1, 4, 7]),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, [0.1, 0.3, 0.5, 0.7]),
        ({"low": 0, "high": 1, "step": 0.25}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"low": 0.1, "high": 1.0}, None),
        ({"low": 1, "high": 8, "log": True}, list(range(1, 9))),
    ],
)
def test_the_numbers_of_a_range(numbers, choices):
    given = Range(**numbers)
    assert given.choices() == choices
    for value in choices or [0.1, 0.7777, 1.0]:
        assert value in given
        assert given.nearest(value + 1e-7) == value
    for value in (given.low - 1, given.last + 0.01, True, "1", None):
        assert value not in given


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"low": 2, "high": 2}, "not below"),
        ({"low": 1, "high": 2, "step": 0}, "not positive"),
        ({"low": 0, "high": 2, "log": True}, "above 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "no step"),
    ],
)
def test_a_range_that_cannot_be_meant(numbers, words):
    with pytest.raises(ValueError, match=words):
        Range(**numbers)


def test_another_method_starts_from_its_own_defaults(write_experiment, tmp_path):
    base = {"data": {"root": "data"}, "train": {"steps": 2}, "method": {"structure": "cascade"}, "sync": None}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    kinds = {
        "cascade": {},
        "named": {"method.name": "mask2former_vis", "seed": 1},
        "section": {"method": {"name": "mine:build"}},
        "key": {"method.name": "yours:build", "method.settings": {"a": 1}},
    }
    cells = plan_cells(load_experiment(write_experiment(axes={"X": {"variants": kinds}}, seeds=[0])), "smoke")
    assert [cell.config.method.model_dump() for cell in cells] == [
        {"name": "mask2former_vis", "structure": "cascade"},
        {"name": "mask2former_vis", "structure": "cascade"},
        {"name": "mine:build", "settings": {}},
        {"name": "yours:build", "settings": {"a": 1}},
    ]


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({"sync.momentum": 0.5, "sync.num_selected": 3}, True),
        ({"subclips.factor": 2.0, "subclips.weights": "edges"}, True),
        ({"seed": 3}, True),
        ({"sync": None}, False),
        ({"sync.query_ffn": False}, False),
        ({"subclips": None}, False),
        ({"subclips.windows": "all_pairs"}, False),
        ({"method": {"name": "mine:build"}}, False),
        ({"method": {"name": "mine:build"}, "sync": None}, False),
    ],
    ids=str,
)
def test_cells_of_one_kind_cost_the_same(changes, alike):
    one, other = (kind_of(config.model_dump(mode="json")) for config in (tiny_config(), tiny_config(changes)))
    assert (one == other) == alike
