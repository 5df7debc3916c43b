"""Time of a whole training step, loading included: unfrozen, with a frozen encoder, and with its features in a cache.

    python tests/benchmarks/frozen_steps.py [--old TREE] [--rounds 5]

``--old`` is a source tree of another commit, whose unfrozen step is measured in turn with the others. Sizes are those
of experiments/base/small.yaml. Each kind is a process of its own with one thread, all take the same steps in turn, and
a time is the least of all rounds, in milliseconds of the processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = "experiments/base/small.yaml"
SYSTEMS = {"Mask2Former-VIS": ["method.structure=video_only", "sync=null", "subclips=null"], "SyncVIS": []}
KINDS = {"unfrozen": "", "frozen": "train.trained=[decoder]", "warm": "train.trained=[decoder]"}
BATCHES = 3
"""Different batches, taken in turn."""


def write_data(root: Path) -> None:
    from syncvis.data.synthetic import SyntheticConfig, write_synthetic

    write_synthetic(root, SyntheticConfig(train=8, valid=1, test=1, stills=0), 0)


def worker(kind: str, root: str, cache: str, overrides: list[str]) -> None:
    """Take a step for every line of the input, and print its seconds; the tree is the first of ``sys.path``."""
    import torch

    from syncvis.config import load_config
    from syncvis.data.loader import TrainClips
    from syncvis.data.ytvis import VideoDataset
    from syncvis.methods import build
    from syncvis.training.step import TrainingStep

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config(SMALL, [f"data.root={root}", "train.init=null", "train.steps=1000", *overrides])
    dataset, device = VideoDataset.load(Path(root), config.data.train), torch.device("cpu")
    model = build(config, len(dataset.categories)).train()
    clips = TrainClips(dataset, config.data, config.train.batch_size, config.seed)
    if kind == "warm":
        from syncvis.training.features import open_cache
        from syncvis.training.run import Runtime

        assert open_cache(model, config, Runtime(feature_cache=cache), device) is not None
        clips.digests = True
    take = TrainingStep(model, config, device)
    for line in sys.stdin:
        step = int(line)
        started = time.process_time()
        take(step, [clips.batch(step)])
        print(time.process_time() - started, flush=True)


@contextmanager
def started(kind: str, tree: Path, root: Path, cache: Path, overrides: list[str]) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, __file__, "--worker", kind, str(root), str(cache), *filter(None, overrides)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()  # type: ignore[union-attr]


def step_seconds(system: str, rounds: int, root: Path, cache: Path, old: Path | None = None) -> dict[str, float]:
    """Least seconds of a step by kind; the first round fills the cache and counts for nothing."""
    trees = {"old": old, **dict.fromkeys(KINDS, ROOT)}
    found: dict[str, list[float]] = {kind: [] for kind, tree in trees.items() if tree is not None}
    with ExitStack() as stack:
        workers = {
            kind: stack.enter_context(
                started(kind, trees[kind] or ROOT, root, cache, [*SYSTEMS[system], KINDS.get(kind, "")])
            )
            for kind in found
        }
        for index in range((rounds + 1) * BATCHES):
            for kind, process in workers.items():
                assert process.stdin is not None
                assert process.stdout is not None
                print(index % BATCHES, file=process.stdin, flush=True)
                seconds = float(process.stdout.readline())
                if index >= BATCHES:
                    found[kind].append(seconds)
    return {kind: min(seconds) for kind, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_data(root)
        print("| system | kind | ms | against unfrozen here |\n| --- | --- | --- | --- |")
        for system in SYSTEMS:
            old = options.old and options.old.resolve()
            found = step_seconds(system, options.rounds, root, Path(folder) / system, old)
            for kind, seconds in found.items():
                print(f"| {system} | {kind} | {1000 * seconds:.0f} | {seconds / found['unfrozen']:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5], sys.argv[5:])
    else:
        main()
