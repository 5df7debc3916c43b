from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.definition import from_definition
from sweeps.experiment import Experiment, find_experiments, load_experiment, plan_cells, studies_at, study_at
from sweeps.search import next_cell
from sweeps.trials import SearchRow
from sweeps.view import StudyKey
from syncvis.errors import ConfigError

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
DEFAULT = {"key": "sync.num_selected", "values": [2, 10]}
FRAMES = {"key": "data.frames", "values": [3, 4]}


def plan(path: Path, scale: str = "smoke") -> list[Any]:
    return plan_cells(load_experiment(path, scale), scale)


def test_cells_are_the_product_in_file_order_with_seeds_outermost(write_experiment):
    axes = {"Nk": {"key": "sync.num_selected", "values": [5, 2]}, "T": {"key": "data.frames", "values": [4, 3]}}
    cells = plan(write_experiment(axes=axes, seeds=[1, 0]))
    assert [(c.seed, c.axes["Nk"], c.axes["T"]) for c in cells] == [
        (seed, selected, frames) for seed in (1, 0) for selected in (5, 2) for frames in (4, 3)
    ]
    assert [c.position for c in cells] == list(range(8))
    assert cells[1].config.data.frames == 3
    assert cells[1].config.sync.order == "video_first"
    assert {c.config.scale for c in cells} == {"smoke"}


def test_values_variants_and_seeds_may_depend_on_the_scale(write_experiment):
    variants = {"smoke": {"a": {}, "b": {"sync": None}}, "small": {"a": {}}}
    axes = {
        "Nk": {"key": "sync.num_selected", "values": {"smoke": [1], "small": [1, 2]}},
        "method": {"variants": variants},
    }
    path = write_experiment(axes=axes, seeds={"smoke": [3], "small": [0, 1]})
    cells = plan(path)
    assert [(c.axes, c.seed) for c in cells] == [({"Nk": 1, "method": "a"}, 3), ({"Nk": 1, "method": "b"}, 3)]


def test_a_variant_replaces_whole_sections(write_experiment):
    variants = {"none": {"sync": None}, "replaced": {"sync": {"momentum": 0.1}}, "one key": {"sync.momentum": 0.1}}
    none, replaced, one_key = plan(write_experiment(axes={"sync": {"variants": variants}}, seeds=[0]))
    assert none.config.sync is None
    assert (replaced.config.sync.momentum, replaced.config.sync.order) == (0.1, "frame_first")
    assert (one_key.config.sync.momentum, one_key.config.sync.order) == (0.1, "video_first")


def test_points_with_the_same_config_are_one_cell_under_the_first_label(write_experiment):
    method = {"variants": {"SyncVIS": {}, "plain": {"sync": None}}}
    cells = plan(write_experiment(axes={"Nk": DEFAULT, "method": method}, seeds=[0]))
    assert [c.axes for c in cells] == [
        {"Nk": 2, "method": "SyncVIS"},
        {"Nk": 2, "method": "plain"},
        {"Nk": 10, "method": "SyncVIS"},
    ]
    assert [c.position for c in cells] == [0, 1, 2]


