"""docs/extend.md does what it says: its files are written and its commands run, in order, from the page's own text.

What is smaller than in a clone: the synthetic videos, and the model and training of scale smoke.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from helpers import TINY

from sweeps.cli import app as sweeps_app
from sweeps.experiment import Experiment, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.cli import app
from syncvis.config import AGGREGATIONS, METHODS, WINDOWS
from syncvis.config.tables import OWN_CODE
from syncvis.methods.base import Method
from syncvis.outputs import Readable
from syncvis.references import is_reference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
DATA = "syncvis data synth outputs/data/synthetic"


@dataclass(frozen=True)
class Block:
    """A fenced part of the page; one that is a file says its name in its first line."""

    section: str
    kind: str
    text: str

    @property
    def file(self) -> str | None:
        first = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return first[1] if first else None


def _blocks() -> Iterator[Block]:
    section = ""
    for found in re.finditer(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        section = found[1] or section
        if found[2]:
            yield Block(section, found[2], found[3])


BLOCKS = list(_blocks())
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS))


@pytest.fixture(scope="module")
def clone(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone, with all files of the page."""
    made = tmp_path_factory.mktemp("clone")
    shutil.copytree(tiny_data, made / "outputs" / "data" / "synthetic")
    (made / "tests").symlink_to(ROOT / "tests")
    for name in ("pyproject.toml", "constraints.txt"):
        (made / name).symlink_to(ROOT / name)
    (made / "experiments" / "base").mkdir(parents=True)
    smoke = {**TINY, "scale": "smoke", "data": {**TINY["data"], "root": "outputs/data/synthetic"}}
    (made / "experiments" / "base" / "smoke.yaml").write_text(yaml.safe_dump(smoke))
    for name, words in {"syncvis": "-m syncvis", "python": ""}.items():
        command = made / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        command.chmod(0o755)
    for block in BLOCKS:
        if block.file:
            (made / block.file).write_text(block.text)
    return made


def _run(clone: Path, commands: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_does_what_it_says(clone: Path, section: str) -> None:
    commands = [block.text.strip() for block in BLOCKS if block.section == section and block.kind == "sh"]
    output = "\n".join(_run(clone, command) for command in commands if command != DATA)  # the videos are there
    if section in CHECKS:
        CHECKS[section](clone, output)


def _strategy(clone: Path, output: str) -> None:
    result = json.loads((clone / "outputs" / "least-alike" / "result.json").read_text())
    assert list(result["plugins"]) == ["my_strategies.py"]
    assert result["config"]["sync"]["aggregation"] == "my_strategies:least_alike"


def _experiment(clone: Path, output: str) -> None:
    view = Ledger(clone / "outputs" / "ledger.db").view
    rows = view.rows([StudyKey("alike", "smoke")])
    assert {row["state"] for row in rows} == {"done"}
    assert {row["axes"]["aggregation"] for row in rows if row["number"] == 4} == {"least alike"}
    sources = {row["axes"]["aggregation"]: view.results([row["cell_hash"]])[row["cell_hash"]]["source"] for row in rows}
    own = sources.pop("least alike")
    assert len(set(sources.values())) == 1
    assert own not in sources.values()
    assert re.search(r"^\| least alike \| 2 \| ", output, re.MULTILINE)
    assert "identical: all metrics" in output


def _method(clone: Path, output: str) -> None:
    view = Ledger(clone / "outputs" / "ledger.db").view
    rows = view.rows([StudyKey("remember", "smoke")])
    assert [row["state"] for row in rows] == ["done"] * 4
    names = [json.loads(view.cell(row["number"])["config"])["method"]["name"] for row in rows]
    assert sorted(names) == ["minvis", "minvis", "my_method:build", "my_method:build"]
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None
    assert int(passed[1]) > 40  # of the contract
    assert re.search(r"^ *model +my_method:build", output, re.MULTILINE)


CHECKS = {"An aggregation strategy": _strategy, "An experiment": _experiment, "A base method": _method}


def test_nothing_runs_without_permission(clone: Path) -> None:
    words = "syncvis train experiments/base/smoke.yaml sync.aggregation=my_strategies:least_alike"
    assert "allow it with --plugin my_strategies" in _run(clone, f"{words} 2>&1 && exit 1 || test $? = 2")


def test_the_page_names_what_there_is() -> None:
    assert set(CHECKS) < set(SECTIONS)
    for key in OWN_CODE:
        assert f"`{key}`" in PAGE
    for name in Readable.__annotations__ | {n: None for n in vars(Readable) if n.endswith("_by_frame")}:
        assert f"`{name}`" in PAGE
    for name in Method.__abstractmethods__:
        assert re.search(rf"^\| `{name}\(", PAGE, re.MULTILINE), name
    assert all(is_reference(f"my_strategies:{name}") for name in [*AGGREGATIONS, *WINDOWS, *METHODS])


def test_every_command_that_runs_or_plans_takes_the_permission() -> None:
    names = re.search(r"`--plugin MODULE`, once for each module, of (.*?)\. A config", PAGE, re.DOTALL)
    assert names is not None
    commands = re.findall(r"`([a-z ]+)`", names[1])
    assert commands == ["train", "eval", "infer", "weights import", "sweep plan", "run", "work", "rerun"]
    group = typer.main.get_command(app)
    for words in [*commands[:5], *(f"sweep {name}" for name in commands[5:])]:
        command = group if not words.startswith("sweep") else typer.main.get_command(sweeps_app)
        for word in words.removeprefix("sweep ").split():
            command = command.commands[word]
        assert "--plugin" in [option for parameter in command.params for option in parameter.opts], words


def test_every_key_of_an_experiment_is_in_the_table() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(Experiment.model_fields)


def test_the_example_of_the_experiments_page_can_be_planned(clone: Path) -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    path = clone / "experiments" / f"{yaml.safe_load(example)['id']}.yaml"
    path.write_text(example)
    assert len(plan_cells(load_experiment(path), "smoke")) == 4
