"""The state of a source tree: what counts as code, what is kept of its changes, and what is not and why."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import FILES, git, make_repository, write

import syncvis
from syncvis.source import Source, code_fingerprint, read_patch, snapshot, take
from syncvis.source import changes as module
from syncvis.source import repository as asking

SECRET = "password = q7Zk29vLm4XwPd81\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "clone")


def apply(found: Source, repository: Path, folder: Path) -> Path:
    """A fresh clone with the patch on it."""
    git(repository.parent, "clone", "-q", str(repository), str(folder))
    if found.patch:
        subprocess.run(["git", "-C", str(folder), "apply", "-"], input=found.patch, check=True)
    return folder


def test_a_clean_tree_has_a_commit_and_no_diff(repository: Path) -> None:
    found = take(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert (found.diff, found.patch, found.changed, found.left_out) == (None, b"", (), ())


CODE: dict[str, Callable[[Path], object]] = {
    "tracked": lambda r: write(r, {"syncvis/model.py": "two\n"}),
    "of the sweeps": lambda r: write(r, {"sweeps/__init__.py": "two\n"}),
    "untracked": lambda r: write(r, {"analysis/new.py": "new\n"}),
    "untracked, in a new folder": lambda r: write(r, {"syncvis/deep/er/new.py": "new\n"}),
    "ignored": lambda r: write(r, {"syncvis/ignored.py": "new\n"}),
    "deleted": lambda r: (r / "syncvis" / "model.py").unlink(),
    "moved": lambda r: (r / "syncvis" / "model.py").rename(r / "syncvis" / "other.py"),
    "requirements": lambda r: write(r, {"pyproject.toml": "[project]\nname = 'a'\n"}),
    "pins": lambda r: write(r, {"constraints.txt": "torch==1\n"}),
}
STRAY: dict[str, Callable[[Path], object]] = {
    "notes": lambda r: write(r, {"notes.txt": "new\n"}),
    "a script": lambda r: write(r, {"try.py": "new\n"}),
    "an untracked experiment": lambda r: write(r, {"experiments/mine.yaml": "id: mine\n"}),
    "a tracked experiment": lambda r: write(r, {"experiments/nk.yaml": "id: other\n"}),
    "documentation": lambda r: write(r, {"README.md": "other\n"}),
    "a name with blanks, quotes and an umlaut": lambda r: write(r, {'a "new"\tnäme.txt': "new\n"}),
    "a link": lambda r: (r / "link").symlink_to("nowhere"),
    "a link in place of a file": lambda r: ((r / "LICENSE").unlink(), (r / "LICENSE").symlink_to("nowhere")),
    "an executable": lambda r: (r / "README.md").chmod(0o755),
    "no end of line": lambda r: write(r, {"README.md": "no end", "new.md": "no end"}),
    "empty": lambda r: write(r, {"empty.txt": ""}),
    "lines that look like a patch": lambda r: write(r, {"a.txt": "diff --git a/x b/x\nGIT binary patch\n\n"}),
    "staged": lambda r: (write(r, {"staged.txt": "new\n"}), git(r, "add", "staged.txt")),
    "carriage returns": lambda r: write(r, {"dos.txt": "a\r\nb\r\n"}),
}


@pytest.mark.parametrize("change", CODE.values(), ids=list(CODE))
def test_code_changes_the_fingerprint_and_is_named(repository: Path, tmp_path: Path, change: Callable) -> None:
    before = take(repository)
    change(repository)
    found = take(repository)
    assert found.code != before.code
    assert found.changed
    assert code_fingerprint(apply(found, repository, tmp_path / "back")) == found.code


@pytest.mark.parametrize("change", STRAY.values(), ids=list(STRAY))
def test_what_is_not_code_does_not_but_is_kept(repository: Path, tmp_path: Path, change: Callable) -> None:
    before = take(repository)
    change(repository)
    found = take(repository)
    assert (found.code, found.changed) == (before.code, ())
    assert (found.left_out, found.diff is None) == ((), False)
    assert _tree(apply(found, repository, tmp_path / "back")) == _tree(repository)


def test_all_at_once_and_the_same_bytes_twice(repository: Path, tmp_path: Path) -> None:
    for change in (*STRAY.values(), CODE["untracked"], CODE["tracked"]):
        change(repository)
    found = take(repository)
    assert take(repository) == found
    assert _tree(apply(found, repository, tmp_path / "back")) == _tree(repository)
    assert len({found.digest, take(tmp_path / "back").digest}) == 1


def test_nobodys_settings_change_the_patch(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(repository, {"syncvis/model.py": FILES["syncvis/model.py"].replace("line 7", "other"), "näme": "new\n"})
    before = take(repository)
    settings = ("noprefix=true", "mnemonicPrefix=true", "context=0", "algorithm=histogram", "renames=copies")
    for setting in (
        *(f"diff.{one}" for one in settings),
        "core.quotepath=on",
        "color.ui=always",
        "diff.external=false",
    ):
        git(repository, "config", *setting.split("="))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other"))
    assert take(repository) == before


def test_the_repository_is_not_written_to(repository: Path) -> None:
    write(repository, {"syncvis/model.py": "two\n", "new.txt": "new\n"})
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*") if path.is_file()}
    take(repository)
    after = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*") if path.is_file()}
    assert after == before
    assert git(repository, "status", "--porcelain").splitlines() == ["M syncvis/model.py", "?? new.txt"]


LEFT_OUT: dict[str, str | bytes] = {
    ".env: its name says that it holds a secret": "A=1\n",
    "my_token.txt: its name says that it holds a secret": "1\n",
    "cloud.txt: it seems to hold a key or password": SECRET,
    "syncvis/cloud.py: it seems to hold a key or password": 'api_key = "q7Zk29vLm4XwPd81"\n',
    "big.txt: larger than 256 KiB": "x" * (module.MAX_FILE + 1),
    "small.bin: binary": b"\0\1\2",
}


def test_secrets_and_data_are_left_out_and_said(repository: Path) -> None:
    write(repository, {"kept.txt": "kept\n", "syncvis/token_merge.py": "kept = 1\n"})
    write(repository, {line.partition(":")[0]: content for line, content in LEFT_OUT.items()})
    git(repository, "init", "-q", "nested")
    write(repository, {"nested/a": "a\n"})
    found = take(repository)
    assert found.left_out == tuple(sorted([*LEFT_OUT, "nested/: a repository of its own"]))
    assert found.changed == ("syncvis/cloud.py", "syncvis/token_merge.py")
    for private in (b"q7Zk29vLm4XwPd81", b".env", b"xxxx"):
        assert private not in found.patch
    assert b"+kept\n" in found.patch
    assert b"+kept = 1\n" in found.patch


def test_a_secret_is_left_out_of_tracked_files_and_when_it_is_of_the_environment(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct horse battery")
    write(repository, {"README.md": f"read me\n{SECRET}", "notes.txt": "it is correct horse battery\n"})
    assert take(repository).left_out == tuple(
        f"{n}: it seems to hold a key or password" for n in ("README.md", "notes.txt")
    )


def test_a_secret_that_is_committed_already_does_not_keep_a_change_out(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "clone", {**FILES, "README.md": f"{SECRET}read me\n"})
    write(repository, {"README.md": f"{SECRET}read me twice\n"})
    assert take(repository).left_out == ()


def test_a_deleted_data_file_of_the_commit_is_left_out(tmp_path: Path) -> None:
    big = "".join(f"{n}\n" for n in range(200_000))
    repository = make_repository(tmp_path / "clone", {**FILES, "a.bin": b"\0\1", "b.txt": big})
    for name in ("a.bin", "b.txt"):
        (repository / name).unlink()
    assert take(repository).left_out == ("a.bin: binary", "b.txt: larger than 256 KiB")


def test_code_comes_first_where_not_all_is_kept(repository: Path) -> None:
    for n in range(12):
        noise = hashlib.shake_256(bytes([n])).hexdigest(90_000)
        write(repository, {f"a{n:02}.txt": "\n".join(noise[k : k + 80] for k in range(0, len(noise), 80))})
    write(repository, {"syncvis/model.py": "two\n"})
    found = take(repository)
    assert len(found.left_out) == 3
    assert all(line.endswith(": beyond the 1 MiB that are kept of all changes") for line in found.left_out)
    assert b"+two\n" in found.patch


def test_many_stray_files_are_counted_by_folder(repository: Path) -> None:
    write(repository, {f"data/{n // 50}/{n}.bin": b"\0" for n in range(100)})
    assert take(repository).left_out == ("data/0/: 50 files, binary", "data/1/: 50 files, binary")
    write(repository, {f"data/{n}/0.bin": b"\0" for n in range(30)})
    assert take(repository).left_out == ("data/: 129 files, binary",)
    write(repository, {f"{n}/0.bin": b"\0" for n in range(30)})
    assert take(repository).left_out[-1] == "and in 11 more places"


def test_data_that_nobody_ignored_is_not_opened(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"data/{n}/00000.JPG" for n in range(50)] + [f"labels/{n}.txt" for n in range(50)]
    write(repository, dict.fromkeys(names, "a\n"))
    write(repository, {"syncvis/new.py": "new\n", "README.md": "other\n"})
    monkeypatch.setattr(module, "MAX_UNTRACKED", 49)
    opened: list[Path] = []
    unfit = module._unfit
    monkeypatch.setattr(module, "_unfit", lambda path: opened.append(path) or unfit(path))  # type: ignore[func-returns-value]
    found = take(repository)
    assert opened == [repository / "README.md", repository / "syncvis" / "new.py"]
    too_many = "one of more than 49 files that git does not know"
    assert found.left_out == ("data/: 50 files, binary", f"labels/: 50 files, {too_many}")
    assert b"+new\n" in found.patch
    assert b"+other\n" in found.patch


def test_no_room_for_the_work_is_no_error(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, {"new.txt": "new\n"})

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryDirectory", full)
    found = take(repository)
    assert found.left_out == ("all changes: No space left on device",)


def test_a_file_that_cannot_be_read_is_left_out(repository: Path) -> None:
    write(repository, {"closed.txt": "a"})
    (repository / "closed.txt").chmod(0)
    if os.access(repository / "closed.txt", os.R_OK):
        pytest.skip("this user may read everything")
    assert take(repository).left_out == ("closed.txt: cannot be read",)


def test_a_source_tree_inside_a_larger_repository(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "clone", {f"code/vis/{name}": text for name, text in FILES.items()})
    write(repository, {"code/vis/syncvis/new.py": "new\n", "note": "new\n", "pyproject.toml": "of another\n"})
    found = take(repository / "code" / "vis")
    assert found.changed == ("code/vis/syncvis/new.py",)
    back = apply(found, repository, tmp_path / "back")
    assert code_fingerprint(back / "code" / "vis") == found.code
    assert (back / "note").exists()


def test_a_repository_around_an_installed_package_is_not_its_source(repository: Path) -> None:
    installed = repository / "outputs" / "site-packages"
    write(installed, FILES)
    assert take(installed) == Source(None, code_fingerprint(installed))
    assert take(installed).code == take(repository).code


def test_without_git_there_is_a_fingerprint_and_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = take(repository).code
    monkeypatch.setenv("PATH", "")
    assert take(repository) == Source(None, code)


def test_a_git_that_fails_half_way_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, {"new.txt": "new\n"})
    run = asking.git

    def failing(folder: Path, *words: str, **more: object) -> object:
        return None if words[0] == "update-index" else run(folder, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asking, "git", failing)
    found = take(repository)
    assert found.left_out == ("all changes: git could not tell them",)
    assert found.diff is not None


def test_the_patch_of_a_run_lies_below_its_folder(repository: Path, tmp_path: Path) -> None:
    write(repository, {"new.txt": "new\n"})
    found = take(repository)
    found.save(tmp_path / "run")
    assert read_patch(tmp_path / "run", str(found.diff)) == found.patch
    (path,) = (tmp_path / "run" / "source").iterdir()
    path.write_bytes(b"damaged")
    assert read_patch(tmp_path / "run", str(found.diff)) == b""
    Source(None, "0").save(tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_this_process_has_one_state() -> None:
    assert snapshot() is snapshot()
    assert snapshot().code == code_fingerprint(Path(syncvis.__file__).parents[1])


def _tree(folder: Path) -> dict[str, tuple[object, int]]:
    """What git would see: name -> content or target, and whether it can be executed."""
    found = {}
    for path in folder.rglob("*"):
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file()):
            content: object = os.readlink(path) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = (content, 0 if path.is_symlink() else path.stat().st_mode & 0o100)
    return found
