"""Code from outside the workbench in a sweep: the command that starts workers allows it, and its source is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sweeping import NK, PATH, Place, ends

from sweeps.definition import from_definition
from sweeps.experiment import load_experiment, study_at
from sweeps.plugins import require_plugins
from sweeps.sources import sources_of
from syncvis import references
from syncvis.errors import ConfigError
from syncvis.source import PLUGIN_FOLDER, snapshot
from syncvis.source.plugins import files_of

STRATEGY = """
def best(source, reader):
    return 7
"""
AXIS = {"key": "sync.aggregation", "values": ["class_prediction", "strategy_of_mine:best"]}
ALLOW = ("--plugin", "strategy_of_mine")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder with a plug-in, and two planned cells of which one names it."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setattr(references, "_allowed", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    files_of.cache_clear()
    made = Place(tmp_path, 1, 1)
    made.set("strategy_of_mine.py", STRATEGY)
    plan(made, {"A": AXIS})
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()
    files_of.cache_clear()


def plan(place: Place, axes: dict[str, object], **more: object) -> None:
    path = place.folder / "experiments" / "nk.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "axes": axes, **more}))
    place.study = study_at(load_experiment(path), "smoke")
    place.add()


def work(place: Place, *words: str) -> tuple[int, str]:
    process = place.start("-m", "sweeps.worker", place.storage, "--run", "fake_run:run", "--poll", "0.05", *words)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_worker_that_may_not_import_takes_nothing(place: Place) -> None:
    code, output = work(place)
    assert code == ConfigError.exit_code
    assert "allow it with --plugin strategy_of_mine" in output
    assert place.view.counts()["planned"] == 2
    assert place.view.number_of_claims() == 0


def test_a_search_that_may_choose_it_is_refused_as_well(place: Place) -> None:
    plan(place, {"A": AXIS}, search={"sampler": "random", "trials": 2})
    assert from_definition(place.view.studies()[NK].definition).search is not None
    with pytest.raises(ConfigError, match="--plugin strategy_of_mine"):
        require_plugins(place.view, [NK])
    references.allow(["strategy_of_mine"])
    require_plugins(place.view, [NK])


def test_what_has_ended_asks_for_nothing(place: Place) -> None:
    assert work(place, *ALLOW)[0] == 0
    assert work(place)[0] == 0
    require_plugins(place.view, None)


def test_an_allowed_module_runs_and_is_kept(place: Place) -> None:
    code, output = work(place, *ALLOW)
    assert code == 0, output
    assert place.view.counts()["done"] == 2
    sources = {}
    for row in place.view.rows([NK]):
        sources[row["axes"]["A"]] = sources_of(place.view, row["cell_hash"])[1]
    own, known = sources["strategy_of_mine:best"], sources["class_prediction"]
    assert known == snapshot()
    assert own.code == snapshot(["strategy_of_mine"]).code != known.code
    assert f"+++ b/{PLUGIN_FOLDER}/strategy_of_mine.py\n".encode() in own.patch
    results = place.view.results()
    assert sorted(result.get("scored", 0) for result in results.values()) == [0, 7]


@pytest.mark.parametrize("placement", ["processes", "ranks"])
def test_a_module_that_raises_fails_once(place: Place, placement: str) -> None:
    place.set("strategy_of_mine.py", "def best(source, reader):\n    return source.no_such_thing\n")
    words = ("--processes", "2") if placement == "ranks" else ()
    assert work(place, *ALLOW, *words)[0] == 0
    (given_up,) = place.view.cells([NK], ["gave_up"])
    assert "AttributeError: 'NoneType' object has no attribute 'no_such_thing'" in given_up["error"]
    assert len(place.view.attempts(number=given_up["number"])) == 1
    assert place.view.counts()["done"] == 1


def test_a_sweep_hands_the_permission_to_its_workers(place: Place) -> None:
    references.allow(["strategy_of_mine"])
    place.sweep(workers=1)
    assert place.view.counts([NK])["done"] == 2


def test_the_commands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def syncvis(*words: str, code: int = 0) -> str:
        return " ".join(ends(place.start("-m", "syncvis", "sweep", *words, COLUMNS="200"), code).split())

    assert "`run` needs --plugin strategy_of_mine" in syncvis("plan", "nk", "--scale", "smoke")
    assert "needs" not in syncvis("plan", "nk", "--scale", "smoke", *ALLOW)
    for words in (("run", "nk", "--scale", "smoke"), ("work", "nk")):
        assert "if you trust it, allow it with --plugin strategy_of_mine" in syncvis(*words, code=2)
    wrong = ("--plugin", "strategy_of_yours")
    assert "there is no module 'strategy_of_yours'" in syncvis("run", "nk", "--scale", "smoke", *wrong, code=2)
    place.set("strategy_of_mine.py", "best = 1 / 0\n")
    said = syncvis("run", "nk", "--scale", "smoke", *ALLOW, code=2)
    assert "strategy_of_mine:best: cannot be loaded (ZeroDivisionError: division by zero)" in said
    assert place.view.number_of_claims() == 0
