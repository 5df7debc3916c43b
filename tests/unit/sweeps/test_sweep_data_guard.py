"""Numbers from different data must not stand in one table unnoticed."""

from __future__ import annotations

import hashlib
import json

import pytest
from cells import NK, finish

from sweeps.data_guard import (
    changed_data,
    data_fingerprint,
    file_fingerprint,
    refuse_changed_data,
)
from sweeps.experiment import load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError


@pytest.fixture
def done(plan_values, add, tmp_path, monkeypatch):
    """Cells over data/train.json and data/valid.json, of which two are done with the fingerprints given."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / "ledger.db")
    add(ledger, plan_values([2, 4, 6]))
    (tmp_path / "data").mkdir()

    def finish_two(first, second):
        finish(ledger, data_fingerprint=first)
        finish(ledger, data_fingerprint=second)
        return ledger.view

    return finish_two


@pytest.fixture
def train_and_valid(done, tmp_path):
    (tmp_path / "data" / "train.json").write_text("train")
    (tmp_path / "data" / "valid.json").write_text("valid")
    return [file_fingerprint(tmp_path / "data" / f"{name}.json") for name in ("train", "valid")]


def test_fingerprints_are_those_of_the_training(tiny_data):
    parts = [VideoDataset.load(tiny_data, name).fingerprint for name in ("train.json", "valid.json", "test.json")]
    mix = [{"root": str(tiny_data), "train": "test.json"}]
    data = {"root": str(tiny_data), "train": "train.json", "valid": "valid.json", "mix": mix}
    assert data_fingerprint(data) == "-".join(parts)
    assert data_fingerprint(data | {"valid": "none.json"}) is None


def test_the_same_data_is_fine(done, train_and_valid):
    assert changed_data(done("-".join(train_and_valid), "-".join(train_and_valid)), [NK]) == []


def test_data_that_is_not_here_is_fine_if_all_cells_saw_the_same(done):
    assert changed_data(done("a-b", "a-b"), [NK]) == []


def test_cells_that_saw_different_data_are_named(done):
    view = done("a-b", "a-c")
    assert changed_data(view, [NK]) == ["data/valid.json: 1 done cells saw content b and 1 done cells saw content c"]
    assert changed_data(view, [StudyKey("other", "smoke")]) == []


def test_a_file_that_has_changed_since_is_named_with_the_way_out(done, train_and_valid, tmp_path):
    view = done("-".join(train_and_valid), "-".join(train_and_valid))
    (tmp_path / "data" / "train.json").write_text("another")
    now = file_fingerprint(tmp_path / "data" / "train.json")
    wanted = f"data/train.json: 2 done cells saw content {train_and_valid[0]}, it is {now} now"
    assert changed_data(view, [NK]) == [wanted]
    with pytest.raises(DataError) as error:
        refuse_changed_data(view, [NK])
    fix = "put the old file back, or start anew with another --out (or --storage)"
    assert str(error.value) == f"{wanted}. Fix: {fix}"


def test_files_of_a_mix_are_compared_too(write_experiment, add, tmp_path):
    mix = [{"root": "more", "train": "a.json"}, {"root": "more", "train": "b.json"}]
    base = {"data": {"root": "data", "mix": mix}, "train": {"steps": 2}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    ledger = Ledger(tmp_path / "ledger.db")
    add(ledger, plan_cells(load_experiment(write_experiment()), "smoke"))
    finish(ledger, data_fingerprint="t-v-a-b")
    finish(ledger, data_fingerprint="t-v-a-x")
    assert changed_data(ledger.view) == ["more/b.json: 1 done cells saw content b and 1 done cells saw content x"]


def test_initial_weights_are_compared_like_data(write_experiment, add, tmp_path):
    start = tmp_path / "start.safetensors"
    base = {"data": {"root": "data"}, "train": {"steps": 2, "init": str(start)}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    ledger = Ledger(tmp_path / "ledger.db")
    add(ledger, plan_cells(load_experiment(write_experiment()), "smoke"))
    start.write_bytes(b"weights")
    seen = hashlib.sha256(b"weights").hexdigest()[:16]
    for _ in range(2):
        finish(ledger, init_fingerprint=seen)
    finish(ledger, init_fingerprint=None)  # of a version that did not record it
    assert changed_data(ledger.view, [NK]) == []
    start.write_bytes(b"other weights")
    now = hashlib.sha256(b"other weights").hexdigest()[:16]
    assert changed_data(ledger.view, [NK]) == [f"{start}: 2 done cells saw content {seen}, it is {now} now"]


def test_class_name_embeddings_are_compared_like_data(write_experiment, add, tmp_path):
    text = tmp_path / "text.safetensors"
    base = {"data": {"root": "data"}, "train": {"steps": 2}, "method": {"name": "tmt_vis", "text": str(text)}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    ledger = Ledger(tmp_path / "ledger.db")
    add(ledger, plan_cells(load_experiment(write_experiment()), "smoke"))
    text.write_bytes(b"rows")
    seen = file_fingerprint(text)
    finish(ledger, text_fingerprint=seen)
    finish(ledger, text_fingerprint=None)
    assert changed_data(ledger.view, [NK]) == []
    text.write_bytes(b"other rows")
    assert changed_data(ledger.view, [NK]) == [
        f"{text}: 1 done cells saw content {seen}, it is {file_fingerprint(text)} now"
    ]
