"""The tracker: cases by hand, and long random videos against the rules written down again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from syncvis.online.association import Tracker, TrackerSettings, bisoftmax, greedy
from syncvis.online.detections import Detections
from syncvis.online.memory import SimilarityGuided

SETTINGS = TrackerSettings(match=0.3, open_first=0.5, open=0.4, patience=3, settled=5, short=3, missed=2)


def _tracker(settings: TrackerSettings = SETTINGS) -> Tracker:
    return Tracker(settings, lambda: SimilarityGuided(10))


def _frame(scores: list[float], objects: list[int], noise: float = 0.0, seed: int = 0) -> Detections:
    """Detections that look like one of eight objects each; class values are (score, object)."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = 6 * torch.eye(8)[objects] + noise * torch.randn(len(objects), 8, generator=generator)
    values = torch.tensor(scores)
    classes = torch.stack([values, torch.tensor(objects, dtype=torch.float32)], 1)
    return Detections.of(values, classes, embeddings, torch.zeros(len(objects), 1, 1, dtype=torch.bool))


def test_bisoftmax_by_hand() -> None:
    products = [[1.0, 2.0], [0.0, 3.0], [1.5, -1.0]]
    similarity = bisoftmax(torch.tensor(products), torch.eye(2))
    for d in range(3):
        for e in range(2):
            row = math.exp(products[d][e]) / sum(math.exp(x) for x in products[d])
            column = math.exp(products[d][e]) / sum(math.exp(products[i][e]) for i in range(3))
            assert float(similarity[d, e]) == pytest.approx((row + column) / 2)


def test_better_detections_choose_first() -> None:
    similarity = torch.tensor([[0.4, 0.35, 0.0], [0.9, 0.31, 0.2], [0.5, 0.1, 0.2]])
    once = torch.ones(3)
    assert greedy(similarity, once, 0.3) == [0, 1, -1]
    assert greedy(similarity, once, 0.35) == [0, -1, -1]  # a similarity at the threshold is not above it


def test_of_several_close_memories_the_one_seen_in_more_frames_wins() -> None:
    similarity = torch.tensor([[0.6, 0.4, 0.29]])
    assert greedy(similarity, torch.tensor([1, 2, 50]), 0.3) == [1]
    assert greedy(similarity, torch.tensor([2, 2, 50]), 0.3) == [0]
    assert greedy(similarity, torch.tensor([1, 2, 50]), 0.5) == [0]


def test_births() -> None:
    """While the memory is empty the first threshold holds, later the other one; below it nothing is tracked."""
    tracker = _tracker()
    assert tracker.step(_frame([0.5, 0.3], [0, 1])) == [-1, -1]  # a score at the threshold is not above it
    assert tracker.step(_frame([0.9, 0.8, 0.45], [0, 1, 2])) == [0, 1, -1]
    assert tracker.step(_frame([0.9, 0.8, 0.45, 0.3], [1, 0, 2, 3])) == [1, 0, 2, -1]
    tracks = tracker.tracks()
    assert tracks.ids.tolist() == [0, 1, 2]
    assert tracks.query.tolist() == [[-1, -1, -1], [0, 1, -1], [1, 0, 2]]
    assert tracks.seen.sum(0).tolist() == [2, 2, 1]
    torch.testing.assert_close(tracks.classes, torch.tensor([[0.85, 0.0], [0.85, 1.0], [0.45, 2.0]]))


def test_an_absent_track_returns_until_it_is_forgotten() -> None:
    for absent, wanted in ((3, [0, 1]), (4, [0, 2])):
        tracker = _tracker(replace(SETTINGS, settled=99))
        tracker.step(_frame([0.9, 0.8], [0, 1]))
        for _ in range(absent):
            assert tracker.step(_frame([0.9], [0])) == [0]
        assert tracker.step(_frame([0.9, 0.8], [0, 1])) == wanted
        tracks = tracker.tracks()
        assert tracks.seen[:, 1].tolist() == [True] + [False] * absent + [absent == 3]
        assert tracks.seen[-1].all(0) == (absent == 3)


def test_when_all_are_forgotten_the_first_threshold_holds_again() -> None:
    tracker = _tracker()
    tracker.step(_frame([0.9], [0]))
    for _ in range(5):
        tracker.step(Detections(*(x[:0] for x in vars(_frame([0.9], [0])).values())))
    assert tracker.step(_frame([0.45], [0])) == [-1]
    assert tracker.step(_frame([0.6], [0])) == [1]


def test_with_one_memory_any_detection_continues_it() -> None:
    """A softmax over one entry is 1; so is the other one for a single detection. Kept from the published trackers."""
    tracker = _tracker()
    tracker.step(_frame([0.9], [0]))
    assert tracker.step(_frame([0.9, 0.8], [1, 2])) == [0, 1]
    assert tracker.step(_frame([0.9], [3])) == [0]  # resembles both alike, and this one was seen twice


def test_short_tracks_leave_the_result_but_not_the_memory() -> None:
    tracker = _tracker()
    for t in range(9):
        objects = [0, 1, 2] if t < 2 else [0, 2] if t < 3 else [0]
        tracker.step(_frame([0.9, 0.8, 0.7][: len(objects)], objects))
        found = tracker.tracks().ids.tolist()
        assert found == ([0, 1, 2] if t < 5 else [0, 2]), t  # object 2 was seen three times
    settings = replace(SETTINGS, patience=20)
    tracker = _tracker(settings)
    for t in range(8):
        tracker.step(_frame([0.9, 0.8], [0, 1]) if t in (0, 7) else _frame([0.9], [0]))
    tracks = tracker.tracks()
    assert tracks.ids.tolist() == [0, 1]  # back under its number, without its first frame
    assert tracks.seen[:, 1].tolist() == [False] * 7 + [True]


