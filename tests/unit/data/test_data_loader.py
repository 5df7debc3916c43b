from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syncvis.config import DataConfig
from syncvis.data.loader import Share, TrainClips, collate, read_frames, read_targets, video_chunks
from syncvis.data.synthetic import SyntheticConfig, write_synthetic
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.errors import DataError
from syncvis.structures import ClipBatch, ClipTarget

CONFIG = DataConfig(root="unused", frames=3, short_side=(32, 48), max_size=200)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    config = SyntheticConfig(train=7, valid=1, test=1, stills=3, frames=4, reentry=0.5, height=48, width=72)
    return VideoDataset.load(write_synthetic(tmp_path_factory.mktemp("loader") / "data", config, 0), "train.json")


def _tensors(batch: ClipBatch) -> list[torch.Tensor]:
    return [batch.images, batch.valid, *(x for t in batch.targets for x in (t.labels, t.ids, t.masks))]


def _same(a: ClipBatch, b: ClipBatch) -> bool:
    pairs = zip(_tensors(a), _tensors(b), strict=True)
    return len(a.targets) == len(b.targets) and all(torch.equal(x, y) for x, y in pairs)


def test_batch_layout(dataset: VideoDataset) -> None:
    batch = TrainClips(dataset, CONFIG, batch_size=4, seed=0).batch(0)
    assert batch.images.shape[:3] == (4, 3, 3)
    assert batch.images.shape[3:] == batch.valid.shape[2:]
    assert all(side % 32 == 0 for side in batch.valid.shape[2:])
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert not batch.images.mul(~batch.valid[:, :, None]).any()
    for target, valid in zip(batch.targets, batch.valid, strict=True):
        assert target.masks.shape == (len(target.labels), 3, *valid.shape[1:])
        assert target.present.any(1).all()
        assert not (target.masks & ~valid).any()
        assert (target.labels.dtype, target.masks.dtype) == (torch.int64, torch.bool)


def test_a_batch_depends_on_seed_and_step_only(dataset: VideoDataset) -> None:
    clips = TrainClips(dataset, CONFIG, batch_size=2, seed=3)
    in_order = [clips.batch(step) for step in range(4)]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - to show that it does not matter
    backwards = [TrainClips(dataset, CONFIG, batch_size=2, seed=3).batch(step) for step in (3, 2, 1, 0)]
    assert all(_same(a, b) for a, b in zip(in_order, reversed(backwards), strict=True))
    assert not _same(in_order[0], in_order[1])
    assert not _same(in_order[0], TrainClips(dataset, CONFIG, batch_size=2, seed=4).batch(0))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(dataset: VideoDataset, workers: int) -> None:
    clips = TrainClips(dataset, CONFIG, batch_size=2, seed=0)
    before = torch.get_rng_state()
    with_workers = list(clips.iterate(2, 7, workers))
    assert torch.equal(before, torch.get_rng_state())
    alone = list(clips.iterate(2, 7))
    assert [step for step, _ in with_workers] == [step for step, _ in alone] == [2, 3, 4, 5, 6]
    assert all(_same(a, b) for (_, a), (_, b) in zip(with_workers, alone, strict=True))


@pytest.mark.parametrize(("processes", "passes", "workers"), [(1, 1, 0), (2, 1, 0), (1, 3, 1), (2, 3, 0)])
def test_the_shares_of_all_processes_are_the_batch(
    dataset: VideoDataset, processes: int, passes: int, workers: int
) -> None:
    config = CONFIG.model_copy(update={"short_side": (32,)})  # clips of one size: the padding is the same
    clips = TrainClips(dataset, config, batch_size=6, seed=0)
    shared: dict[tuple[int, int], ClipBatch] = {}
    for rank in range(processes):
        share = Share(rank, processes, passes)
        found = list(clips.iterate(3, 5, workers, share))
        assert [step for step, _ in found] == [step for step in (3, 4) for _ in range(passes)]
        shared |= {(step, share.parts[i % passes]): batch for i, (step, batch) in enumerate(found)}
    for step in (3, 4):
        parts = [shared[step, part] for part in range(processes * passes)]
        targets = tuple(target for part in parts for target in part.targets)
        joined = ClipBatch(*(torch.cat([getattr(p, n) for p in parts]) for n in ("images", "valid")), targets)
        assert _same(joined, clips.batch(step))


