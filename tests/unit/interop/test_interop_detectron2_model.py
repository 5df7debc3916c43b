"""The meta-architecture inside the real detectron2: what goes in, what comes out, and that it is our model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers import MODULES, NUM_CLASSES, method_model
from torch import Tensor

from syncvis.config import METHODS, EvalConfig, resolve
from syncvis.errors import ConfigError, DataError, MissingDependencyError
from syncvis.interop.detectron2_yaml import read_detectron2_yaml
from syncvis.interop.detectron2_yaml.defaults import DETECTRON2
from syncvis.interop.detectron2_yaml.files import flatten
from syncvis.structures import ClipBatch, ClipTarget

ours = pytest.importorskip(
    "syncvis.interop.detectron2", reason="detectron2 is not installed", exc_type=MissingDependencyError
)
from detectron2.config import get_cfg  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.structures import BitMasks, Instances, PolygonMasks  # noqa: E402

from syncvis.interop.detectron2.model import SyncVIS  # noqa: E402

HEIGHT, WIDTH = 64, 96
Box = tuple[int, int, int, int]  # left, top, right, bottom

BOXES: list[list[Box | None]] = [
    [(10, 8, 40, 30), (12, 8, 42, 30), None],
    [None, (60, 20, 90, 60), None],
    [None, None, None],
]
"""Three instances in three frames; the first is absent from the last frame, the third from all."""


@pytest.fixture
def model(tiny_cfg: Any) -> Any:
    torch.manual_seed(0)
    return build_model(tiny_cfg)


def _bitmap(box: Box | None, height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def _frame(boxes: Sequence[Box | None], absent_class: int, height: int, width: int) -> Any:
    frame = Instances((height, width))
    masks = [_bitmap(box, height, width) for box in boxes]
    frame.gt_masks = BitMasks(torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool))
    present = [box is not None for box in boxes]
    frame.gt_ids = torch.tensor([g + 7 if here else -1 for g, here in enumerate(present)], dtype=torch.int64)
    frame.gt_classes = torch.tensor([g if here else absent_class for g, here in enumerate(present)], dtype=torch.int64)
    return frame


def _video(
    boxes: Sequence[Sequence[Box | None]] = BOXES, absent_class: int = 3, height: int = HEIGHT, width: int = WIDTH
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8) for _ in range(3)]
    instances = [_frame([row[t] for row in boxes], absent_class, height, width) for t in range(3)]
    return {
        "image": images,
        "instances": instances,
        "height": 2 * height,
        "width": 2 * width,
        "length": 3,
        "video_id": 4,
        "file_names": ["a", "b", "c"],
    }


def _losses(model: Any, *videos: dict[str, Any]) -> dict[str, float]:
    torch.manual_seed(3)
    return _numbers(model.train()(list(videos)))


def _numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in losses.items()}


def test_training_gives_named_losses_with_gradients(model: Any) -> None:
    losses = model.train()([_video(), _video(height=32)])
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    assert {name.split("/")[0] for name in losses} > {"frame", "clip"}
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("name", METHODS)
def test_any_method_fits_behind_the_interface(name: str) -> None:
    method = method_model(name, MODULES["+both"])
    model = SyncVIS(method=method, num_classes=NUM_CLASSES, eval_config=EvalConfig(), image_format="RGB")
    losses = model.train()([_video(), _video(height=32)])
    sum(losses.values()).backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    tracks = model.eval()([_video()])
    assert len(tracks["pred_scores"]) == len(tracks["pred_labels"]) == len(tracks["pred_masks"])
    assert all(mask.shape == (3, 2 * HEIGHT, 2 * WIDTH) for mask in tracks["pred_masks"])


def test_losses_are_those_of_our_model_on_our_batch(model: Any) -> None:
    video = _video()
    images = torch.stack(video["image"])[None].float() / 255
    masks = torch.stack([torch.stack([_bitmap(box, HEIGHT, WIDTH) for box in row]) for row in BOXES[:2]])
    target = ClipTarget(torch.tensor([0, 1]), torch.tensor([7, 8]), masks)
    batch = ClipBatch(images, torch.ones(1, 3, HEIGHT, WIDTH, dtype=torch.bool), (target,))
    torch.manual_seed(3)
    expected = _numbers(model.train().method.losses(batch))
    assert _losses(model, video) == expected


def test_bgr_images_are_turned_round(model: Any, tiny_cfg: Any) -> None:
    flipped = _video()
    flipped["image"] = [frame.flip(0) for frame in flipped["image"]]
    expected = _losses(model, _video())
    assert _losses(model, flipped) != expected
    stats = {name: list(reversed(tiny_cfg.MODEL[name])) for name in ("PIXEL_MEAN", "PIXEL_STD")}
    tiny_cfg.merge_from_list(["INPUT.FORMAT", "BGR", *(x for k, v in stats.items() for x in (f"MODEL.{k}", v))])
    torch.manual_seed(0)
    assert _losses(build_model(tiny_cfg), flipped) == expected


@pytest.mark.parametrize("filler", [-1, 2])
def test_the_class_comes_from_frames_that_show_the_instance(model: Any, filler: int) -> None:
    """Mask2Former-VIS takes it from the last frame, where the first instance here has a filler."""
    assert _losses(model, _video(absent_class=filler)) == _losses(model, _video(absent_class=3))


def test_an_instance_without_pixels_is_left_out(model: Any) -> None:
    """Also where its id says that it is there, as after a crop; and pixels without an id do not count."""
    video = _video()
    video["instances"][0].gt_ids[2] = 9
    video["instances"][2].gt_masks.tensor[0, 5:30] = True
    assert _losses(model, video) == _losses(model, _video(BOXES[:2]))


def test_clips_without_instances(model: Any) -> None:
    assert all(value == value for value in _losses(model, _video([]), _video(BOXES[2:])).values())


def test_polygons(model: Any) -> None:
    video = _video()
    for t, frame in enumerate(video["instances"]):
        boxes = [row[t] or (0, 0, 0, 0) for row in BOXES]
        corners = [[float(x) for x in (a, b, c, b, c, d, a, d)] for a, b, c, d in boxes]
        frame.gt_masks = PolygonMasks([[polygon] for polygon in corners])
    assert _losses(model, video) == _losses(model, _video())


def test_inference(model: Any) -> None:
    result = model.eval()([_video()])
    assert result["image_size"] == (2 * HEIGHT, 2 * WIDTH)
    assert result["pred_scores"] == sorted(result["pred_scores"], reverse=True)
    assert len(result["pred_scores"]) == len(result["pred_labels"]) == len(result["pred_masks"]) == 10
    assert set(result["pred_labels"]) <= {0, 1, 2}
    for mask in result["pred_masks"]:
        assert mask.shape == (3, 2 * HEIGHT, 2 * WIDTH)
        assert mask.dtype == torch.bool
    assert any(mask.any() for mask in result["pred_masks"])


def test_inference_at_the_size_of_the_frames(model: Any) -> None:
    """Without height and width, and with frames that have to be padded."""
    video = {"image": [frame[:, :50, :70].float() for frame in _video()["image"]]}
    result = model.eval()([video])
    assert result["image_size"] == (50, 70)
    assert result["pred_masks"][0].shape == (3, 50, 70)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda video: video["instances"][0].gt_classes.fill_(3), "NUM_CLASSES"),
        (lambda video: video["instances"].__setitem__(1, _frame([None], 0, HEIGHT, WIDTH)), "different instances"),
        (lambda video: video["image"].pop(), "frames in one batch"),
    ],
)
def test_bad_batches(model: Any, change: Any, problem: str) -> None:
    video = _video()
    change(video)
    with pytest.raises(DataError) as error:
        model.train()([_video(), video])
    assert problem in str(error.value)


def test_several_videos_at_inference(model: Any) -> None:
    with pytest.raises(DataError, match="one video at a time"):
        model.eval()([_video(), _video()])


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("MODEL.MASK_FORMER.PRE_NORM", True, "MODEL.MASK_FORMER.PRE_NORM"),
        ("MODEL.BACKBONE.NAME", "build_vgg", "MODEL.BACKBONE.NAME"),
        ("MODEL.SYNCVIS.OVERRIDES", ["train.lr=1"], "train.lr"),
        ("MODEL.SYNCVIS.OVERRIDES", ["sync.momentun=1"], "did you mean 'momentum'"),
    ],
)
def test_configs_that_cannot_be_built(tiny_cfg: Any, key: str, value: Any, problem: str) -> None:
    tiny_cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError) as error:
        build_model(tiny_cfg)
    assert problem in str(error.value)


def test_defaults_of_detectron2_are_as_written_down() -> None:
    cfg = flatten(get_cfg())
    assert {key: cfg[key] for key in DETECTRON2} == DETECTRON2


def test_a_yaml_means_the_same_with_and_without_detectron2(tmp_path: Any) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "MODEL:\n  META_ARCHITECTURE: SyncVIS\n  MASK_FORMER: {HIDDEN_DIM: 64, DEC_LAYERS: 4, MASK_WEIGHT: 3.0}\n"
        "  SEM_SEG_HEAD: {CONVS_DIM: 64}\n  SYNCVIS: {OVERRIDES: ['subclips.size=3']}\n"
        "DATASETS: {TRAIN: [ovis_train], TEST: [ovis_val]}\n"
    )
    cfg = get_cfg()
    ours.add_syncvis_config(cfg)
    cfg.merge_from_file(str(path))
    tree, report = read_detectron2_yaml(path)
    assert not report.unsupported
    by_cfg, by_yaml = ours.run_config(cfg), resolve(tree, path)
    for section in ("model", "method", "sync", "subclips", "criterion", "eval"):
        assert getattr(by_cfg, section) == getattr(by_yaml, section)
    assert by_cfg.model.decoder.layers == 3