def test_no_track_at_all() -> None:
    tracker = _tracker()
    tracker.step(_frame([0.1], [0]))
    tracks = tracker.tracks()
    assert (tracks.query.shape, tracks.classes.shape, tracks.ids.shape) == ((1, 0), (0, 2), (0,))


def test_a_static_video_keeps_one_id_for_each_detection() -> None:
    tracker = _tracker()
    still = _frame([0.9, 0.8, 0.7, 0.6], [3, 1, 0, 2], noise=0.5)
    assert [tracker.step(still) for _ in range(30)] == [[0, 1, 2, 3]] * 30


def test_order_of_the_detections_of_a_frame() -> None:
    """Other detections first, other numbers of the queries: the same identities."""
    first, second = _frame([0.9, 0.8, 0.7], [0, 1, 2], 0.3, 1), _frame([0.9, 0.8, 0.7], [2, 0, 1], 0.3, 2)
    straight, turned = _tracker(), _tracker()
    straight.step(first)
    turned.step(first)
    order = torch.tensor([2, 0, 1])
    ids = straight.step(second)
    assert turned.step(second.take(order)) == [ids[i] for i in order]


def _random_video(seed: int, frames: int = 40) -> list[Detections]:
    """Objects that come, go and return among false detections; embeddings are noisy and of small norm."""
    generator = torch.Generator().manual_seed(seed)
    looks, video = torch.randn(6, 16, generator=generator), []
    visible = torch.rand(6, generator=generator) < 0.5
    for _ in range(frames):
        visible ^= torch.rand(6, generator=generator) < 0.15
        objects = [i for i in range(6) if visible[i]] + [-1] * int(torch.randint(0, 3, (), generator=generator))
        embeddings = torch.randn(len(objects), 16, generator=generator)
        for d, number in enumerate(objects):
            if number >= 0:
                embeddings[d] = 0.5 * embeddings[d] + looks[number]
        scores = torch.rand(len(objects), generator=generator).sort(descending=True).values
        classes = torch.randn(len(objects), 4, generator=generator)
        video.append(Detections.of(scores, classes, embeddings, torch.zeros(len(objects), 1, 1, dtype=torch.bool)))
    return video


class _Rules:
    """The rules once more, with lists and loops."""

    def __init__(self, settings: TrackerSettings) -> None:
        self.s, self.count = settings, 0
        self.memory: dict[int, list[tuple[int, Tensor]]] = {}
        self.result: dict[int, dict[int, int]] = {}

    @staticmethod
    def embedding(history: list[tuple[int, Tensor]]) -> Tensor:
        state = history[0][1]
        for n in range(1, len(history)):
            now = history[n][1]
            last = [history[k][1] for k in range(max(0, n - 10), n)]
            beta = max(0.0, sum(float(torch.dot(x, now) / (x.norm() * now.norm())) for x in last) / len(last))
            state = (1 - beta) * state + beta * now
        return state

    def step(self, t: int, found: Detections) -> list[int]:
        count = len(found)
        ids, threshold = [-1] * count, self.s.open_first
        if self.memory:
            threshold, keys = self.s.open, list(self.memory)
            dots = [[float(x @ self.embedding(self.memory[k])) for k in keys] for x in found.embeddings]
            score = [[0.0] * len(keys) for _ in range(count)]
            for d in range(count):
                for e in range(len(keys)):
                    over_memory = sum(math.exp(dots[d][i] - dots[d][e]) for i in range(len(keys)))
                    over_found = sum(math.exp(dots[i][e] - dots[d][e]) for i in range(count))
                    score[d][e] = (1 / over_memory + 1 / over_found) / 2
            for d in range(count):
                good = [e for e in range(len(keys)) if score[d][e] > self.s.match]
                if len(good) > 1:
                    best = max(good, key=lambda e: score[d][e] * len(self.memory[keys[e]]))
                elif good:
                    best = good[0]
                else:
                    continue
                ids[d] = keys[best]
                for other in range(count):
                    score[other][best] = 0.0
        for d in range(count):
            if ids[d] == -1 and float(found.scores[d]) > threshold:
                ids[d], self.count = self.count, self.count + 1
        for d in range(count):
            if ids[d] >= 0:
                self.memory.setdefault(ids[d], []).append((t, found.embeddings[d]))
                self.result.setdefault(ids[d], {})[t] = d
        self.memory = {k: h for k, h in self.memory.items() if t - h[-1][0] <= self.s.patience}
        if t >= self.s.settled:
            for key in list(self.result):
                frames = self.result[key]
                misses = t - max(frames)
                if len(frames) < self.s.short and misses >= self.s.missed:
                    del self.result[key]
        return ids


@pytest.mark.parametrize("seed", range(6))
def test_forty_frames_against_the_rules(seed: int) -> None:
    video = _random_video(seed)
    tracker, rules = _tracker(), _Rules(SETTINGS)
    for t, found in enumerate(video):
        assert tracker.step(found) == rules.step(t, found), t
    tracks = tracker.tracks()
    assert tracks.ids.tolist() == list(rules.result)
    assert len(tracks.ids) < rules.count  # short ones have left
    for r, sightings in enumerate(rules.result.values()):
        assert tracks.query[:, r].tolist() == [sightings.get(t, -1) for t in range(len(video))]
        mean = sum(video[t].classes[d] for t, d in sightings.items()) / len(sightings)
        torch.testing.assert_close(tracks.classes[r], mean)
