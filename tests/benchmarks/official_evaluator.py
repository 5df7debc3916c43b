"""Our evaluation against the official one: the same numbers on random cases, then time and memory.

    python tests/benchmarks/official_evaluator.py --api ytvis_api --cases 500

``--api`` is the folder with ytvos.py and ytvoseval.py, which is not part of this project: of the YouTube-VIS API, or of
Mask2Former, mask2former_video/data_video/datasets/ytvis_api. Every time is that of a process of its own, the least of
three, in seconds of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TESTS = Path(__file__).parents[1]
Mask = np.ndarray
Rng = np.random.Generator


class Case(NamedTuple):
    """A large one, of 36 frames of 360 x 640."""

    name: str
    videos: int
    categories: int
    objects: int
    radius: tuple[int, int]


CASES = (
    Case("200 videos, 1 category, 3 objects", 200, 1, 3, (30, 90)),
    Case("200 videos, 8 categories, 3 objects", 200, 8, 3, (30, 90)),
    Case("200 videos, 40 categories, 3 small objects", 200, 40, 3, (10, 40)),
    Case("100 videos, 40 categories, 6 large objects", 100, 40, 6, (60, 160)),
)
FRAMES, HEIGHT, WIDTH, PREDICTIONS = 36, 360, 640, 10


def rle(mask: Mask | None) -> dict[str, Any] | None:
    from pycocotools import mask as coco

    if mask is None:
        return None
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


class Files:
    """A ground truth and predictions, as they are filled."""

    def __init__(self, categories: list[int]) -> None:
        self.categories, self.videos = categories, list[dict[str, Any]]()
        self.annotations, self.results = list[dict[str, Any]](), list[dict[str, Any]]()

    def video(self, height: int, width: int, length: int) -> int:
        size = {"height": height, "width": width, "length": length}
        self.videos.append({"id": len(self.videos) + 1, "file_names": ["0.jpg"] * length, **size})
        return len(self.videos)

    def annotate(self, video: int, category: int, masks: list[Mask | None], crowd: bool = False) -> None:
        track = {"id": len(self.annotations) + 1, "video_id": video, "category_id": category, "iscrowd": int(crowd)}
        areas = [None if mask is None else int(mask.sum()) for mask in masks]
        segmentations = [rle(mask) for mask in masks]
        self.annotations.append({**track, "areas": areas, "bboxes": areas, "segmentations": segmentations})

    def predict(self, video: int, category: int, score: float, masks: list[Mask | None]) -> None:
        row = {"video_id": video, "category_id": category, "score": score}
        self.results.append({**row, "segmentations": [rle(mask) for mask in masks]})

    def write(self, folder: Path) -> None:
        named = [{"id": category, "name": f"category {category}"} for category in self.categories]
        tree = {"videos": self.videos, "categories": named, "annotations": self.annotations}
        (folder / "truth.json").write_text(json.dumps(tree))
        (folder / "results.json").write_text(json.dumps(self.results))


def small_case(rng: Rng) -> Files:
    """Nulls, crowds, ties, empty masks and several categories; now and then frames of some size."""
    files = Files([int(c) for c in rng.choice(60, rng.integers(1, 6), replace=False) + 1])
    sides = (100, 400) if rng.random() < 0.15 else (2, 40)
    for _ in range(rng.integers(1, 6)):
        height, width = (int(side) for side in rng.integers(*sides, 2))
        length = int(rng.integers(1, 6))
        video, tubes = files.video(height, width, length), []
        for _ in range(rng.integers(0, 4)):
            tubes.append(small_tube(rng, height, width, length))
            files.annotate(video, int(rng.choice(files.categories)), tubes[-1], bool(rng.random() < 0.2))
        for _ in range(rng.integers(0, 7)):
            found = moved(rng, tubes) if tubes and rng.random() < 0.7 else small_tube(rng, height, width, length)
            score = float(rng.choice([0.1, 0.5, 0.9, rng.random()]))
            files.predict(video, int(rng.choice(files.categories)), score, found)
    return files


def small_tube(rng: Rng, height: int, width: int, length: int) -> list[Mask | None]:
    return [small_mask(rng, height, width) if rng.random() < 0.8 else None for _ in range(length)]


def small_mask(rng: Rng, height: int, width: int) -> Mask:
    """Noise, nothing, two pixels, whole columns, a box or a disc."""
    y, x = np.mgrid[:height, :width]
    top, left = rng.integers(0, height), rng.integers(0, width)
    shapes: list[Callable[[], Mask]] = [
        lambda: rng.random((height, width)) < rng.random(),
        lambda: np.zeros((height, width), bool),
        lambda: ((y == top) & (x == left)) | ((y == rng.integers(height)) & (x == rng.integers(width))),
        lambda: x >= left,
        lambda: (y >= top) & (x >= left) & (y < top + rng.integers(1, height + 1)) & (x < left + 5),
        lambda: (y - top) ** 2 + (x - left) ** 2 < rng.integers(1, height * width + 1),
    ]
    return shapes[rng.integers(len(shapes))]()


def moved(rng: Rng, tubes: list[list[Mask | None]]) -> list[Mask | None]:
    """One of the tubes, as it is or a pixel aside."""
    step = int(rng.integers(-1, 2))
    return [None if mask is None else np.roll(mask, step, 1) for mask in tubes[rng.integers(len(tubes))]]


def large_case(case: Case, rng: Rng) -> Files:
    files = Files(list(range(1, case.categories + 1)))
    for _ in range(case.videos):
        video, tubes = files.video(HEIGHT, WIDTH, FRAMES), []
        for _ in range(case.objects):
            tubes.append((int(rng.choice(files.categories)), blob(rng, case.radius)))
            files.annotate(video, *tubes[-1])
        for n in range(PREDICTIONS):
            category, tube = tubes[n] if n < len(tubes) else (int(rng.choice(files.categories)), blob(rng, case.radius))
            step = int(rng.integers(6))
            files.predict(video, category, float(rng.random()), [m if m is None else np.roll(m, step, 1) for m in tube])
    return files


def blob(rng: Rng, radius: tuple[int, int]) -> list[Mask | None]:
    """A shape with a wavy outline that moves through the video."""
    across, down = rng.uniform(*radius, 2)
    waves = list(zip(rng.uniform(0.02, 0.15, 4), rng.uniform(0, 6, 4), range(2, 6), strict=True))
    reach = int(1.7 * max(across, down)) + 2
    y, x = np.mgrid[-reach:reach, -reach:reach]
    angle = np.arctan2(y / down, x / across)
    shape = np.hypot(x / across, y / down) < 1 + sum(a * np.sin(n * angle + phase) for a, phase, n in waves)
    padded = np.zeros((HEIGHT + 2 * reach, WIDTH + 2 * reach), bool)
    place, speed = rng.uniform((0, 0), (HEIGHT, WIDTH)), rng.uniform(-3, 3, 2)
    tube: list[Mask | None] = []
    for t in range(FRAMES):
        top, left = (
            int(min(max(a + t * b, 0), side)) for a, b, side in zip(place, speed, (HEIGHT, WIDTH), strict=True)
        )
        padded[:] = False
        padded[top : top + 2 * reach, left : left + 2 * reach] = shape
        mask = padded[reach : reach + HEIGHT, reach : reach + WIDTH]
        tube.append(mask.copy() if mask.any() else None)
    return tube


class Found(NamedTuple):
    """The twelve numbers, AP of each category that has one, and seconds: of reading and of what follows."""

    numbers: list[float]
    per_category: dict[str, float]
    reading: float
    evaluating: float


def official(folder: Path) -> Found:
    setattr(np, "float", float)  # noqa: B010  # the official code is older than NumPy 1.24
    ytvos, ytvoseval = (importlib.import_module(f"{API.name}.{name}") for name in ("ytvos", "ytvoseval"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = ytvos.YTVOS(str(folder / "truth.json"))
        times = [time.process_time()]
        results = truth.loadRes(str(folder / "results.json"))
        times.append(time.process_time())
        run = ytvoseval.YTVOSeval(truth, results, "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
        times.append(time.process_time())
    precision = run.eval["precision"][:, :, :, 0, -1]
    defined = {f"category {c}": precision[:, :, k] for k, c in enumerate(run.params.catIds)}
    per_category = {name: float(p[p > -1].mean()) for name, p in defined.items() if (p > -1).any()}
    return Found([float(x) for x in run.stats], per_category, *np.diff(times).tolist())


def ours(folder: Path) -> Found:
    from syncvis.evaluation.annotations import read_truth
    from syncvis.evaluation.results import read_results
    from syncvis.evaluation.ytvis import evaluate

    truth = read_truth(folder / "truth.json")
    times = [time.process_time()]
    results = read_results(folder / "results.json", truth.category_ids, [])
    times.append(time.process_time())
    found = evaluate(truth.videos, results, truth.names)
    times.append(time.process_time())
    per_category = {name: ap / 100 for name, ap in found.per_category.items()}
    return Found(list(found.official.values()), per_category, *np.diff(times).tolist())


SIDES = {"official": official, "ours": ours}


def difference(a: Found, b: Found) -> float:
    """The largest one; infinite if the two know different categories."""
    if a.per_category.keys() != b.per_category.keys():
        return float("inf")
    pairs = [*zip(a.numbers, b.numbers, strict=True)]
    return max(abs(x - y) for x, y in pairs + [(ap, b.per_category[name]) for name, ap in a.per_category.items()])


def compare_numbers(cases: int, folder: Path) -> float:
    worst = 0.0
    for seed in range(cases):
        files = small_case(np.random.default_rng(seed))
        if files.annotations and files.results:  # the official code takes no empty list
            files.write(folder)
            found = difference(official(folder), ours(folder))
            if found > 1e-12:
                print(f"seed {seed}: {found}")
            worst = max(worst, found)
    return worst


def in_its_own_process(side: str, folder: Path) -> dict[str, float]:
    """Times and memory of one evaluation; :func:`main` with ``--one`` is what runs there."""
    command = [sys.executable, __file__, "--api", str(API), "--one", side, str(folder)]
    path = os.pathsep.join(filter(None, [str(TESTS.parent), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True)
    parsed: dict[str, float] = json.loads(found.stdout)
    return parsed


def peak_memory() -> float:
    """MB of this process; unlike ``ru_maxrss`` without that of the process which started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def compare_speed(case: Case, folder: Path) -> str:
    large_case(case, np.random.default_rng(0)).write(folder)
    runs = {side: [in_its_own_process(side, folder) for _ in range(3)] for side in SIDES}
    a, b = ({name: min(run[name] for run in runs[side]) for name in runs[side][0]} for side in SIDES)
    loaded, whole = (f"{a[n]:.2f}, {b[n]:.3f}: {a[n] / b[n]:.1f}x" for n in ("evaluating", "whole"))
    return f"| {case.name} | {loaded} | {whole} | {a['memory']:.0f}, {b['memory']:.0f} MB |"


API = Path()


def main() -> None:
    global API
    parser = argparse.ArgumentParser(description="Compare our evaluation with the official one.")
    parser.add_argument("--api", type=Path, required=True, help="folder with ytvos.py and ytvoseval.py")
    parser.add_argument("--cases", type=int, default=200, help="random ones whose numbers are compared")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    API = options.api.resolve()
    if not (API / "ytvoseval.py").is_file():
        parser.error(f"--api: there is no ytvoseval.py in {API}")
    sys.path.insert(0, str(API.parent))
    if options.one:
        side, folder = options.one
        found = SIDES[side](Path(folder))
        whole = found.reading + found.evaluating
        print(json.dumps({"evaluating": found.evaluating, "whole": whole, "memory": peak_memory()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(
            f"largest difference of a number in {options.cases} cases: {compare_numbers(options.cases, Path(folder))}"
        )
        print("| 10 predictions a video | loaded results to summary: official, ours | from results.json on | memory |")
        print("|---|---|---|---|")
        for case in CASES:
            print(compare_speed(case, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