def test_loader_processes_leave_signals_to_the_trainer(dataset: VideoDataset) -> None:
    """A batch system signals every process of a job; the trainer still needs batches then."""
    batches = TrainClips(dataset, CONFIG, batch_size=1, seed=0).iterate(0, 8, workers=1)
    next(batches)
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    send = "import os, sys; [os.kill(int(sys.argv[1]), n) for n in map(int, sys.argv[2:])]"
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
    os.spawnl(os.P_WAIT, sys.executable, "python", "-c", send, str(child.pid), *map(str, map(int, numbers)))
    assert [step for step, _ in batches] == list(range(1, 8))
    assert child.exitcode == 0


def test_a_loader_process_obeys_the_trainer(dataset: VideoDataset) -> None:
    batches = TrainClips(dataset, CONFIG, batch_size=1, seed=0).iterate(0, 10**6, workers=1)
    next(batches)
    (child,) = multiprocessing.active_children()
    child.terminate()
    child.join(10)
    assert child.exitcode == 0
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(batches)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_every_video_is_seen_once_per_epoch(dataset: VideoDataset, batch_size: int) -> None:
    clips = TrainClips(dataset, CONFIG, batch_size, seed=0)
    order = [clips.video(position).id for position in range(4 * 7)]
    epochs = [tuple(order[e * 7 : e * 7 + 7]) for e in range(4)]
    assert all(set(epoch) == {video.id for video in dataset.videos} for epoch in epochs)
    assert len(set(epochs)) > 1


def test_all_frames_are_covered(dataset: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    read = VideoDataset.read_frame

    def counted(self: VideoDataset, video: Video, t: int) -> Any:
        seen[video.id, t] += 1
        return read(self, video, t)

    monkeypatch.setattr(VideoDataset, "read_frame", counted)
    for step in range(40):
        TrainClips(dataset, CONFIG, batch_size=2, seed=0).batch(step)
    assert set(seen) == {(video.id, t) for video in dataset.videos for t in range(len(video))}


def _only_in(track: Any, frame: int) -> Any:
    kept = tuple(s if t == frame else None for t, s in enumerate(track.segmentations))
    return replace(track, segmentations=kept)


def _with_tracks(dataset: VideoDataset, tracks: tuple[Any, ...]) -> VideoDataset:
    return replace(dataset, videos=(replace(dataset.videos[0], tracks=tracks),))


def test_an_instance_of_the_first_frame_only_keeps_its_label(dataset: VideoDataset) -> None:
    track = replace(_only_in(dataset.videos[0].tracks[0], 0), label=4)
    config = CONFIG.model_copy(update={"frames": 4})
    target = TrainClips(_with_tracks(dataset, (track,)), config, 1, seed=0).batch(0).targets[0]
    assert target.labels.tolist() == [4]
    assert target.present.tolist() == [[True, False, False, False]]


def test_instances_that_the_clip_does_not_show_are_left_out(dataset: VideoDataset) -> None:
    hidden = _only_in(dataset.videos[0].tracks[0], 0)
    clips = TrainClips(_with_tracks(dataset, (hidden,)), CONFIG.model_copy(update={"frames": 1}), 1, seed=0)
    counts = Counter(len(clips.batch(step).targets[0].labels) for step in range(30))
    assert set(counts) == {0, 1}
    assert counts[0] > counts[1]


def test_crowds_are_left_out(dataset: VideoDataset) -> None:
    track = dataset.videos[0].tracks[0]
    crowded = _with_tracks(dataset, (track, replace(track, id=99, iscrowd=True)))
    assert read_targets(crowded.videos[0], (0, 1)).ids.tolist() == [track.id]


def test_no_instances_at_all(dataset: VideoDataset) -> None:
    target = TrainClips(_with_tracks(dataset, ()), CONFIG, 1, seed=0).batch(0).targets[0]
    assert target.masks.shape[:2] == (0, 3)
    assert target.labels.shape == (0,)


def test_targets_lie_on_their_objects(dataset: VideoDataset) -> None:
    config = DataConfig(root="", frames=2, short_side=(48,), flip=1.0)
    clips = TrainClips(dataset, config, 1, seed=0)
    video, batch = clips.video(0), clips.batch(0)
    frames = [t for t in range(len(video)) for image in batch.images[0] if _is_flipped(dataset, video, t, image)]
    assert len(frames) == 2
    target = batch.targets[0]
    originals = {track.id: track for track in video.tracks}
    for track_id, masks in zip(target.ids.tolist(), target.masks, strict=True):
        expected = np.stack([originals[track_id].mask(t)[:, ::-1] for t in frames])
        np.testing.assert_array_equal(masks[:, :48, :72].numpy(), expected)


def _is_flipped(dataset: VideoDataset, video: Video, t: int, image: torch.Tensor) -> bool:
    frame = next(read_frames(dataset, video, (t,))).flip(-1) / 255
    return torch.allclose(image[:, :48, :72], frame)


def test_stills_give_clips_of_one_repeated_frame(dataset: VideoDataset) -> None:
    stills = VideoDataset.load(dataset.source.parent, "stills.json")
    batch = TrainClips(stills, CONFIG, 2, seed=0).batch(0)
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])
    assert len(batch.targets[0].labels) > 0


