"""The W&B mirror without wandb: what it would tell, what it notes, and how it uploads."""

from __future__ import annotations

import json
import os
import stat
import struct
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.ledger import Ledger
from sweeps.tracking.environment import wandb_environment
from sweeps.tracking.media import video_table
from sweeps.tracking.mirror import run_id
from sweeps.tracking.notes import NAME, Notes, number_waiting, only_mirror
from sweeps.tracking.public import Public
from sweeps.tracking.upload import upload
from sweeps.tracking.wandb_file import payloads
from sweeps.view import StudyKey
from syncvis.errors import StorageError, WorkbenchError

NK = StudyKey("nk", "smoke")
ENVIRONMENT = {"HOME": "/where/alice", "USER": "alice", "MY_TOKEN": "abcdef12", "SHORT_KEY": "1", "PLAIN": "visible"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/where/alice/data/ytvis 2021", "ytvis 2021"),
        ("/where/alice", "***"),
        ("C:\\Sets\\alice\\set", "set"),
        ("../sets/ytvis/", "ytvis"),
        ("~bob", "***"),
        ("s3://user:abcdef12@host/bucket/w.pt", "w.pt"),
        ("abcdef12", "***"),
        ("video_first", "video_first"),
        ("visible", "visible"),
        ("malice", "malice"),
    ],
)
def test_values_keep_the_last_part_of_a_path_and_no_private_word(text, shown):
    assert Public(ENVIRONMENT).tree({"data": [text]}) == {"data": [shown]}


def test_free_text_loses_every_path_and_numbers_stay():
    public = Public(ENVIRONMENT)
    assert (
        public.text("/x/alice/train.json: bad (see runs/12/error.log), alice") == "train.json: bad (see error.log), ***"
    )
    assert public.tree({"a": 1, "b": None, "c": [True, 0.5]}) == {"a": 1, "b": None, "c": [True, 0.5]}


def test_wandb_gets_its_places_and_none_of_the_users_other_settings(tmp_path):
    user = {"WANDB_API_KEY": "k", "WANDB_RUN_ID": "mine", "WANDB_DATA_DIR": "elsewhere", "PATH": "p"}
    found = wandb_environment(tmp_path, "offline", user)
    assert (found["WANDB_API_KEY"], found["PATH"]) == ("k", "p")
    assert "WANDB_RUN_ID" not in found
    places = [value for name, value in found.items() if name.startswith("WANDB_") and name.endswith("_DIR")]
    assert len(places) == 4
    assert all(Path(place).is_relative_to(tmp_path) for place in places)
    assert "WANDB_CONFIG_DIR" not in wandb_environment(tmp_path, "online", user)


def begin(notes, cell, attempt=1):
    notes.add("begun", cell, attempt=attempt, run=f"id-{cell}")


def complete(notes, cell, folder, uploaded=False):
    notes.add("complete", cell, folder=folder, uploaded=uploaded)


def test_notes_survive_their_process_and_belong_to_an_attempt(tmp_path):
    notes = Notes(tmp_path)
    begin(notes, "a")
    begin(notes, "a")
    begin(notes, "b", attempt=2)
    complete(notes, "b", "offline-run-b")
    again = Notes(tmp_path)
    assert again.by_cell == notes.by_cell
    assert (again.times_begun("a"), again.times_begun("b"), again.times_begun("c")) == (2, 0, 0)
    assert again.is_complete("b", 2)
    assert not again.is_complete("b", 3)
    assert not again.is_complete("a", 1)
    assert list(again.to_upload()) == ["b"]
    again.add("dropped", "b")
    assert not Notes(tmp_path).is_complete("b", 2)


def test_a_torn_line_costs_only_itself(tmp_path):
    begin(Notes(tmp_path), "a")
    whole = (tmp_path / NAME).read_bytes()
    for length in range(len(whole)):
        (tmp_path / NAME).write_bytes(whole[:length])
        notes = Notes(tmp_path)
        complete(notes, "b", "nothing")  # of a cell that was not begun
        begin(notes, "b")
        assert Notes(tmp_path).times_begun("b") == 1


