"""Names of functions: from a table, or of a module of one's own that was allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from syncvis import references
from syncvis.config import AGGREGATIONS, BUILDERS, STRUCTURES, WINDOWS
from syncvis.errors import ConfigError
from syncvis.references import allow, is_reference, load

MODULE = "strategies_of_my_own"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are found in; nothing is allowed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(references, "_allowed", set())
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


def test_a_module_that_is_allowed(own: Path) -> None:
    allow([MODULE])
    assert load(f"{MODULE}:mine", AGGREGATIONS)() == 5
    with pytest.raises(ConfigError, match=f"module {MODULE} has no 'yours'"):
        load(f"{MODULE}:yours", AGGREGATIONS)
    with pytest.raises(ConfigError, match="--plugin os"):
        load("os:getcwd", AGGREGATIONS)


@pytest.mark.parametrize("module", ["not_there_at_all", "not_there.either", f"{MODULE}.below"])
def test_a_module_that_is_not_there(own: Path, module: str) -> None:
    allow([module])
    with pytest.raises(ConfigError, match="there is no module"):
        load(f"{module}:mine", AGGREGATIONS)


def test_what_a_module_of_ones_own_lacks_is_its_own_error(own: Path) -> None:
    (own / f"{MODULE}.py").write_text("import not_there_at_all\n")
    allow([MODULE])
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        load(f"{MODULE}:mine", AGGREGATIONS)
