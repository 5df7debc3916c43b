"""From an empty folder to the report at the scale of the paper, by the commands of the documentation alone.

A made-up miniature stands for the data and the weights, a run config that shrinks a recipe for the GPUs, and two gloo
processes for the ranks of a trial; what they read, plan, train and report is that of Table 8.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from miniature import names_of_classes, write_miniature, write_weights

from sweeps.ledger import Ledger
from sweeps.view import StudyKey, View
from syncvis.config import load_config
from syncvis.errors import Interrupted

REPOSITORY = Path(__file__).resolve().parents[2]
NK, TS = StudyKey("nk@mini", "paper"), StudyKey("ts@mini", "paper")
POINTS = {NK: ("Nk", [2, 5, 10, 20, 50, 100]), TS: ("Ts", [1, 2, 3, 4, 5])}
SMALL = """
base: ../experiments/recipes/{recipe}.yaml
data: {{frames: 6, short_side: [32, 48], max_size: 96, crop: {{short_side: [40, 56], size: [32, 48]}},
  test_short_side: 32, test_max_size: 96}}
model:
  hidden_dim: 32
  mask_dim: 16
  backbone: {{name: resnet50, width: 8}}
  pixel_decoder: {{layers: 1, heads: 2, points: 2, ffn_dim: 32}}
  decoder: {{layers: 3, heads: 2, ffn_dim: 32}}
criterion: {{points: 64}}
train: {{steps: 20, batch_size: 2, precision: float32, milestones: [15], init: weights/{name}.safetensors, log_every: 1,
  checkpoint_every: 5}}
"""
"""A run config of one's own: the recipe, with a model that a CPU trains in seconds."""
VITA = """
method: {clip_queries: 6, heads: 2, ffn_dim: 32, encoder_layers: 1, decoder_layers: 1, window: 3, branches: 1}
"""


