"""Weights & Biases as a mirror: a process of its own reads the run folders, so no training waits for it.

A training only writes its run folder. ``run_dir/wandb.json`` names the W&B run of a cell and whether it is
complete; what is complete is never mirrored again, what is not is dropped and built anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

from sweeps.database import Row
from sweeps.experiment import describe
from sweeps.ledger import Ledger
from sweeps.view import Keys, StudyKey, View
from sweeps.worker import STORAGE_VARIABLE
from syncvis.config import read_yaml
from syncvis.files import write_text

Mode = Literal["offline", "online", "disabled"]
PROJECT = "syncvis"
POLL_SECONDS = 2.0


class Mirror:
    """Copies cells of a ledger to W&B.

    Args:
        folder: ``outputs/wandb``; offline runs are ``folder/offline-run-*``.
        keys: the studies to mirror.
    """

    def __init__(self, view: View, folder: Path, mode: Mode, keys: Keys):
        prepare_environment(folder, mode)
        import wandb

        self._wandb: Any = wandb
        self._view, self._folder, self._mode, self._keys = view, folder, mode, keys
        self._open: dict[str, _Run] = {}

    def step(self) -> None:
        """Copy what is new in running cells, and complete the cells that are done."""
        for cell_hash, rows in self._cells().items():
            run_dir, state = Path(rows[0]["run_dir"]), rows[0]["state"]
            if not is_waiting(run_dir):
                continue
            if state in ("running", "done"):
                run = self._open.get(cell_hash) or self._start(cell_hash, rows)
                run.copy_rows(self._view)
            if state == "done":
                self._open.pop(cell_hash).complete(self._view.results([cell_hash])[cell_hash])

    def close(self) -> None:
        """End the runs whose cells are not done; they are built anew next time."""
        for run in self._open.values():
            run.abandon()

    def _cells(self) -> dict[str, list[Row]]:
        cells: dict[str, list[Row]] = {}
        for row in self._view.rows(self._keys):
            cells.setdefault(row["cell_hash"], []).append(row)
        return cells

    def _start(self, cell_hash: str, rows: list[Row]) -> _Run:
        run_dir = Path(rows[0]["run_dir"])
        run_id = _read_note(run_dir).get("id") or uuid.uuid4().hex[:12]
        for half_done in self._folder.glob(f"*run-*-{run_id}"):
            shutil.rmtree(half_done, ignore_errors=True)
        _write_note(run_dir, {"id": run_id, "mode": self._mode, "complete": False})
        studies = [f"{row['experiment']}-{row['scale']}" for row in rows]
        settings = self._wandb.Settings(
            x_save_requirements=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            disable_git=True,
            disable_code=True,
            console="off",
            silent=True,
        )
        run = self._wandb.init(
            project=PROJECT,
            dir=str(self._folder.parent),
            id=run_id,
            mode=self._mode,
            reinit="create_new",
            name=f"{describe(rows[0]['axes'])}, seed={rows[0]['seed']}",
            group=studies[0],
            tags=[*studies, f"seed {rows[0]['seed']}"],
            config={**read_yaml(run_dir / "config.yaml"), "cell_hash": cell_hash},
            settings=settings,
        )
        self._open[cell_hash] = _Run(run, cell_hash, run_dir, self._wandb.Image)
        return self._open[cell_hash]


class _Run:
    """One open W&B run and how far the ledger's rows of its cell have been copied."""

    def __init__(self, run: Any, cell_hash: str, run_dir: Path, image: Any):
        self._run, self._cell_hash, self._run_dir, self._image = run, cell_hash, run_dir, image
        self._line, self._last_step = -1, -1

    def copy_rows(self, view: View) -> None:
        """Log what is new. A resumed training says its last lines again: W&B has them."""
        for line, row in view.metrics(self._cell_hash, self._line).items():
            self._line, self._last_step = line, row.pop("step")
            self._run.log(row, step=self._last_step)

    def complete(self, result: Row) -> None:
        overlays = sorted((self._run_dir / "overlays").glob("*.png"))
        if overlays:
            images = [self._image(str(path), caption=path.stem) for path in overlays]
            self._run.log({"overlays": images}, step=max(self._last_step, result["steps"]))
        facts = {name: result.get(name) for name in ("commit", "dirty", "environment", "data_fingerprint")}
        self._run.config.update(facts, allow_val_change=True)
        self._run.summary.update({**result["metrics"], "seconds": result["seconds"]})
        self._run.finish()
        _write_note(self._run_dir, {**_read_note(self._run_dir), "complete": True})

    def abandon(self) -> None:
        self._run.finish(exit_code=1)


def is_mirrored(run_dir: Path) -> bool:
    """Whether W&B has all of this run."""
    return bool(_read_note(run_dir).get("complete"))


def is_waiting(run_dir: Path) -> bool:
    """Whether there is a run folder that W&B does not have."""
    return (run_dir / "config.yaml").exists() and not is_mirrored(run_dir)


def prepare_environment(folder: Path, mode: Mode) -> None:
    """Keep wandb inside ``folder`` and from reporting home; to be called before wandb is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"WANDB_CACHE_DIR": "cache", "WANDB_DATA_DIR": "data", "WANDB_ARTIFACT_DIR": "artifacts"}
    if mode == "offline":  # online, the user's own folder holds the server's address
        own["WANDB_CONFIG_DIR"] = "config"
    os.environ.update({name: str(folder / ".local" / place) for name, place in own.items()})
    os.environ.update({"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"})


def start_mirror(storage: str, folder: Path, mode: Mode, keys: Sequence[StudyKey]) -> subprocess.Popen[bytes]:
    """Start the mirror in a process of its own; once its stdin is closed, it copies what is left and ends."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sweeps.tracking", str(folder), "--mode", mode]
    command += ["--studies", *(key.name for key in keys)]
    environment = {**os.environ, STORAGE_VARIABLE: storage}
    with (folder / "mirror.log").open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, process_group=0
        )


def end_mirror(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Let the mirror copy what is left, for at most some seconds."""
    with contextlib.suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the service process that wandb starts
        process.wait()


def _read_note(run_dir: Path) -> Row:
    try:
        note = json.loads((run_dir / "wandb.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(run_dir: Path, note: Row) -> None:
    write_text(run_dir / "wandb.json", json.dumps(note))


def _closed(stream: IO[str]) -> threading.Event:
    """Set once the stream ends, which it also does when the process at its other end dies."""
    event = threading.Event()

    def wait_for_end() -> None:
        stream.read()
        event.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    return event


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.tracking", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mode", choices=("offline", "online"), default="offline")
    parser.add_argument("--studies", nargs="+", required=True, help="names such as nk-small")
    options = parser.parse_args(arguments)
    closed = _closed(sys.stdin)
    view = Ledger(os.environ[STORAGE_VARIABLE]).view
    mirror = Mirror(view, options.folder, options.mode, [StudyKey.parse(name) for name in options.studies])
    while True:
        last_time = closed.is_set()
        mirror.step()
        if last_time:
            break
        closed.wait(POLL_SECONDS)
    mirror.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