def test_equal_cells_of_two_experiments_share_their_hash(write_experiment):
    by_value = plan(write_experiment("nk", seeds=[0]))
    by_name = plan(
        write_experiment("named", axes={"kind": {"variants": {"ten": {"sync.num_selected": 10}}}}, seeds=[0])
    )
    assert by_value[1].hash == by_name[0].hash
    assert by_value[0].hash != by_value[1].hash
    assert by_value[0].hash == by_value[0].config.cell_hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axes": {"Nk": {"key": "sync.num_selected", "values": [10, 2, 10.0]}}}, ["axes.Nk", "10 and 10.0"]),
        ({"axes": {"m": {"variants": {"one": {}, "two": {}}}}}, ["axes.m", "'one' and 'two'"]),
        ({"axes": {"Nk": {"key": "sync.num_select", "values": [1]}}}, ["sync.num_select", "'num_selected'"]),
        ({"axes": {"Nk": {"key": "sync.num_selected", "values": [0]}}}, ["Nk=0", "sync.num_selected"]),
        ({"axes": {"Nk": {"key": "sync.num_selected"}}}, ["axes.Nk", "'values'"]),
        ({"axes": {"Nk": {**DEFAULT, "range": {"low": 1, "high": 2}}}}, ["axes.Nk", "'range'"]),
        ({"axes": {"Nk": {"key": "sync.num_selected", "range": {"low": 2, "high": 1}}}}, ["axes.Nk.range", "below"]),
        ({"axes": {"Nk": {"key": "k", "range": {"small": {"low": 2, "hi": 3}}}}}, ["axes.Nk.range.small.hi is not"]),
        ({"axes": {"Nk": {**DEFAULT, "when": {"sync": "on"}}}}, ["axes.Nk.when.sync", "no axis above 'Nk'"]),
        ({"axes": {"Nk": {**DEFAULT, "when": {"T": 3}}, "T": FRAMES}}, ["axes.Nk.when.T", "move the axis down"]),
        ({"axes": {"T": FRAMES, "Nk": {**DEFAULT, "when": {"T": [3, 5]}}}}, ["axes.Nk.when.T", "no point 5", "3, 4"]),
        ({"search": {"sampler": "tpe"}}, ["search.trials", "required"]),
        ({"search": {"trials": 2, "sampler": "tp"}}, ["search.sampler", "'tp'"]),
        ({"search": {"small": {"trials": 2}}}, ["search", "'smoke'"]),
        ({"search": {"trials": 2, "pruner": "best"}}, ["search.pruner", "'hyperband'"]),
        ({"search": {"trials": 2, "pruner": {"name": "median", "warmup": 3}}}, ["search.pruner", "'warmup_steps'"]),
        ({"search": {"trials": 2, "pruner": {"name": "hyperband", "min_resource": 3}}}, ["min_resource", "steps"]),
        ({"axes": {"Nk": {**DEFAULT, "values": {"small": [1]}}}}, ["axes.Nk", "'smoke'"]),
        ({"seeds": [1, 1]}, ["seeds", "twice"]),
        ({"seeds": {"small": [1]}}, ["seeds", "'smoke'"]),
        ({"axis": {}}, ["axis", "'axes'"]),
        ({"id": "other"}, ["id", "'other'"]),
        ({"table": {"rows": ["momentum"]}}, ["'momentum'", "Nk"]),
        ({"curve": {"x": "T"}}, ["'T'"]),
    ],
)
def test_errors_name_the_file_and_the_key(write_experiment, changes, words):
    path = write_experiment(**changes)
    with pytest.raises(ConfigError) as caught:
        plan(path)
    assert "\n" not in str(caught.value)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_scale_without_a_base_lists_the_scales_that_have_one(write_experiment):
    with pytest.raises(ConfigError, match=r"scale 'paper'.*one of the scales smoke"):
        load_experiment(write_experiment(), "paper")


def test_experiments_are_found_by_id_or_path(write_experiment, tmp_path):
    nk, ts = write_experiment("nk"), write_experiment("ts")
    assert find_experiments([], nk.parent) == [nk, ts]
    assert find_experiments(["ts", str(nk)], nk.parent) == [ts, nk]
    with pytest.raises(ConfigError, match="did you mean 'nk'"):
        find_experiments(["nkk"], nk.parent)
    with pytest.raises(ConfigError, match="same name"):
        find_experiments(["nk", str(tmp_path / "nk.yaml")], nk.parent)


def test_without_names_all_experiments_but_the_searches_are_found(write_experiment):
    nk, search = write_experiment("nk"), write_experiment("wide", search={"trials": 3})
    assert find_experiments([], nk.parent) == [nk]
    assert find_experiments(["wide"], nk.parent) == [search]
    nk.unlink()
    with pytest.raises(ConfigError, match="name one of wide"):
        find_experiments([], nk.parent)


