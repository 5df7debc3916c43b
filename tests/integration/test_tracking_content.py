"""What W&B has of trials that ended in each way, read back from its files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from trials import RESULT, Trials, row_of, write_pictures
from wandb_runs import WrittenRun, merged, read_runs

CANARIES = {
    "MY_API_TOKEN": "canary-token-71",
    "WANDB_API_KEY": "canary0key" * 4,
    "WANDB_NOTES": "canary-notes",
    "USER": "canaryuser",
    "CANARY_ANY": "canary-any-31",
}
ROOT = "/canary-place/canary-token-71/ytvis"


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """1: done by its second attempt; 2: pruned; 3: given up; 4: planned."""
    folder = tmp_path_factory.mktemp("canary-folder")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CANARIES, "HOME": str(folder / "canary-home")}.items():
            patch.setenv(name, value)
        made = Trials(folder, 4, ROOT)
        first = made.claim(9)
        made.ledger.release(first)
        second = made.claim(0)
        made.record(second, 10, scale=2.0)
        write_pictures(second.run_dir / "overlays")
        made.finish(second, environment={"where": ROOT, "user": "canaryuser"})
        made.ledger.prune(made.claim(6), "below the median of step 2")
        made.ledger.fail(made.claim(5), f"{folder}/runs/3/train.json: no videos for canaryuser", final=True)
        made.mirror_all()
        yield made


@pytest.fixture(scope="module")
def runs(trials: Trials) -> dict[int, WrittenRun]:
    return trials.assert_mirrored(3)


def test_a_trial_of_two_attempts_has_the_rows_of_the_ledger_once(runs):
    assert runs[1].rows() == merged(row_of(line, 2.0) for line in range(10))
    assert runs[1].exit_code == 0
    assert (runs[1].name, runs[1].group, runs[1].job_type) == ("Nk=1, seed=0", "nk-smoke", "trial")
    assert runs[1].tags == ["nk-smoke", "seed 0"]
    config = runs[1].config
    assert (config["sync"]["num_selected"], config["seed"], config["data"]["root"]) == (1, 0, "ytvis")
    assert (config["commit"], config["state"], config["attempt"]) == ("c0ffee", "done", 2)
    summary = runs[1].summary
    assert {name: summary[name] for name in RESULT["metrics"]} == RESULT["metrics"]
    assert (summary["identity/switches"], summary["identity/purity"], summary["state"]) == (1.0, 0.5, "done")


def test_pruned_and_given_up_trials_end_as_such(runs):
    assert (runs[2].exit_code, runs[2].tags[-1], runs[2].summary["state"]) == (0, "pruned", "pruned")
    assert runs[2].summary["reason"] == "below the median of step 2"
    assert (runs[3].exit_code, runs[3].tags[-1], runs[3].summary["state"]) == (1, "gave up", "gave_up")
    assert runs[3].summary["reason"] == "train.json: no videos for ***"
    assert runs[3].rows() == merged(row_of(line) for line in range(5))


def test_masks_lie_over_the_frame_and_a_picture_stands_in_for_damaged_ones(runs):
    (row,) = [row for row in runs[1].history if "overlays._type" in row]
    assert row["overlays.captions"] == ["1", "2", "3"]
    masked = row["overlays.all_masks"]
    assert [sorted(masks or {}) for masks in masked] == [["prediction", "truth"], [], []]
    for path in [*row["overlays.filenames"], masked[0]["truth"]["path"]]:
        assert (runs[1].folder / "files" / path).exists()


def test_the_table_has_each_video_with_its_identities(runs):
    (row,) = [row for row in runs[1].history if "per_video.path" in row]
    table = json.loads((runs[1].folder / "files" / row["per_video.path"]).read_text())
    assert table["columns"] == ["video", "AP", "switches", "purity", "coverage", "lost"]
    assert table["data"] == [["2", 30.0, 1.0, 0.5, 0.75, 0.25], ["3", *[None] * 5], ["10", 50.0, *[None] * 4]]


def test_nothing_private_is_in_what_wandb_wrote(trials, runs):
    files = [path for path in trials.wandb.rglob("*") if path.is_file() and ".local" not in path.parts]
    content = b"\n".join(path.read_bytes() + str(path.relative_to(trials.wandb)).encode() for path in files)
    assert b"num_selected" in content
    assert b"canary" not in content
    assert all(run.host == "" for run in runs.values())
    staged = [path for path in (trials.wandb / ".local").rglob("*") if path.is_file()]
    assert not any(value.encode() in path.read_bytes() for path in staged for value in CANARIES.values())


def test_wandbs_own_reader_sees_the_same(trials, runs):
    import wandb

    core = Path(wandb.__file__).parent / "bin" / "wandb-core"
    file = next(runs[1].folder.glob("*.wandb"))
    words = [str(core), "leet", "inspect", "-json", "-no-observability", "-run-file", str(file)]
    environment = {**os.environ, "WANDB_CACHE_DIR": str(trials.out / "cache")}
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout
    records = [json.loads(line) for line in told.splitlines()]
    assert [r["history"]["step"]["num"] for r in records if r["type"] == "history"] == runs[1].steps
    assert [r["exit"]["exit_code"] for r in records if r["type"] == "exit"] == [0]


def test_a_second_time_nothing_is_done_and_a_retried_trial_is_mirrored_again(trials, runs):
    before = sorted(path.name for path in trials.wandb.glob("offline-run-*"))
    trials.mirror_all()
    assert sorted(path.name for path in trials.wandb.glob("offline-run-*")) == before
    trials.ledger.retry()
    trials.finish(trials.claim(10))
    assert trials.waiting() == 1
    trials.mirror_all()
    again = trials.assert_mirrored(3)
    assert (again[3].summary["state"], again[3].exit_code) == ("done", 0)
    assert {n: run.folder for n, run in again.items() if n != 3} == {n: r.folder for n, r in runs.items() if n != 3}


def test_without_its_folder_the_same_runs_are_made_again(trials):
    before = read_runs(trials.wandb)
    trials.wandb.rename(trials.out / "old")
    trials.mirror_all()
    after = trials.assert_mirrored(3)
    assert {n: run.folder.name[-12:] for n, run in after.items()} == {
        n: run.folder.name[-12:] for n, run in before.items()
    }
