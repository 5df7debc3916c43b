"""The source that a trial ran comes back, and show and rerun say where it is another one now."""

from __future__ import annotations

import json
import os

import pytest
from cells import alter, finish, take
from repositories import FILES, git, make_repository, write

from sweeps.ledger import Ledger
from sweeps.sources import as_row, changes_of_source, sources_of
from syncvis.errors import ConfigError, StorageError
from syncvis.source import Source, code_fingerprint, restored_fingerprint, snapshot
from syncvis.source import take as take_source
from syncvis.source.state import with_plugins


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "clone")


@pytest.fixture
def restore(sweep, repository, tmp_path):
    """Bring the source of a trial or folder back into ``back``."""
    return lambda run, *words: sweep("restore", run, "--to", tmp_path / "back", "--repository", repository, *words)


def run_with(outputs, source, **result):
    """Let the next planned trial be done by a worker with this source."""
    claim = take(outputs)
    outputs.keep_source(claim, as_row(source))
    outputs.fail(claim, "boom")
    claim = finish(outputs, commit=source.commit, source=source.code, **result)
    outputs.keep_source(claim, as_row(source))
    return claim


def test_a_ledger_that_was_made_before_there_were_sources_still_opens(outputs, tmp_path, sweep, restore, repository):
    finish(outputs, commit=git(repository, "rev-parse", "HEAD"))
    for table in ("attempt_sources", "sources"):
        alter(outputs, f"DROP TABLE {table}")
    again = Ledger(tmp_path / "outputs" / "ledger.db")
    assert sources_of(again.view, again.view.cell(5)["cell_hash"]) == {}
    assert "source" not in sweep("show", 5).output
    result = restore(5)
    assert result.exit_code == 0
    assert "unsure  the record is of an older version, which has no fingerprint to compare with" in result.output


def test_the_source_of_a_trial_comes_back_with_what_was_not_committed(outputs, restore, repository, tmp_path):
    write(repository, {"syncvis/model.py": "two\n", "syncvis/new.py": "new\n", "small.bin": b"\0"})
    source = take_source(repository)
    run_with(outputs, source)
    write(repository, {"syncvis/model.py": "three\n"})
    output = restore(5).output
    assert output.splitlines()[0].startswith(f"source  {source.code} (commit {source.commit[:10]} with changes in ")
    assert "lacks   small.bin: binary" in output
    assert "same    its fingerprint is that of the record" in output
    assert f"use     PYTHONPATH={tmp_path / 'back'} syncvis sweep rerun 5\n" in output
    assert f"remove  git -C {repository} worktree remove --force {tmp_path / 'back'}\n" in output
    assert code_fingerprint(tmp_path / "back") == source.code
    assert (tmp_path / "back" / "syncvis" / "new.py").read_text() == "new\n"
    assert (repository / "syncvis" / "model.py").read_text() == "three\n"
    git(repository, "worktree", "remove", "--force", str(tmp_path / "back"))


def test_modules_of_ones_own_come_back_beside_it(outputs, restore, repository, tmp_path):
    source = with_plugins(take_source(repository), {"mine.py": b"def best(): ...\n"})
    run_with(outputs, source)
    result = restore(5)
    assert result.exit_code == 0
    assert (
        f"use     PYTHONPATH={tmp_path / 'back'}{os.pathsep}{tmp_path / 'back' / '.plugins'} syncvis" in result.output
    )
    assert (tmp_path / "back" / ".plugins" / "mine.py").read_text() == "def best(): ...\n"
    (tmp_path / "back" / ".plugins" / "mine.py").write_text("other\n")
    assert restored_fingerprint(tmp_path / "back") != source.code


def test_each_attempt_has_its_own(outputs, restore, repository, tmp_path):
    claim = take(outputs)
    for text in ("two\n", "three\n"):
        write(repository, {"syncvis/model.py": text})
        outputs.keep_source(claim, as_row(take_source(repository)))
        outputs.fail(claim, "boom")
        claim = take(outputs)
    assert restore(5, "--attempt", 1).exit_code == 0
    assert (tmp_path / "back" / "syncvis" / "model.py").read_text() == "two\n"
    with pytest.raises(ConfigError, match=r"trial 5: has no attempt 9. Fix: take one of 1 to 3"):
        restore(5, "--attempt", 9)


def test_code_that_was_left_out_is_missed(outputs, restore, repository):
    write(repository, {"syncvis/new.py": 'api_key = "q7Zk29vLm4XwPd81"\n'})
    run_with(outputs, take_source(repository))
    result = restore(5)
    assert result.exit_code == 1
    assert "lacks   syncvis/new.py: it seems to hold a key or password" in result.output
    assert "differs its fingerprint is " in result.output


def test_the_folder_of_a_training_works_too(restore, repository, tmp_path):
    write(repository, {"syncvis/new.py": "new\n", "small.bin": b"\0"})
    source, folder = take_source(repository), tmp_path / "run"
    source.save(folder)
    record = {"commit": source.commit, "dirty": True, "diff": source.diff, "source": source.code}
    record |= {"changed": source.changed, "left_out": source.left_out}
    write(folder, {"result.json": json.dumps(record)})
    assert restore(folder).exit_code == 0
    assert code_fingerprint(tmp_path / "back") == source.code
    with pytest.raises(ConfigError, match=r"--attempt: belongs to a trial"):
        restore(folder, "--attempt", 1)
    next((folder / "source").iterdir()).unlink()
    git(repository, "worktree", "remove", "--force", str(tmp_path / "back"))
    with pytest.raises(StorageError, match=r"run: result.json: its uncommitted changes were not kept"):
        restore(folder)


