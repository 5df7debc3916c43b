"""One W&B run: the mirror of one attempt of a cell."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.database import Row
from sweeps.tracking.environment import project
from sweeps.tracking.media import IDENTITY, pictures, video_table
from sweeps.tracking.public import Public
from sweeps.tracking.wandb_file import steps_and_end

FINISH_SECONDS = 2.0
FACTS = (
    *("commit", "dirty", "diff", "source", "environment"),
    *("data_fingerprint", "init_fingerprint", "text_fingerprint"),
    *("parameters", "peak_memory_mb"),
)
EXIT_CODES = {"done": 0, "pruned": 0, "gave_up": 1}


class IncompleteError(Exception):
    """What wandb wrote lacks something."""


@dataclass(frozen=True)
class Birth:
    """What a W&B run is begun with.

    Attributes:
        folder: ``outputs/wandb``.
        run: the W&B id.
        row: the cell's columns, of which only the config is shown.
        studies: names such as nk-small; the first is the group.
    """

    folder: Path
    mode: str
    run: str
    row: Row
    name: str
    studies: Sequence[str]
    config: Mapping[str, Any]

    @property
    def tags(self) -> list[str]:
        return [tag[:64] for tag in (*self.studies, f"seed {self.row['seed']}")]

    def init(self, wandb: Any) -> Any:
        return wandb.init(
            project=project(),
            dir=str(self.folder.parent),
            id=self.run,
            mode=self.mode,
            reinit="create_new",
            job_type="trial",
            name=self.name[:128],
            group=self.studies[0] if self.studies else None,
            tags=self.tags,
            config=dict(self.config),
            settings=_settings(wandb, 20 if self.mode == "online" else 10),
        )


@dataclass
class WandbRun:
    """An open run, and how far the ledger's rows of its cell have been copied."""

    wandb: Any
    birth: Birth
    public: Public
    line: int = -1
    steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._run = self.birth.init(self.wandb)

    @property
    def attempt(self) -> int:
        return int(self.birth.row["attempt"])

    @property
    def step(self) -> int:
        return self.steps[-1] if self.steps else 0

    def log(self, line: int, row: Row) -> None:
        """Copy one row of the ledger; wandb would drop one whose step is below the last."""
        self.line = line
        self._log(row.pop("step", self.step), row)

    def complete(self, row: Row, result: Row | None, weights: bool = False) -> str:
        """Add what is known of the ended cell, end the run and read it back; returns the name of its folder.

        Raises:
            IncompleteError: wandb has not written all of it.
        """
        run = self._run
        run.config.update({"state": row["state"], "attempt": row["attempt"]}, allow_val_change=True)
        run.summary.update(self._summary(row, result or {}))
        if row["state"] != "done":
            run.tags = (*run.tags, row["state"].replace("_", " "))
        if result is not None:
            self._add_result(result, Path(row["run_dir"]), weights)
        run.finish(exit_code=EXIT_CODES[row["state"]])
        self._read_back(EXIT_CODES[row["state"]])
        return self._tidy()

    def abandon(self) -> None:
        """End the run of a cell that has not ended; it is built anew next time."""
        self._run.finish(exit_code=1)

    def _log(self, step: int, row: Mapping[str, Any]) -> None:
        step = max(step, self.step)
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
        self._run.log(dict(row), step=step)

    def _summary(self, row: Row, result: Row) -> Row:
        counts = {name: row[name] for name in ("number", "attempt", "failures", "deaths")}
        reason = {"reason": self.public.text(row["error"])} if row["error"] else {}
        identity = result.get("tracking") or {}
        confusion = {f"identity/{name}": identity[name] for name in IDENTITY if name in identity}
        numbers = {**result.get("metrics", {}), **confusion}
        times = {"seconds": result["seconds"]} if "seconds" in result else {}
        return {"state": row["state"], "trial": counts, **reason, **numbers, **times}

    def _add_result(self, result: Row, run_dir: Path, weights: bool) -> None:
        facts = {name: self.public.tree(result[name]) for name in FACTS if name in result}
        self._run.config.update(facts, allow_val_change=True)
        step = max(self.step, result.get("steps", 0))
        shown = pictures(self.wandb, run_dir / "overlays")
        table = video_table(self.wandb, result)
        if table is not None:
            # Bound by hand it is a file of the run; otherwise wandb makes an artifact, whose record names folders.
            table.bind_to_run(self._run, "per_video", step)
        media = {**({"overlays": shown} if shown else {}), **({"per_video": table} if table is not None else {})}
        if media:
            self._log(step, media)
        if weights and (run_dir / "model.safetensors").exists():
            self._refer_to(run_dir / "model.safetensors")

    def _refer_to(self, weights: Path) -> None:
        """An artifact that names the weights by run, not by place, and copies nothing."""
        artifact = self.wandb.Artifact(f"model-{self.birth.run}", "model", metadata={"bytes": weights.stat().st_size})
        artifact.add_reference(f"syncvis:{weights.parent.name}/{weights.name}", weights.name, checksum=False)
        self._run.log_artifact(artifact)

    def _read_back(self, code: int) -> None:
        """wandb says nothing when its service died or the disk is full, so the file itself is asked."""
        deadline = time.monotonic() + FINISH_SECONDS
        while (found := self._found())[1] is None and time.monotonic() < deadline:
            time.sleep(0.01)  # the end of the file comes a little after that of the run
        steps, end = found
        if found != (self.steps, code):
            raise IncompleteError(f"{self._file}: {len(steps)} of {len(self.steps)} steps, exit code {end}")

    def _found(self) -> tuple[list[int], int | None]:
        try:
            return steps_and_end(self._file)
        except OSError:
            return [], None

    @property
    def _file(self) -> Path:
        return Path(self._run.settings.sync_file)

    def _tidy(self) -> str:
        """Remove wandb's own logs, which name folders and hosts."""
        folder = self._file.parent
        for name in ("logs", "tmp"):
            shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            (folder / "requirements.txt").unlink()
        return folder.name


def _settings(wandb: Any, init_seconds: int) -> Any:
    """Nothing about the machine, and nothing that costs time in a start."""
    return wandb.Settings(
        x_save_requirements=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_viewer=True,
        x_transaction_log_flush_interval=1,
        allow_offline_artifacts=False,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        symlink=False,
        host="",
        init_timeout=init_seconds,
        console="off",
        silent=True,
    )