class Place:
    """An empty home folder, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        shutil.copytree(REPOSITORY / "experiments", folder / "experiments")
        for name in ("nk", "ts"):  # one seed each, as whoever looks first would choose
            file = folder / "experiments" / f"{name}.yaml"
            text = file.read_text().replace("paper: [0, 1, 2]}", "paper: [0]}")
            assert "paper: [0]" in text
            file.write_text(text)
        (folder / "own").mkdir()
        for name, (recipe, _) in OWN.items():
            text = SMALL.format(recipe=recipe, name=name) + (VITA if "vita" in recipe else "")
            (folder / "own" / f"{name}.yaml").write_text(text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "syncvis", *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **streams)

    def __call__(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output


OWN = {
    "mini": ("syncvis_vita_ytvis_2019_r50", "published/vita_r50_coco.pth"),
    "mini_ovis": ("syncvis_ovis_r50", "published/model_final_3c8ec9.pkl"),
}
"""Run config -> the recipe below it, and the file that its publisher has."""
PLAN = ("sweep", "plan", "nk", "ts", "--scale", "paper", "--on", "own/mini.yaml", "--on", "own/mini_ovis.yaml")
RUN = ("sweep", "run", "nk", "ts", "--scale", "paper", "--on", "own/mini.yaml", "--processes-per-trial", "2")


@pytest.mark.slow
def test_table_8_from_an_empty_folder_to_the_report(tmp_path: Path) -> None:
    place = Place(tmp_path)
    _plan_without_anything(place)
    _get_data_and_weights(place)
    _plan(place)
    _rehearse(place)
    view = _run_interrupted(place)
    _check_cells(place, view)
    _compare_with_an_undisturbed_run(place, view)
    _report(place)


def _plan_without_anything(place: Place) -> None:
    output = place(*PLAN)
    assert "missing on this machine" in output
    for missing in ("data/ytvis_2019/train", "data/ovis/train", "data/coco", *(f"weights/{name}" for name in OWN)):
        assert missing in output


def _get_data_and_weights(place: Place) -> None:
    """What the publishers have, where the recipes look for it; then what is made of it here."""
    write_miniature(place.folder / "data", videos=12)
    for name, (_, published) in OWN.items():
        write_weights(place.folder / published, load_config(place.folder / "own" / f"{name}.yaml"))
        place("weights", "import", published, f"own/{name}.yaml", "--out", f"weights/{name}.safetensors")
    place("data", "split", "data/ytvis_2019/train", "--split", "../train.json")
    place("data", "split", "data/ovis/train", "--split", "../annotations_train.json")


def _plan(place: Place) -> None:
    output = place(*PLAN)
    lacking = [line for line in output.partition("missing on this machine:")[2].splitlines() if line[:3].strip()]
    assert all(line.startswith("  GPUs: ") for line in lacking), output
    for name, cells in (("nk@mini", 6), ("ts@mini", 5), ("nk@mini_ovis", 6), ("ts@mini_ovis", 5)):
        (line,) = (line for line in output.splitlines() if line.split()[:1] == [f"{name}-paper"])
        assert line.split()[1] == str(cells)


def _rehearse(place: Place) -> None:
    words = ("sweep", "run", "ts", "--scale", "paper", "--on", "own/mini_ovis.yaml", "--rehearse", "--workers", "2")
    assert "ts@mini_ovis-paper: 5 of 5 points ok" in place(*words)
    assert not (place.folder / "outputs" / "ledger.db").exists()


def _run_interrupted(place: Place) -> View:
    """Ctrl-C as soon as a trial has taken a step, as often as it takes for one to be in the middle; then to the end."""
    file = place.folder / "outputs" / "ledger.db"
    for _ in range(5):
        process = place.start(*RUN, "--workers", "1")
        while not (file.exists() and _steps_of_running(Ledger(file).view)):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == Interrupted.exit_code, output
        assert "run the same command again to continue" in output
        view = Ledger(file).view
        if any(row["outcome"] == "released" for row in view.attempts()):
            break
    place(*RUN, "--workers", "1")
    return view


def _steps_of_running(view: View) -> int:
    return max((view.latest(row["cell_hash"])[0] for row in view.cells(None, ["running"])), default=0)


def _check_cells(place: Place, view: View) -> None:
    """Each cell is done once, and the interrupted one went on where it was."""
    for key, (axis, values) in POINTS.items():
        rows = view.rows([key])
        assert [row["axes"][axis] for row in rows] == values
        assert {row["state"] for row in rows} == {"done"}
    split = json.loads((place.folder / "data/ytvis_2019/train/valid_split.json").read_text())
    valid, results = {str(video["id"]) for video in split["videos"]}, view.results()
    assert len(results) == 10  # Nk = 10 and Ts = 2 are one cell
    outcomes: dict[str, list[str]] = {}
    for attempt in view.attempts():
        outcomes.setdefault(attempt["cell_hash"], []).append(attempt["outcome"])
    counts = Counter(map(tuple, outcomes.values()))
    assert counts.keys() == {("done",), ("released", "done")}
    assert counts["released", "done"] >= 1
    for cell_hash, result in results.items():
        steps = [row["step"] for row in view.metrics(cell_hash).values()]
        assert steps == [*range(1, 21), 20]
        assert result["per_category"].keys() <= set(names_of_classes("ytvis_2019"))
        assert result["per_video"].keys() == valid


def _compare_with_an_undisturbed_run(place: Place, view: View) -> None:
    """The interrupted cell alone, elsewhere: the same bits."""
    cell_hash = next(row["cell_hash"] for row in view.attempts() if row["outcome"] == "released")
    (row,) = (
        row for row in view.rows([NK, TS]) if row["cell_hash"] == cell_hash and row["experiment"] == NK.experiment
    )
    text = (place.folder / "experiments" / "nk.yaml").read_text()
    (place.folder / "one").mkdir()
    (place.folder / "one" / "nk.yaml").write_text(text.replace("[2, 5, 10, 20, 50, 100]", f"[{row['axes']['Nk']}]"))
    place(
        *(word if word != "nk" else "one/nk.yaml" for word in RUN if word != "ts"), "--workers", "1", "--out", "other"
    )
    other = Ledger(place.folder / "other" / "ledger.db").view
    assert list(other.results()) == [cell_hash]
    before, after = (one.results()[cell_hash] for one in (view, other))
    for part in ("metrics", "per_category", "per_video"):
        assert before[part] == after[part]
    assert _losses(view, cell_hash) == _losses(other, cell_hash)


def _losses(view: View, cell_hash: str) -> list[dict[str, float]]:
    rows = view.metrics(cell_hash).values()
    return [{name: value for name, value in row.items() if not name.startswith("system/")} for row in rows]


def _report(place: Place) -> None:
    place("report", "nk", "ts")
    tables = place.folder / "outputs" / "report" / "tables"
    for key, (axis, values) in POINTS.items():
        (file,) = tables.glob(f"{key.id}*.csv")
        rows = [row for row in csv.DictReader(file.read_text().splitlines()) if row["metric"] == "AP"]
        assert [(row["experiment"], row[axis], row["n"]) for row in rows] == [
            (key.experiment, str(v), "1") for v in values
        ]
    page = (tables.parent / "index.html").read_text()
    assert "values are not known; 10 is that of the released code" in page  # the note of the axis
