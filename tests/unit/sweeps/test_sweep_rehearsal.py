"""What a rehearsal makes of a run, of every recipe under every experiment; and which data it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config
from miniature import write_miniature
from rich.console import Console
from typer.testing import CliRunner

from sweeps import bases
from sweeps.bases import Place
from sweeps.cli import app
from sweeps.definition import Study
from sweeps.experiment import find_experiments, load_experiment, studies_at
from sweeps.ledger import Ledger
from sweeps.rehearsal import points_of, rehearse
from sweeps.runner import SweepOptions
from sweeps.view import StudyKey
from syncvis.config import METHODS, RunConfig, load_config
from syncvis.data.annotations import Video, category_differences
from syncvis.data.mixing import sources_of
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.preflight import look
from syncvis.rehearsal import Excerpts, rehearsed
from syncvis.rehearsal.excerpts import VIDEOS
from syncvis.rehearsal.shrunken import POINTS, SHORT_SIDE, STEPS

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
RECIPES = sorted(path.stem for path in (EXPERIMENTS / "recipes").glob("*.yaml"))
SIZES = {
    "data.short_side",
    "data.max_size",
    "data.test_short_side",
    "data.test_max_size",
    "data.crop.short_side",
    "data.crop.size",
    "criterion.points",
    "train.steps",
    "train.batch_size",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.precision",
    "seed",
}
"""What may differ between a run and its rehearsal, but for the annotation files."""


def _leaves(tree: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {key: tree}
    return {name: leaf for k, v in tree.items() for name, leaf in _leaves(v, f"{key}.{k}" if key else k).items()}


def _changed(before: RunConfig, after: RunConfig) -> set[str]:
    old, new = (_leaves(config.model_dump(mode="json")) for config in (before, after))
    assert old.keys() == new.keys()
    return {key for key in old if old[key] != new[key]}


@cache
def _recipe(name: str) -> RunConfig:
    return load_config(EXPERIMENTS / "recipes" / f"{name}.yaml")


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_sizes_shrink(recipe: str) -> None:
    config = _recipe(recipe)
    small = rehearsed(config)
    assert _changed(config, small) <= SIZES
    data = small.data
    assert max(*data.short_side, data.test_short_side) == SHORT_SIDE
    for before, after in (
        (min(config.data.short_side) / max(config.data.short_side), min(data.short_side) / max(data.short_side)),
        (config.data.max_size / max(config.data.short_side), data.max_size / max(data.short_side)),
    ):
        assert after == pytest.approx(before, rel=0.03)
    assert (small.train.steps, small.criterion.points) == (STEPS, POINTS)
    assert rehearsed(small) == small.model_copy(update={"seed": rehearsed(small).seed})
    assert RunConfig.model_validate_json(small.canonical()) == small


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("processes", [1, 2, 8])
def test_every_process_and_data_set_has_a_clip(recipe: str, processes: int) -> None:
    config = _recipe(recipe)
    small = rehearsed(config, processes)
    ratios = [small.data.ratio, *(mixed.ratio for mixed in small.data.mix)]
    assert small.train.batch_size == processes
    assert set(sources_of(ratios, small.seed, STEPS * processes)) == set(range(len(ratios)))


def test_passes_have_a_clip_each_and_what_cannot_be_shared_out_is_left_for_the_run_to_refuse() -> None:
    config = tiny_config({"train.batch_size": 12, "train.accumulate": 3})
    assert rehearsed(config, 2).train.batch_size == 6
    assert rehearsed(config, 8).train.batch_size == 12
    assert rehearsed(config, 1).train.batch_size == 3


@pytest.mark.parametrize(("device", "precision"), [("cpu", "bf16"), ("cuda", "fp16")])
def test_half_precision(device: str, precision: str) -> None:
    assert rehearsed(tiny_config({"train.precision": "fp16"}), device=device).train.precision == precision
    assert rehearsed(tiny_config(), device=device).train.precision == "float32"


def test_what_is_small_already_stays() -> None:
    config = tiny_config({"data.crop": {"short_side": [24], "size": [16, 24]}})
    assert _changed(config, rehearsed(config)) == {"train.steps", "train.batch_size"}


@pytest.fixture(scope="module")
def paper_scale() -> Iterator[tuple[list[Study], dict[str, ConfigError]]]:
    """Every experiment on every recipe that its base has a file for, and the errors of those it cannot stand on."""
    studies, refused = list[Study](), dict[str, ConfigError]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "read_tree", cache(bases.read_tree))
        for file in find_experiments([], EXPERIMENTS, scale="paper"):
            experiment = load_experiment(file)
            assert isinstance(experiment.base, dict)
            for study in studies_at(experiment, "paper", Place(file, "paper").recipes(experiment.base["paper"])):
                try:
                    points_of(study)
                    studies.append(study)
                except ConfigError as error:
                    refused[study.name] = error
        yield studies, refused


def test_every_experiment_on_every_recipe_can_be_rehearsed(
    paper_scale: tuple[list[Study], dict[str, ConfigError]],
) -> None:
    studies, refused = paper_scale
    for name, error in refused.items():  # the arrangement of two query sets is Mask2Former-VIS's alone
        assert name.startswith("structure@"), error
        assert "method.structure" in str(error)
    names = {study.name.partition("@")[0] for study in studies}
    assert names >= {"nk", "ts", "momentum", "aggregation", "components", "structure", "frames", "methods", "systems"}
    cells = {cell.hash: cell for study in studies for cell in points_of(study)}
    assert {cell.config.method.name for cell in cells.values()} == set(METHODS)
    for cell in cells.values():
        before, small = cell.config, rehearsed(cell.config)
        assert small.train.steps == STEPS < before.train.steps, cell
        for name in ("method", "model", "sync", "subclips", "eval"):
            assert getattr(small, name) == getattr(before, name), cell
        assert (small.data.frames, small.train.init) == (before.data.frames, before.train.init), cell


def test_of_a_grid_every_point_is_rehearsed_once_under_the_first_seed() -> None:
    (study,) = studies_at(load_experiment(EXPERIMENTS / "nk.yaml"), "small")
    cells = points_of(study)
    assert [cell.axes["Nk"] for cell in cells] == [1, 2, 5, 10, 16]
    assert {cell.seed for cell in cells} == {study.seeds[0]}


def test_of_a_search_every_value_of_every_axis_is_rehearsed() -> None:
    (study,) = studies_at(load_experiment(EXPERIMENTS / "search.yaml"), "small")
    cells = points_of(study)
    for axis in study.axes:
        assert {cell.axes.get(axis.name) for cell in cells} >= set(axis.probes())
    assert len({cell.hash for cell in cells}) == len(cells) < 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of OVIS and COCO."""
    folder = tmp_path_factory.mktemp("miniature")
    write_miniature(folder, ["ovis"], videos=6)
    return folder