def test_notes_that_cannot_be_written_are_an_error_with_the_path(tmp_path):
    with pytest.raises(StorageError, match=r"gone/mirror\.jsonl: cannot be written"):
        begin(Notes(tmp_path / "gone"), "a")


def test_only_one_process_mirrors_to_a_folder(tmp_path):
    with only_mirror(tmp_path) as first, only_mirror(tmp_path) as second:
        assert (first, second) == (True, False)
    with only_mirror(tmp_path) as third:
        assert third


def framed(records):
    """The records in LevelDB's framing, with checksums of zero."""
    data = bytearray(b":W&B" + bytes(3))
    for record in records:
        kind, rest = 0, record
        while kind not in (1, 4):
            left = 32768 - len(data) % 32768
            if left < 7:
                data += bytes(left)
                left = 32768
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if kind == 0 else (4 if not rest else 3)
            data += struct.pack("<IHB", 0, len(part), kind) + part
    return bytes(data)


def test_records_are_read_across_blocks_and_up_to_a_torn_one():
    records = [bytes([n]) * size for n, size in enumerate((5, 32000, 750, 100_000, 3, 32760, 1))]
    data = framed(records)
    assert list(payloads(data)) == records
    for length in range(7, len(data), 997):
        found = list(payloads(data[:length]))
        assert found == records[: len(found)]
    assert list(payloads(data[:-1])) == records[:-1]


def test_the_table_of_videos_is_in_their_order():
    class Tables:
        @staticmethod
        def Table(columns, data):
            return columns, data

    assert video_table(Tables, {"metrics": {}}) is None
    result = {"per_video": {"10": 1.0, "9": float("nan")}}
    assert video_table(Tables, result) == (["video", "AP"], [["9", None], ["10", 1.0]])


@pytest.fixture
def three(ledger, plan_values, add, tmp_path):
    """Done, given up, and planned again with rows of its first attempt."""
    add(ledger, plan_values([2, 3, 4]), tmp_path / "runs")
    claims = [ledger.claim(f"elsewhere:boot:1:{n}", 60) for n in range(3)]
    for claim in claims:
        ledger.record(claim, {line: json.dumps({"step": line}) for line in range(5)})
    ledger.finish(claims[0], {"metrics": {"AP": 1.0}})
    ledger.fail(claims[1], "boom", final=True)
    ledger.release(claims[2])
    return claims


def test_the_ledger_tells_what_ended_since_and_the_rows_of_an_attempt(ledger, three):
    ended = ledger.view.ended([NK])
    assert [(row["number"], row["state"], row["attempt"]) for row in ended] == [(1, "done", 1), (2, "gave_up", 1)]
    assert [row["number"] for row in ledger.view.ended(None, ended[1]["finished"])] == [2]
    assert ledger.view.ended([StudyKey("other", "smoke")]) == []
    again = ledger.claim("elsewhere:boot:1:9", 60)
    ledger.record(again, {0: '{"step": 0}', 1: '{"step": 1}'})
    assert list(ledger.view.metrics(again.cell_hash, attempt=2)) == [0, 1]
    assert list(ledger.view.metrics(again.cell_hash, after=1, limit=2)) == [2, 3]
    assert ledger.view.memberships(again.cell_hash) == [(NK, {"Nk": 4})]


def test_a_run_keeps_its_id_and_other_ledgers_have_others(ledger, three, plan_values, add, tmp_path):
    row = ledger.view.cell(1)
    ledger.retry()
    assert run_id(ledger.view.cell(1)) == run_id(row)
    assert run_id({**row, "created": row["created"] + 1}) != run_id(row)
    assert run_id(ledger.view.cell(2)) != run_id(row)