def test_search_settings_may_depend_on_the_scale_and_have_short_forms(write_experiment):
    path = write_experiment(search={"smoke": {"trials": 2, "pruner": "median"}, "small": {"trials": 9}})
    search = study_at(load_experiment(path), "smoke").search
    assert (search.trials, search.pruner.name, search.pruner.warmup_steps) == (2, "median", 0)
    path = write_experiment(search={"trials": 2, "pruner": "none"})
    assert study_at(load_experiment(path), "smoke").search.pruner is None


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_the_shipped_search_proposes_and_ends(scale):
    """Every proposal is a valid config, and the base evaluates before the steps at which a run may be stopped."""
    study = study_at(load_experiment(EXPERIMENTS / "search.yaml", scale), scale)
    rows: list[SearchRow] = []
    while (cell := next_cell(study, rows)) is not None:
        assert (cell.config.sync is None) == ("Nk" not in cell.axes)
        assert (cell.config.subclips is None) == ("Ts" not in cell.axes)
        rows.append(SearchRow(cell.position, cell.axes, cell.seed, "done", float(cell.position), {}, cell.hash))
    train = study.base_config().train
    assert len({row.hash for row in rows}) == len(rows) == study.search.trials
    assert study.search.pruner is None or 0 < train.eval_every <= train.steps / 4


@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_the_shipped_experiments_share_their_default_cell(scale):
    plans = [plan(path, scale) for path in find_experiments([], EXPERIMENTS, scale)]
    shared = set.intersection(*({cell.hash for cell in cells} for cells in plans))
    seeds = set.intersection(*({cell.seed for cell in cells} for cells in plans))
    assert {cell.seed for cell in plans[0] if cell.hash in shared} == seeds
    default = next(cell.config for cell in plans[0] if cell.hash in shared)
    assert (default.data.frames, default.sync.num_selected, default.sync.momentum) == (4, 10, 0.05)
    assert (default.subclips.size, default.sync.aggregation) == (2, "class_prediction")


def test_the_smoke_scale_of_all_shipped_experiments_stays_small():
    plans = {path.stem: plan(path) for path in find_experiments([], EXPERIMENTS, "smoke")}
    assert set(plans) == {"components", "nk", "ts", "momentum", "aggregation", "structure", "frames", "methods"}
    assert 30 <= len({cell.hash for cells in plans.values() for cell in cells}) <= 50


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_stands_on_recipes_at_the_scale_of_the_paper(path):
    experiment = load_experiment(path)
    studies = studies_at(experiment, "paper")
    assert [study.name for study in studies] == [f"{path.stem}@{recipe}-paper" for recipe in experiment.recipes]
    for study in studies:
        points = study.probes()
        configs = [study.cell(point, study.seeds[0], 0).config for point in points]
        assert len(points) > 1
        assert {config.scale for config in configs} == {"paper"}
        assert {config.train.steps > 5000 for config in configs} == {True}
        benchmark = re.search(r"ytvis_\d+|ovis", study.experiment)
        assert benchmark is not None
        assert {config.data.root for config in configs} == {f"data/{benchmark[0]}/train"}
        if study.search is None:
            study.check()


def test_the_released_settings_are_points_of_every_axis_at_the_scale_of_the_paper():
    """So that each table has a default, which the others are compared with."""
    for path in find_experiments([], EXPERIMENTS, "paper"):
        for study in studies_at(load_experiment(path), "paper"):
            configs = [cell.config for cell in study.cells()]
            assert study.base_config() in configs, study.name


def recipes(folder: Path, **files: dict) -> None:
    for name, content in files.items():
        tree = {"base": str(EXPERIMENTS / "base" / "smoke.yaml"), **content}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))


def test_an_experiment_on_recipes_is_a_study_for_each(write_experiment):
    path = write_experiment("nk", base="ours_{on}.yaml", recipes=["a", "b"])
    recipes(path.parent, ours_a={"train": {"lr": 0.5}}, ours_b={"train": {"lr": 0.25}})
    one, two = studies_at(load_experiment(path), "smoke")
    assert (one.name, one.experiment, two.name) == ("nk@a-smoke", "nk@a", "nk@b-smoke")
    assert StudyKey(one.experiment, one.scale) == StudyKey.parse(one.name)
    assert StudyKey.parse(one.name).id == "nk"
    assert {cell.config.train.lr for cell in one.cells()} == {0.5}
    assert {cell.config.train.lr for cell in two.cells()} == {0.25}
    assert not {cell.hash for cell in one.cells()} & {cell.hash for cell in two.cells()}
    assert [study.name for study in studies_at(load_experiment(path), "smoke", ["b"])] == ["nk@b-smoke"]