def _ovis(data: Path, **more: Any) -> RunConfig:
    coco = {"root": str(data / "coco"), "train": "annotations/instances_train2017.json", "format": "coco"}
    own = {"data.root": str(data / "ovis" / "train"), "data.mix": [coco]}
    files = {"data.train": "../annotations_train.json", "data.valid": "../annotations_train.json"}
    return tiny_config({**own, **files, **more})


def _content(video: Video) -> tuple[Any, ...]:
    tracks = [(track.id, track.label, track.iscrowd, list(track.segmentations)) for track in video.tracks]
    return video.id, video.height, video.width, video.file_names, tracks


def test_excerpts_are_data_sets_of_a_few_videos_with_all_classes_and_real_frames(data: Path, tmp_path: Path) -> None:
    config = _ovis(data)
    small = config.model_copy(update={"data": Excerpts(tmp_path, 2).of(config.data)})
    found = look(small)
    found.refuse()
    splits, whole = found.splits, look(config).splits
    assert [len(part.videos) for part in (splits.train, splits.valid, *splits.mixed)] == [VIDEOS, 2, VIDEOS]
    assert len(whole.train.videos) == 6
    assert not category_differences(splits.train.categories, whole.train.categories, "", "")
    for part, source in ((splits.train, whole.train), (splits.mixed[0], whole.mixed[0])):
        by_id = {video.id: video for video in source.videos}
        for video in part.videos:
            assert _content(video) == _content(by_id[video.id])
            assert any(track.is_seen for track in video.tracks)
            assert (part.read_frame(video, 0) == source.read_frame(by_id[video.id], 0)).all()


def test_an_excerpt_is_cut_out_once_until_its_source_changes(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "train.json"
    copy.write_bytes((data / "ovis" / "annotations_train.json").read_bytes())
    config = _ovis(data, **{"data.train": str(copy), "data.mix": []})
    excerpts = Excerpts(tmp_path / "excerpts", 2)
    first = Path(excerpts.of(config.data).train)
    written = first.stat().st_mtime_ns
    assert Path(excerpts.of(config.data).train) == first
    assert first.stat().st_mtime_ns == written
    os.utime(copy, ns=(1, 1))
    assert Path(excerpts.of(config.data).train) != first


def test_chosen_videos_are_those_of_the_run(data: Path, tmp_path: Path) -> None:
    config = _ovis(data, **{"data.videos": [2, 5]})
    small = Excerpts(tmp_path, 2).of(config.data)
    assert small.videos is None
    assert [video["id"] for video in json.loads(Path(small.train).read_text())["videos"]] == [2, 5]


def test_a_split_without_instances_has_no_excerpt(data: Path, tmp_path: Path) -> None:
    tree = json.loads((data / "ovis" / "annotations_train.json").read_text())
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(tree | {"annotations": []}))
    with pytest.raises(DataError, match=r"bare\.json: annotations: no video shows an instance"):
        Excerpts(tmp_path, 2).of(_ovis(data, **{"data.train": str(bare)}).data)


@pytest.fixture
def nk(tmp_path: Path) -> Study:
    (study,) = studies_at(load_experiment(EXPERIMENTS / "nk.yaml"), "smoke")
    return study


def test_a_rehearsal_that_runs_is_left_alone(nk: Study, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rehearsal" / "ledger.db")
    ledger.add(StudyKey("nk", "smoke"), nk.model_dump(mode="json"), nk.cells(), tmp_path)
    assert ledger.claim("other:machine:1:1", 60.0)
    with pytest.raises(StorageError, match="another rehearsal is running"):
        rehearse([nk], SweepOptions(out=tmp_path), Console())
    assert ledger.view.counts()["running"] == 1


@pytest.mark.parametrize("placement", ["slurm", "ray"])
def test_only_this_machine_rehearses(placement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    words = ["run", "nk", "--scale", "smoke", "--rehearse", "--placement", placement]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, ConfigError)
    assert "--rehearse: a rehearsal runs on this machine alone" in str(error)
    assert not (tmp_path / "outputs").exists()
