"""What a machine lacks, as a list: wrapped, grouped, and with commands that a shell takes as they are printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from syncvis.config import load_config
from syncvis.errors import ConfigError, DataError
from syncvis.preflight import Findings, Missing, Problem, listed, look, look_at_gpus

ROOT = Path(__file__).parents[3]

FIX = "get the files from somewhere; then syncvis data split {} --split train.json --force; or set data.root=FOLDER"


def _missing(what: str, fix: str = FIX.format("videos")) -> Missing:
    return Missing(what, f"{what}.json: there is no such file", fix)


def test_each_step_on_lines_of_its_own() -> None:
    assert listed([_missing("training data")]) == [
        "  training data: training data.json: there is no such file",
        "    get the files from somewhere",
        "      syncvis data split videos --split train.json --force",
        "    or set data.root=FOLDER",
    ]


def test_what_others_are_made_from_stands_first() -> None:
    kinds = ("class-name embeddings", "more", "data set", "GPUs", "initial weights", "data set")
    items = [Missing(what, str(place), str(place)) for place, what in enumerate(kinds)]
    assert [line.strip() for line in listed(items) if ":" in line] == [
        "data set: 2",
        "data set: 5",
        "initial weights: 4",
        "class-name embeddings: 0",
        "GPUs: 3",
        "more: 1",
    ]


def test_what_one_fix_mends_stands_together() -> None:
    lines = listed([_missing("a"), _missing("b", "do it; then do that"), _missing("c")])
    assert [line.strip() for line in lines if line.startswith("  ") and not line.startswith("   ")] == [
        "a: a.json: there is no such file",
        "c: c.json: there is no such file",
        "b: b.json: there is no such file",
    ]
    assert sum("syncvis data split" in line for line in lines) == 1
    assert lines[-2:] == ["    do it", "    do that"]


@pytest.mark.parametrize("root", ["videos", "a/rather/long/path/to/some/videos", "my 'own' videos", "--x"])
def test_a_command_can_be_copied(root: str) -> None:
    command = shlex.join(["syncvis", "data", "split", root, "--split", "train.json", "--force", "--out", "f"])
    lines = listed([_missing("a", f"look; then {command}")], width=40)[2:]
    assert len(lines) > 1
    assert max(map(len, lines)) <= max(40, len(shlex.quote(root)) + 10)
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_a_name_like_the_end_of_a_step_stops_nothing() -> None:
    command = shlex.join(["syncvis", "data", "split", "videos; or others", "--split", "train.json"])
    assert listed([_missing("a", command)])[-1] == "    or others' --split train.json"


def test_sentences_are_wrapped_at_words() -> None:
    text = "put the-files-of-the-training-set where they belong " * 4
    lines = listed([Missing("data set", text, text)])
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines) == f"data set: {text}{text}".strip()


def test_names_cannot_steer_the_terminal() -> None:
    (line, *_) = listed([Missing("data", "bad\x1b[2Jname", "")])
    assert line == "  data: bad\\x1b[2Jname"


def test_readme_shows_what_a_recipe_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ROOT / "experiments" / "recipes" / "syncvis_ytvis_2019_r50.yaml"
    monkeypatch.chdir(tmp_path)
    lines = listed(map(Missing.of, look(load_config(recipe)).problems))
    shown = (ROOT / "README.md").read_text().split("MISSING ON THIS MACHINE\n")[1].split("```")[0]
    assert shown.splitlines() == lines


def test_gpus() -> None:
    assert look_at_gpus(2, 2) == look_at_gpus(1, 8) == []
    (problem,) = look_at_gpus(8, 1)
    assert (problem.what, problem.error.what, problem.state) == ("GPUs", "1 of 8", "absent")
    assert "train.accumulate" in str(problem.error.fix)


def test_states() -> None:
    states = ("wrong", "missing", "absent")
    problems = [Problem(state, DataError(state), state) for state in states]
    found = Findings(tuple(problems), ("note",))
    assert [problem.what for problem in found.lacking] == ["missing", "absent"]
    assert [problem.what for problem in found.faulty.problems] == ["wrong"]
    assert [problem.what for problem in found.wrong.problems] == ["wrong", "missing"]
    assert found.faulty.notes == found.wrong.notes == ("note",)
    assert Problem("x", ConfigError("y")).state == "wrong"
