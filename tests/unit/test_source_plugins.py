"""The source of modules of one's own: in the fingerprint, in the patch, and back in a folder that they can be
imported from."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import git, make_repository, write

from syncvis.source import PLUGIN_FOLDER, Source, code_fingerprint, restored_fingerprint, snapshot, take
from syncvis.source.plugins import files_in, files_of
from syncvis.source.state import with_plugins

FILES = {
    "mine.py": "def best(): ...\n",
    "other.py": "",
    "pack/__init__.py": "one = 1",
    "pack/deep/part.py": "a\r\nb\r\n",
    "pack/notes.txt": "not code\n",
    "pack/.hidden/old.py": "old\n",
    "space/inside.py": "text = 'diff --git a/x b/x'\n",
    "space/neighbour.py": "two\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with modules that no test before has read."""
    made = tmp_path / "here"
    write(made, FILES)
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    files_of.cache_clear()
    yield made
    files_of.cache_clear()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "clone")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("mine", ["mine.py"]),
        ("other", ["other.py"]),
        ("pack", ["pack/__init__.py", "pack/deep/part.py"]),
        ("pack.deep.part", ["pack/__init__.py", "pack/deep/part.py"]),
        ("space.inside", ["space/inside.py"]),
        ("space", []),
        ("not_there", []),
        ("mine.not_there", ["mine.py"]),
        ("itertools", []),
    ],
)
def test_the_files_of_a_module(module: str, names: list[str]) -> None:
    assert list(files_of(module)) == names
    assert all(files_of(module)[name] == FILES[name].encode() for name in names)
    assert module not in sys.modules or module == "itertools"


def test_a_module_is_read_once(folder: Path) -> None:
    before = files_of("mine")
    write(folder, {"mine.py": "other\n"})
    assert files_of("mine") == before


def test_modules_of_ones_own_are_part_of_the_source(folder: Path) -> None:
    found = snapshot(["mine"])
    assert found.plugins == {"mine.py": hashlib.sha256(FILES["mine.py"].encode()).hexdigest()}
    assert found.changed == (*snapshot().changed, f"{PLUGIN_FOLDER}/mine.py")
    assert found.code != snapshot().code
    assert found.diff != snapshot().diff
    assert snapshot(["not_there"]) == snapshot() == snapshot(["syncvis.errors"])
    assert snapshot(["mine", "pack"]) == snapshot(["pack", "mine"])
    files_of.cache_clear()
    write(folder, {"mine.py": "other\n"})
    assert snapshot(["mine"]).code != found.code


def _restored(source: Source, repository: Path, folder: Path) -> Path:
    git(repository.parent, "clone", "-q", str(repository), str(folder))
    subprocess.run(["git", "-C", str(folder), "apply", "--whitespace=nowarn", "-"], input=source.patch, check=True)
    return folder


def test_they_come_back(repository: Path, tmp_path: Path) -> None:
    write(repository, {"syncvis/new.py": "new\n"})
    files: dict[str, bytes] = {}
    for module in ("mine", "other", "pack", "space.inside"):
        files |= files_of(module)
    source = with_plugins(take(repository), files)
    assert source.left_out == ()
    back = _restored(source, repository, tmp_path / "back")
    assert files_in(back) == files
    assert restored_fingerprint(back) == source.code
    assert code_fingerprint(back) == take(repository).code != source.code
    write(back, {f"{PLUGIN_FOLDER}/mine.py": "other\n"})
    assert restored_fingerprint(back) != source.code


def test_a_tree_without_any_has_the_fingerprint_of_its_code(repository: Path) -> None:
    assert restored_fingerprint(repository) == code_fingerprint(repository)


def test_secrets_stay_where_they_are(repository: Path) -> None:
    files = {"mine.py": b'api_key = "q7Zk29vLm4XwPd81"\n', "zero.py": b"\0", "fine.py": b"one\n"}
    source = with_plugins(take(repository), files)
    assert source.left_out == (
        f"{PLUGIN_FOLDER}/mine.py: it seems to hold a key or password",
        f"{PLUGIN_FOLDER}/zero.py: binary",
    )
    assert b"q7Zk29vLm4XwPd81" not in source.patch
    assert b"+one\n" in source.patch
    assert set(source.plugins) == set(files)