def test_a_recipe_may_be_a_file_of_ones_own(write_experiment, tmp_path):
    path = write_experiment("nk", base="ours_{on}.yaml", recipes=["a"])
    mine = tmp_path / "elsewhere" / "mine.yaml"
    mine.parent.mkdir()
    recipes(mine.parent, mine={"train": {"lr": 0.125}})
    (study,) = studies_at(load_experiment(path), "smoke", [str(mine)])
    assert study.name == "nk@mine-smoke"
    assert {cell.config.train.lr for cell in study.cells()} == {0.125}


@pytest.mark.parametrize(
    ("on", "words"),
    [
        (["bb"], ["--on", "'bb'", "did you mean b?", "take one of a, b"]),
        (["none.yaml"], ["none.yaml", "write that file"]),
        (["a-b.yaml"], ["'a-b'", "letters, digits"]),
        (["x" * 70], ["longer than 60"]),
    ],
)
def test_a_recipe_that_is_not_there_is_an_error_with_the_nearest(write_experiment, on, words):
    path = write_experiment("nk", base="ours_{on}.yaml", recipes=["a"])
    recipes(path.parent, ours_a={}, ours_b={})
    with pytest.raises(ConfigError) as caught:
        studies_at(load_experiment(path), "smoke", on)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_recipe_for_an_experiment_without_is_refused(write_experiment):
    with pytest.raises(ConfigError, match=r"--on: stands on no recipe at scale 'smoke'"):
        studies_at(load_experiment(write_experiment()), "smoke", ["a"])
    path = write_experiment("ts", base="ours_{on}.yaml")
    with pytest.raises(ConfigError, match=r"recipes: names none. Fix: give --on"):
        studies_at(load_experiment(path), "smoke")


def test_a_variant_may_start_from_another_run_config(write_experiment):
    kinds = {
        "default": {},
        "other": {"base": "other_{on}.yaml", "sync.momentum": 0.25},
        "absent": {"base": "absent_{on}.yaml"},
    }
    axes = {"kind": {"variants": kinds, "note": "made up"}, "Nk": {"key": "sync.num_selected", "values": [2, 4]}}
    path = write_experiment("nk", base="ours_{on}.yaml", recipes=["a"], axes=axes, seeds=[0])
    recipes(path.parent, ours_a={"train": {"lr": 0.5}}, other_a={"train": {"lr": 0.25}})
    study = study_at(load_experiment(path), "smoke")
    found = {tuple(cell.axes.values()): cell.config for cell in study.cells()}
    assert list(found) == [("default", 2), ("default", 4), ("other", 2), ("other", 4)]
    assert [config.train.lr for config in found.values()] == [0.5, 0.5, 0.25, 0.25]
    assert [config.sync.momentum for config in found.values()] == [0.05, 0.05, 0.25, 0.25]
    assert [config.sync.num_selected for config in found.values()] == [2, 4, 2, 4]
    assert study.notes == ("kind: made up", "kind: on a without absent, of which there is no recipe")
    there_and_back = from_definition(study.model_dump(mode="json"))
    assert [cell.hash for cell in there_and_back.cells()] == [cell.hash for cell in study.cells()]


def test_without_names_experiments_that_have_no_seeds_at_a_scale_are_left_out(write_experiment):
    nk, paper = write_experiment("nk"), write_experiment("ts", seeds={"paper": [0]})
    assert find_experiments([], nk.parent, "smoke") == [nk]
    assert find_experiments([], nk.parent) == [nk, paper]
    with pytest.raises(ConfigError, match="there are none for scale 'smoke'"):
        load_experiment(paper, "smoke")


PAGE = Path(__file__).parents[3] / "docs" / "experiments.md"


def test_the_page_about_experiment_files_has_every_key():
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(Experiment.model_fields)


def test_its_example_is_an_experiment_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    example = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "ffn.yaml").write_text(
        example.replace("base/{scale}", f"{Path('experiments').absolute()}/base/{{scale}}")
    )
    experiment = load_experiment(tmp_path / "ffn.yaml", "small")
    assert experiment.paper_ref == ""
    assert len(study_at(experiment, "small").cells()) == 20
    assert len(study_at(experiment, "smoke").cells()) == 4
