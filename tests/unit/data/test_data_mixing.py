"""Several data sets in one training: right in every batch, in the long run, and wherever it is asked for."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from syncvis.config import CropConfig, DataConfig, MixConfig, PhotometricConfig, PseudoConfig
from syncvis.data.loader import Share, TrainClips
from syncvis.data.mixing import Order, Source, load_mix, relabelled
from syncvis.data.synthetic import SyntheticConfig, write_synthetic
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.structures import ClipBatch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SyntheticConfig(train=5, valid=1, test=1, stills=9, frames=4, height=48, width=72)
    return write_synthetic(tmp_path_factory.mktemp("mixing") / "data", config, 0)


@pytest.fixture(scope="module")
def videos(root: Path) -> VideoDataset:
    return VideoDataset.load(root, "train.json")


@pytest.fixture(scope="module")
def stills(root: Path) -> VideoDataset:
    return VideoDataset.load(root, "stills.json")


def _config(root: Path, **changes: object) -> DataConfig:
    """COCO : VIS 1 : 0.75, with everything that is random."""
    return DataConfig(
        root=str(root),
        frames=3,
        sampling="replacement",
        reverse=0.3,
        short_side=(32, 48),
        max_size=100,
        crop=CropConfig(short_side=(40, 56), size=(24, 48)),
        photometric=PhotometricConfig(),
        pseudo=PseudoConfig(),
        ratio=0.75,
        mix=(MixConfig(root=str(root), train="stills.json", ratio=1.0, pseudo=True),),
    ).model_copy(update=changes)


def _same(a: ClipBatch, b: ClipBatch) -> bool:
    def tensors(batch: ClipBatch) -> list[torch.Tensor]:
        return [batch.images, batch.valid, *(x for t in batch.targets for x in (t.labels, t.ids, t.masks))]

    pairs = zip(tensors(a), tensors(b), strict=True)
    return len(a.targets) == len(b.targets) and all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def drawn(videos: VideoDataset, stills: VideoDataset) -> list[tuple[bool, int]]:
    """Is it a still, and the video's id, for many clips."""
    order = Order([Source(videos, 0.75), Source(stills, 1.0, pseudo=True)], seed=3)
    return [(source.pseudo, video.id) for source, video in map(order, range(14_000))]


def test_the_ratio_is_right_in_the_long_run(drawn: list[tuple[bool, int]]) -> None:
    assert abs(np.mean([still for still, _ in drawn]) - 1 / 1.75) < 0.015  # 3.6 standard deviations


@pytest.mark.parametrize("size", [2, 8])
def test_batches_are_mixed_as_independent_draws_are(drawn: list[tuple[bool, int]], size: int) -> None:
    """The released code gives batches of one data set only: all mixed shares would be 0."""
    found = Counter(sum(still for still, _ in drawn[i : i + size]) for i in range(0, len(drawn), size))
    p, batches = 1 / 1.75, len(drawn) // size
    for stills in range(size + 1):
        ways = np.prod([(size - i) / (i + 1) for i in range(stills)])
        share = ways * p**stills * (1 - p) ** (size - stills)
        assert abs(found[stills] / batches - share) < 4 * np.sqrt(share * (1 - share) / batches)


def test_every_video_of_each_source_is_seen_once_per_epoch(drawn: list[tuple[bool, int]]) -> None:
    for still, count in ((False, 5), (True, 9)):
        ids = [video for found, video in drawn if found == still]
        epochs = [tuple(ids[i : i + count]) for i in range(0, len(ids) - count, count)]
        assert {frozenset(epoch) for epoch in epochs} == {frozenset(range(1, count + 1))}
        assert len(set(epochs)) > 20


def test_any_clip_can_be_asked_for_first(videos: VideoDataset, stills: VideoDataset, drawn: list) -> None:
    sources = [Source(videos, 0.75), Source(stills, 1.0, pseudo=True)]
    for position in (13_999, 4096, 4095, 0):
        source, video = Order(sources, seed=3)(position)
        assert (source.pseudo, video.id) == drawn[position]
    copied = pickle.loads(pickle.dumps(Order(sources, seed=3)))
    assert copied(5000)[1].id == drawn[5000][1]
    other = Order(sources, seed=4)
    assert [other(i)[1].id for i in range(50)] != [video for _, video in drawn[:50]]


def test_one_source_keeps_the_order_that_it_had(videos: VideoDataset) -> None:
    order = Order([Source(videos)], seed=2)
    first = np.random.default_rng(np.random.SeedSequence((2, 0, 1))).permutation(5)  # of epoch 1
    assert [order(5 + i)[1].id for i in range(5)] == [videos.videos[i].id for i in first]


def test_mixed_batches_hold_videos_and_moving_stills(root: Path, videos: VideoDataset) -> None:
    config = _config(root, crop=None, photometric=None, reverse=0.0, sampling="distinct", short_side=(48,), flip=0.0)
    clips = TrainClips(videos, config, batch_size=8, seed=0)
    moving = []
    for step in range(3):
        batch = clips.batch(step)
        assert len(batch.targets) == 8
        for index, images in enumerate(batch.images):
            if len(clips.video(step * 8 + index)) == 1:
                corner = images[:, :, 0, 0].abs().sum(-1)  # black where the frame turned away
                moving.append(bool((corner == 0).any()) and not torch.equal(images[0], images[1]))
    assert len(moving) > 6
    assert np.mean(moving) > 0.8