def test_clips_of_different_sizes_are_padded_to_the_largest() -> None:
    def clip(height: int, width: int) -> tuple[torch.Tensor, ClipTarget]:
        target = ClipTarget(torch.tensor([1]), torch.tensor([1]), torch.ones(1, 2, height, width).bool())
        return torch.ones(2, 3, height, width), target

    batch = collate([clip(20, 50), clip(33, 10)], size_divisor=16)
    assert batch.images.shape == (2, 2, 3, 48, 64)
    assert batch.valid.sum((2, 3)).tolist() == [[1000, 1000], [330, 330]]
    assert batch.valid[0, :, :20, :50].all()
    assert torch.equal(batch.images[:, :, 0].bool(), batch.valid)
    assert [t.masks.sum().item() for t in batch.targets] == [2000, 660]


def test_a_video_comes_in_chunks_of_frames_in_order(dataset: VideoDataset) -> None:
    video = dataset.videos[2]
    batches, size = video_chunks(dataset, video, short_side=48, max_size=1000, chunk=3, size_divisor=32)
    assert size == (48, 72)
    first, last = batches
    assert (first.images.shape, last.images.shape) == ((1, 3, 3, 64, 96), (1, 1, 3, 64, 96))
    assert first.targets == ()
    assert first.valid.sum() == 3 * 48 * 72
    images = torch.cat([first.images, last.images], 1)
    expected = torch.stack([*read_frames(dataset, video, (0, 1, 2, 3))]) / 255
    torch.testing.assert_close(images[0, :, :, :48, :72], expected)
    assert video_chunks(dataset, video, 24, 1000, 1)[1] == (24, 36)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_frame_is_one_clear_error(tmp_path: Path, workers: int) -> None:
    config = SyntheticConfig(train=1, valid=1, test=1, stills=0, frames=1)
    root = write_synthetic(tmp_path / "data", config, 0)
    name = json.loads((root / "train.json").read_text())["videos"][0]["file_names"][0]
    (root / "JPEGImages" / name).write_bytes(b"no image")
    clips = TrainClips(VideoDataset.load(root, "train.json"), CONFIG, 1, seed=0)
    with pytest.raises(DataError, match=r"00000\.png: the frame is not an image\. Fix: ") as caught:
        list(clips.iterate(0, 1, workers))
    assert "\n" not in str(caught.value)