def test_waiting_are_the_ended_cells_without_a_complete_run(ledger, three, tmp_path):
    assert number_waiting(ledger.view, tmp_path, None) == 2
    notes = Notes(tmp_path)
    begin(notes, three[0].cell_hash)
    complete(notes, three[0].cell_hash, "offline-run-1")
    assert number_waiting(ledger.view, tmp_path, [NK]) == 1


@pytest.fixture
def fake_wandb(tmp_path, monkeypatch):
    """An executable in PATH that leaves its words in ``calls`` and then does what ``behave`` told it, in sh."""
    binary = tmp_path / "bin" / "wandb"
    binary.parent.mkdir()
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")

    def behave(script):
        binary.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)

    behave("exit 0")
    return behave


@pytest.fixture
def runs(tmp_path):
    """A W&B folder with complete runs a .. l, one that is not complete and one made online."""
    folder = tmp_path / "outputs" / "wandb"
    folder.mkdir(parents=True)
    notes = Notes(folder)
    for cell in "abcdefghijkl":
        (folder / f"offline-run-{cell}").mkdir()
        begin(notes, cell)
        complete(notes, cell, f"offline-run-{cell}")
    begin(notes, "open")
    begin(notes, "online")
    complete(notes, "online", "run-online", uploaded=True)
    return folder


def calls(tmp_path):
    return [line.split() for line in (tmp_path / "calls").read_text().splitlines()]


def test_complete_runs_are_uploaded_in_batches_and_once(runs, fake_wandb, tmp_path):
    told = []
    assert upload(runs, told=lambda n, total: told.append((n, total))) == 12
    assert told == [(10, 12), (12, 12)]
    first, second = calls(tmp_path)
    assert first == ["sync", *(str(runs / f"offline-run-{cell}") for cell in "abcdefghij")]
    assert second[1:] == [str(runs / "offline-run-k"), str(runs / "offline-run-l")]
    assert upload(runs) == 0
    assert len(calls(tmp_path)) == 2


def test_what_was_uploaded_before_a_failure_is_remembered(runs, fake_wandb, tmp_path):
    fake_wandb(
        f'[ $(wc -l < {tmp_path}/calls) = 1 ] && exit 0\necho "wandb: ERROR look"\necho "Error: No API key" >&2\nexit 1'
    )
    with pytest.raises(WorkbenchError, match=r"sync\.log: wandb sync failed: No API key\. Fix: log in") as caught:
        upload(runs)
    assert "\n" not in str(caught.value)
    assert list(Notes(runs).to_upload()) == ["k", "l"]
    fake_wandb("exit 0")
    assert upload(runs) == 2


def test_a_server_that_does_not_answer_costs_bounded_time(runs, fake_wandb):
    fake_wandb("sleep 600 & wait")
    started = time.monotonic()
    with pytest.raises(WorkbenchError, match=r"did not take 10 runs within 1 seconds\. Fix: check the network"):
        upload(runs, seconds_per_run=0.1)
    assert time.monotonic() - started < 5
    assert len(Notes(runs).to_upload()) == 12


def call(*words):
    result = CliRunner().invoke(app, ["sync", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_command_uploads_and_says_what_it_did(runs, fake_wandb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ledger("outputs/ledger.db")
    output = call("nk-smoke")
    assert "0 runs copied" in output
    assert "10 of 12 runs uploaded" in output
    assert output.endswith("12 runs uploaded\n")
    assert "uploaded" not in call("--no-upload")


def test_the_command_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"outputs/ledger\.db: there is no ledger"):
        call()
    Ledger("outputs/ledger.db")
    (tmp_path / "outputs" / "wandb").mkdir()
    with only_mirror(tmp_path / "outputs" / "wandb"):
        assert "a running sweep copies to" in call("--no-upload")
        with pytest.raises(StorageError, match="a running sweep mirrors to it"):
            call("--rebuild", "--no-upload")
