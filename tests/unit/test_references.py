"""Names of functions: from a table, or of a module of one's own that was allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from syncvis import references
from syncvis.config import AGGREGATIONS, BUILDERS, STRUCTURES, WINDOWS
from syncvis.errors import ConfigError
from syncvis.references import allow, allowed, is_reference, load, require

MODULE = "strategies_of_my_own"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module; nothing is allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(references, "_allowed", [])
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    (tmp_path / f"{MODULE}.py").write_text("def mine():\n    return 5\n")
    return tmp_path


@pytest.mark.parametrize("table", [AGGREGATIONS, WINDOWS, BUILDERS], ids=["aggregations", "windows", "methods"])
def test_every_line_of_a_table_is_a_function_of_that_name(table: dict[str, str]) -> None:
    for name in table:
        function = load(name, table)
        assert callable(function)
        assert function.__name__ in (name, "build")
        assert function.__module__.startswith("syncvis.")


def test_the_levels_of_the_structures() -> None:
    assert {name for name, levels in STRUCTURES.items() if "video" not in levels} == {"frame_only"}
    assert {name for name, levels in STRUCTURES.items() if "frame" not in levels} == {"video_only"}


@pytest.mark.parametrize("name", ["a:b", "a.b:c", "_a.b1:c_2"])
def test_references(name: str) -> None:
    assert is_reference(name)


@pytest.mark.parametrize(
    "name", ["", "a", "a:", ":a", "a.b", "a:b:c", ".a:b", "a..b:c", "1a:b", "a:b.c", "a b:c", "a-b:c"]
)
def test_what_is_no_reference(name: str) -> None:
    assert not is_reference(name)
    with pytest.raises(ConfigError, match="names nothing"):
        load(name, AGGREGATIONS)


def test_nothing_of_ones_own_is_imported_before_it_is_allowed(own: Path) -> None:
    (own / f"{MODULE}.py").write_text("raise AssertionError('imported')\n")
    with pytest.raises(ConfigError, match=f"--plugin {MODULE}"):
        load(f"{MODULE}:mine", AGGREGATIONS)
    assert MODULE not in sys.modules


def test_a_module_that_is_allowed_is_found_in_the_working_directory(own: Path) -> None:
    allow([MODULE])
    assert load(f"{MODULE}:mine", AGGREGATIONS)() == 5
    assert allowed() == (MODULE,)
    with pytest.raises(ConfigError, match="--plugin os"):
        load("os:getcwd", AGGREGATIONS)


def test_the_working_directory_hides_nothing(own: Path) -> None:
    (own / "json.py").write_text("raise AssertionError('imported')\n")
    allow(["json"])
    assert load("json:dumps", AGGREGATIONS)(1) == "1"


def test_what_is_missing_is_said_at_once(own: Path) -> None:
    allow([MODULE, MODULE])
    require([MODULE, MODULE])
    with pytest.raises(
        ConfigError, match=r"workbench: a, b\.c\. Fix: if you trust it, allow it with --plugin a --plugin b\.c"
    ):
        require(["b.c", MODULE, "a", "a"])


@pytest.mark.parametrize("module", ["not_there_at_all", "not_there.either", "mine.py:", "a b", "", "mine:best"])
def test_what_cannot_be_allowed(own: Path, module: str) -> None:
    with pytest.raises(ConfigError, match=r"--plugin: (there is no module|'.*' is not the name of a module)"):
        allow([module])
    assert allowed() == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def yours(): ...", "AttributeError: module 'strategies_of_my_own' has no attribute 'mine'"),
        ("def mine(:", "SyntaxError"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_that_is_wrong_is_a_wrong_config(own: Path, text: str, words: str) -> None:
    (own / f"{MODULE}.py").write_text(f"{text}\n")
    allow([MODULE])
    with pytest.raises(ConfigError, match=f"{MODULE}:mine: cannot be loaded .{words}") as error:
        load(f"{MODULE}:mine", AGGREGATIONS)
    assert error.value.__cause__ is not None


def test_a_part_of_a_module_that_is_none(own: Path) -> None:
    allow([f"{MODULE}.below"])
    with pytest.raises(ConfigError, match=r"cannot be loaded \(ModuleNotFoundError"):
        load(f"{MODULE}.below:mine", AGGREGATIONS)