def test_stills_that_are_not_pseudo_stand_still(root: Path, videos: VideoDataset) -> None:
    config = _config(root, photometric=None, crop=None)
    still = config.mix[0].model_copy(update={"pseudo": False, "ratio": 50.0})
    clips = TrainClips(videos, config.model_copy(update={"mix": (still,)}), batch_size=2, seed=0)
    batch = clips.batch(0)
    assert [len(clips.video(i)) for i in range(2)] == [1, 1]
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(root: Path, videos: VideoDataset, workers: int) -> None:
    clips = TrainClips(videos, _config(root), batch_size=3, seed=0)
    alone, shared = list(clips.iterate(0, 6)), list(clips.iterate(0, 6, workers))
    assert [step for step, _ in shared] == list(range(6))
    assert all(_same(a, b) for (_, a), (_, b) in zip(alone, shared, strict=True))


def test_a_run_resumed_in_the_middle_of_an_epoch_sees_what_an_uninterrupted_one_sees(
    root: Path, videos: VideoDataset
) -> None:
    whole = list(TrainClips(videos, _config(root), batch_size=3, seed=1).iterate(0, 7))
    resumed = list(TrainClips(videos, _config(root), batch_size=3, seed=1).iterate(4, 7, workers=1))
    assert [step for step, _ in resumed] == [4, 5, 6]
    assert all(_same(a, b) for (_, a), (_, b) in zip(whole[4:], resumed, strict=True))


def test_the_parts_of_a_batch_are_the_clips_of_the_batch(root: Path, videos: VideoDataset) -> None:
    config = _config(root, short_side=(32,), crop=None)  # one size: the padding is the same
    clips = TrainClips(videos, config, batch_size=4, seed=0)
    for step in range(3):
        parts = [clips.batch(step, part, 4) for part in range(4)]
        targets = tuple(target for part in parts for target in part.targets)
        joined = ClipBatch(*(torch.cat([getattr(p, n) for p in parts]) for n in ("images", "valid")), targets)
        assert _same(joined, clips.batch(step))
    (_, first), (_, second) = clips.iterate(0, 1, share=Share(0, 1, 2))
    assert _same(first, clips.batch(0, 0, 2))
    assert _same(second, clips.batch(0, 1, 2))


def test_labels_are_found_by_name(stills: VideoDataset) -> None:
    names = [category.name for category in stills.categories]
    target = (Category(9, "zebra"), Category(4, names[2].upper().replace(" ", "_")), Category(1, names[0]))
    found = relabelled(stills, target)
    assert found.categories == target
    expected = {
        (v.id, t.id): {0: 2, 2: 1}[t.label] for v in stills.videos for t in v.tracks if t.label in (0, 2)
    }  # old label: new one
    assert {(v.id, t.id): t.label for v in found.videos for t in v.tracks} == expected
    assert all(video.tracks for video in found.videos)
    assert 0 < len(found.videos) < len(stills.videos)


def test_a_data_set_without_common_classes_is_one_clear_error(root: Path, stills: VideoDataset) -> None:
    with pytest.raises(DataError, match=r"stills\.json: categories: has no instance .* Fix: ") as caught:
        load_mix(_config(root), (Category(1, "zebra"),))
    assert "\n" not in str(caught.value)


def test_a_missing_data_set_is_one_clear_error(root: Path, videos: VideoDataset) -> None:
    missing = _config(root, mix=(MixConfig(root=str(root), train="no.json"),))
    with pytest.raises(DataError, match=r"no\.json: cannot be read"):
        TrainClips(videos, missing, 1, 0)


def test_read_data_sets_can_be_handed_over(root: Path, videos: VideoDataset, stills: VideoDataset) -> None:
    few = replace(stills, videos=stills.videos[:1])
    clips = TrainClips(videos, _config(root), 2, 0, mixed=[few])
    assert {video.id for video in map(clips.video, range(40)) if len(video) == 1} == {few.videos[0].id}


def test_coco_images_are_mixed_in_as_moving_clips(root: Path, videos: VideoDataset, tmp_path: Path) -> None:
    pytest.importorskip("syncvis.data.coco")
    noise = np.random.default_rng(0).integers(50, 256, (48, 72, 3), dtype=np.uint8)
    for name in ("train2017", "annotations"):
        (tmp_path / name).mkdir()
    Image.fromarray(noise).save(tmp_path / "train2017" / "1.png")
    box = {"bbox": [20, 10, 30, 20], "area": 600, "segmentation": [[20, 10, 50, 10, 50, 30, 20, 30]], "iscrowd": 0}
    tree = {
        "images": [{"id": 1, "file_name": "1.png", "height": 48, "width": 72}],
        "categories": [{"id": 7, "name": videos.categories[2].name}, {"id": 8, "name": "zebra"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": c, **box} for i, c in ((1, 7), (2, 8))],
    }
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(tree))
    coco = MixConfig(
        root=str(tmp_path), train="annotations/instances_train2017.json", format="coco", ratio=1e6, pseudo=True
    )
    clips = TrainClips(videos, _config(root, mix=(coco,), photometric=None, crop=None), batch_size=2, seed=0)
    batch = clips.batch(0)
    for images, target in zip(batch.images, batch.targets, strict=True):
        assert target.labels.tolist() == [2]
        assert target.present.all()
        assert not torch.equal(images[0], images[1])
        assert not torch.equal(target.masks[0, 0], target.masks[0, 2])