@pytest.mark.parametrize("content", ["[]", "{", None])
def test_a_folder_without_a_run(restore, tmp_path, content):
    if content:
        write(tmp_path / "run", {"result.json": content})
    with pytest.raises(StorageError, match=r"run/result.json: .*Fix: give the number of a trial, or the folder"):
        restore(tmp_path / "run")


def test_what_is_refused_makes_nothing(outputs, restore, sweep, repository, tmp_path):
    source = take_source(repository)
    run_with(outputs, source)
    (tmp_path / "back").mkdir()
    with pytest.raises(ConfigError, match=r"back: exists already. Fix: give a folder that does not exist yet"):
        restore(5)
    (tmp_path / "back").rmdir()
    other = make_repository(tmp_path / "other", FILES | {"README.md": "of somebody else\n"})
    plain = make_repository(tmp_path / "plain", {"README.md": "no source of ours\n"})
    words = ("restore", 5, "--to", tmp_path / "back", "--repository")
    with pytest.raises(StorageError, match=rf"other: has no commit {source.commit}. Fix: git fetch it, or give"):
        sweep(*words, other)
    for folder in (plain, tmp_path / "outputs", tmp_path / "nowhere"):
        with pytest.raises(
            StorageError, match=rf"{folder.name}: is not a repository of syncvis. Fix: run it in a clone"
        ):
            sweep(*words, folder)
    assert not (tmp_path / "back").exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_without_an_option_the_clone_is_where_one_stands(outputs, sweep, repository, tmp_path, monkeypatch):
    run_with(outputs, take_source(repository))
    monkeypatch.setattr("sweeps.commands.restore.SOURCE", tmp_path)  # an installed package
    words = ("restore", 5, "--to", tmp_path / "back", "--out", tmp_path / "outputs")
    with pytest.raises(StorageError, match="is not a repository of syncvis"):
        sweep(*words)
    monkeypatch.chdir(repository)
    assert f"sweep rerun 5 --out {tmp_path / 'outputs'}\n" in sweep(*words).output


def test_what_was_not_kept_is_said(outputs, restore, repository):
    commit = git(repository, "rev-parse", "HEAD")
    with pytest.raises(ConfigError, match=r"trial 5: has not run yet. Fix: wait until it runs"):
        restore(5)
    finish(outputs, commit=commit, dirty=True, diff="abc")
    with pytest.raises(
        StorageError, match=rf"uncommitted changes were not kept. Fix: git worktree add FOLDER {commit}"
    ):
        restore(5)
    with pytest.raises(StorageError, match=r"trial 2: its source was not kept"):
        restore(2)


def test_a_trial_outside_of_a_repository_has_no_commit(outputs, restore):
    run_with(outputs, Source(None, "0123456789abcdef"))
    with pytest.raises(StorageError, match=r"outside of a repository"):
        restore(5)


def test_a_record_of_another_source_than_the_one_that_was_kept(outputs, restore, repository):
    claim = take(outputs)
    outputs.keep_source(claim, as_row(take_source(repository)))
    outputs.release(claim)
    claim = finish(outputs, source="another")
    outputs.keep_source(claim, as_row(take_source(repository)))
    with pytest.raises(StorageError, match=r"trained source another, but .* was kept: files changed while it started"):
        restore(5)


def test_a_patch_that_does_not_fit_leaves_no_worktree(outputs, restore, repository, tmp_path):
    patch = b"diff --git a/no b/no\n--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n"
    run_with(outputs, Source(git(repository, "rev-parse", "HEAD"), "0", (), patch))
    with pytest.raises(StorageError, match="git: the kept changes do not fit the commit: error: no: No such file"):
        restore(5)
    assert not (tmp_path / "back").exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_hooks_of_the_clone_do_not_run(outputs, restore, repository, tmp_path):
    hook = repository / ".git" / "hooks" / "post-checkout"
    write(repository, {".git/hooks/post-checkout": f"#!/bin/sh\ntouch '{tmp_path}/ran'\n"})
    hook.chmod(0o755)
    run_with(outputs, take_source(repository))
    assert restore(5).exit_code == 0
    assert not (tmp_path / "ran").exists()


def test_show_says_whether_the_source_is_as_it_was(outputs, sweep):
    run_with(outputs, snapshot())
    output = sweep("show", 5).output
    assert f"source of attempt 1: {snapshot().code} (commit " in output
    assert "source is not as it was" not in output
    alter(outputs, "UPDATE sources SET code = 'other'")
    way = "`syncvis sweep restore 5 --to FOLDER` brings it back"
    assert f"source is not as it was: {snapshot().code} here now; {way}" in sweep("show", 5).output
    assert json.loads(sweep("show", 5, "--json").stdout)["sources"]["2"]["source"] == "other"


def test_only_code_makes_a_source_another_one():
    here = Source("c0ffee" * 6, "a" * 16, ("syncvis/a.py",), b"patch")
    same = {"source": here.code, "commit": "another", "dirty": False, "diff": None}
    assert list(changes_of_source(same, here)) == []
    names = [f"syncvis/{n}.py" for n in range(5)]
    (line,) = changes_of_source({"source": "b" * 16, "commit": "bead" * 10, "changed": names}, here)
    assert line == (
        f"source: {'b' * 16} (commit beadbeadbe with changes in syncvis/0.py, syncvis/1.py, syncvis/2.py and 2 more)"
        f" in the record, {'a' * 16} (commit c0ffeec0ff with changes in syncvis/a.py) now"
    )
    assert list(changes_of_source({"commit": "old", "dirty": True, "diff": "sum"}, here)) == [
        f"commit: old in the record, {here.commit} now"
    ]
