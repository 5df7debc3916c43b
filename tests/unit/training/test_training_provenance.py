"""Where a number comes from, and what must never be told."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from syncvis.source import code_fingerprint
from syncvis.training import provenance as module
from syncvis.training.command import public_command
from syncvis.training.provenance import provenance
from syncvis.training.runtime import Runtime

CANARY = "c4n4ry"
HOME = "/" + "home/someone"
FOLDER = "/" + "data/secret-project"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["/usr/bin/syncvis", "train", "experiments/base/smoke.yaml"], "syncvis train experiments/base/smoke.yaml"),
        ([f"--api-key={CANARY}", "seed=1"], "--api-key=*** seed=1"),
        (["--wandb-token", CANARY, "--threads", "2"], "--wandb-token *** --threads 2"),
        (["--password", "--quiet"], "--password --quiet"),
        ([f"wandb.api_key={CANARY}"], "wandb.api_key=***"),
        ([f"postgresql://me:{CANARY}@db.example/ledger"], "postgresql://***"),
        ([f"--ledger=postgresql+psycopg://me:{CANARY}@db/x?a=b"], "--ledger=postgresql+psycopg://***"),
        ([f"host=db user=me password={CANARY} port=1"], "host=db user=me password=*** port=1"),
        ([f"{HOME}/my runs/a.yaml"], "a.yaml"),
        ([f"data.root={FOLDER}/ytvis"], "data.root=ytvis"),
        ([f"a=[{FOLDER}/x,{HOME}/y]"], "a=[x,y]"),
        (["~/runs/a", "~someone/b", "../../someone/c", "--out=../d"], "a b c --out=d"),
        (["train.lr=1e-4", "data.videos=[1,2]", "a/b.yaml", "1/2"], "train.lr=1e-4 data.videos=[1,2] a/b.yaml 1/2"),
    ],
)
def test_words_of_a_command(words: list[str], wanted: str) -> None:
    assert " ".join(public_command(words, {})) == wanted


def test_secrets_of_the_environment_are_known_by_their_values() -> None:
    environ = {"WANDB_API_KEY": f"{CANARY}-1", "DB_PASSWORD": f"{CANARY}-12", "HOME": HOME, "PAGER": "lesslessless"}
    words = ["--note", f"x{CANARY}-12y", f"{CANARY}-1", f"see:{HOME}:", "lesslessless"]
    assert public_command(words, environ) == ["--note", "x***y", "***", "see:***:", "lesslessless"]


def test_the_name_of_this_host_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-node-17")
    assert public_command(["out=run-gpu-node-17"], {}) == ["out=run-***"]


def test_no_canary_of_environment_and_command_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "SOMETHING_ELSE"):
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.setenv("HOME", f"{HOME}-{CANARY}")
    argv = [f"{HOME}/{CANARY}/bin/syncvis", f"--token={CANARY}", "--key", CANARY, f"out={HOME}-{CANARY}/run"]
    monkeypatch.setattr(sys, "argv", [*argv, f"x{CANARY}-PGPASSWORD"])
    monkeypatch.setattr(socket, "gethostname", lambda: f"host-{CANARY}")
    text = json.dumps(provenance(Runtime(), torch.device("cpu")))
    assert CANARY not in text
    assert "someone" not in text
    assert '"syncvis", "--token=***", "--key", "***", "out=run"' in text
    assert os.path.expanduser("~") not in text


def test_what_it_holds() -> None:
    runtime = Runtime(threads=3, deterministic=True, loader_workers=2, checkpoint_activations=True)
    found = provenance(runtime, torch.device("cpu"))
    state = {"commit", "dirty", "diff", "source", "changed", "left_out", "plugins", "workbench"}
    assert set(found) == {*state, "command", "environment"}
    assert found["dirty"] == (found["diff"] is not None)
    assert found["source"] == code_fingerprint(Path(module.__file__).parents[2])
    environment = found["environment"]
    assert environment["torch"] == torch.__version__ or environment["torch"] in torch.__version__
    assert (environment["threads"], environment["processes"], environment["deterministic"]) == ("3", "1", "true")
    assert (environment["loader_workers"], environment["checkpoint_activations"]) == ("2", "true")
    assert int(environment["cores"]) == os.cpu_count()
    assert int(environment["memory"].split()[0]) >= 1
    assert {"python", "platform", "cpu", "device", "numpy", "scipy", "pycocotools", "pillow", "av"} <= set(environment)
    assert all(isinstance(value, str) and value for value in environment.values())


def test_a_package_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package"))
    assert "no-such-package" not in module.environment(Runtime(), torch.device("cpu"))


def test_of_a_gpu_its_name_and_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    (tmp_path / "version").write_text(line)
    first = module._first
    monkeypatch.setattr(module, "_first", lambda path, pattern: first(tmp_path / path.name, pattern))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    found = module._accelerator(torch.device("cuda"))
    assert (found["device"], found["driver"]) == ("a GPU", "550.54.15")
    assert set(found) == {"device", "driver", "cuda", "cudnn"}
