"""Public YAML files as run configs: chains of bases, every key accounted for, the command."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncvis import cli
from syncvis.config import RunConfig, load_config, resolve, set_dotted
from syncvis.errors import ConfigError
from syncvis.interop.detectron2_yaml import Report, import_config, read_detectron2_yaml
from syncvis.interop.detectron2_yaml.defaults import LAYERS, OURS
from syncvis.interop.detectron2_yaml.keys import CHOICES, FIXED, RENAMED
from syncvis.interop.detectron2_yaml.rules import RULES
from syncvis.interop.detectron2_yaml.without_counterpart import INACTIVE, NO_COUNTERPART

Write = Callable[..., Path]

BASE = """
MODEL:
  META_ARCHITECTURE: VideoMaskFormer
  BACKBONE: {FREEZE_AT: 0}
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  RESNETS: {DEPTH: 101, STRIDE_IN_1X1: false, OUT_FEATURES: [res2, res3, res4, res5]}
  SEM_SEG_HEAD:
    NAME: MaskFormerHead
    NUM_CLASSES: 7
    CONVS_DIM: 64
    IN_FEATURES: [res2, res3, res4, res5]
    PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder
    TRANSFORMER_ENC_LAYERS: 2
  MASK_FORMER:
    TRANSFORMER_DECODER_NAME: VideoMultiScaleMaskedTransformerDecoder
    TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder
    DROPOUT: 0.0
    HIDDEN_DIM: 64
    DEC_LAYERS: 4
DATASETS: {TRAIN: '("ytvis_2021_train",)', TEST: '("ytvis_2021_val",)'}
SOLVER:
  STEPS: (30, 40)
  MAX_ITER: 50
  BASE_LR: 0.0002
  CLIP_GRADIENTS: {ENABLED: true, CLIP_TYPE: full_model, CLIP_VALUE: 0.05}
INPUT:
  FORMAT: RGB
  RANDOM_FLIP: none
  MIN_SIZE_TRAIN: (96, 128)
  MIN_SIZE_TRAIN_SAMPLING: choice_by_clip
"""
SWIN = """
_BASE_: base.yaml
MODEL:
  BACKBONE: {NAME: D2SwinTransformer}
  SWIN: {EMBED_DIM: 192, DEPTHS: [2, 2, 18, 2], NUM_HEADS: [6, 12, 24, 48], WINDOW_SIZE: 12}
"""
RELEASED = """
_BASE_: base.yaml
MODEL:
  META_ARCHITECTURE: syncvis
  MASK_FORMER: {TRANSFORMER_DECODER_NAME: syncvisMultiScaleMaskedTransformerDecoder, NUM_OBJECT_QUERIES: 30}
  syncvis: {SIM_WEIGHT: 0.5}
DATASETS:
  TRAIN: '("coco2ytvis2019_train", "ytvis_2019_train")'
  TEST: '("ytvis_2019_val",)'
  DATASET_RATIO: [1.0, 0.75]
TEST: {DETECTIONS_PER_IMAGE: 12}
INPUT:
  SAMPLING_FRAME_NUM: 5
  CROP: {ENABLED: true, SIZE: '(1, 2)'}
  MAX_SIZE_TRAIN: 768
  PSEUDO: {MIN_SIZE_TRAIN: '(96, 128)', AUGMENTATIONS: [rotation], CROP: {ENABLED: true, SIZE: '(100, 200)'}}
"""

BGR = "INPUT: {FORMAT: BGR}\nMODEL: {PIXEL_MEAN: [103.53, 116.28, 123.675], PIXEL_STD: [57.375, 57.12, 58.395]}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str, name: str = "config.yaml", base: str | None = BASE) -> Path:
        if base is not None:
            (tmp_path / "base.yaml").write_text(base)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return _write


def _read(path: Path) -> tuple[RunConfig, Report]:
    tree, report = read_detectron2_yaml(path)
    assert not report.unknown
    assert not report.unsupported
    return resolve(tree, path), report


def _outcome(report: Report, key: str) -> tuple[str, str]:
    return next((line.outcome.verdict, line.outcome.note) for line in report.lines if line.key == key)


def test_mask2former_vis(write: Write) -> None:
    config, report = _read(write("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 60, AMP: {ENABLED: true}}\n"))
    assert (config.method.structure, config.sync, config.subclips) == ("video_only", None, None)
    assert config.model.backbone.model_dump() == {"name": "resnet101", "width": 64, "norm": "frozen", "freeze_at": 0}
    assert (config.model.hidden_dim, config.model.decoder.layers, config.model.pixel_decoder.layers) == (64, 3, 2)
    assert (config.train.steps, config.train.milestones, config.train.precision) == (60, (30, 40), "fp16")
    assert (config.train.lr, config.train.clip_norm, config.train.warmup) == (0.0002, 0.05, 1000)
    assert (config.data.short_side, config.data.flip, config.data.crop) == ((96, 128), 0, None)
    assert (config.data.train, config.data.valid) == ("train.json", "valid.json")
    assert (config.eval.topk, config.eval.score) == (10, "class")
    assert _outcome(report, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")[0] == "dropped"


def test_public_defaults_hold_where_the_yaml_is_silent(write: Write) -> None:
    config, report = _read(write("_BASE_: base.yaml\n"))
    assert (config.data.frames, config.data.frame_range) == (2, 20)
    assert config.criterion.mask_weight == 20, "Mask2Former's default, which is not ours"
    lines = {line.key: line for line in report.lines}
    assert lines["INPUT.SAMPLING_FRAME_NUM"].source == "mask2former_video/config.py"
    assert lines["MODEL.MASK_FORMER.MASK_WEIGHT"].source == "mask2former/config.py"
    assert lines["SOLVER.MAX_ITER"].source is None


def test_released_syncvis(write: Write) -> None:
    config, report = _read(write(RELEASED))
    assert config.method.structure == "synchronous"
    assert config.sync is not None
    assert config.subclips is not None
    assert (config.sync.num_selected, config.subclips.weights, config.eval.score) == (10, "edges", "class_times_mask")
    assert (config.model.decoder.video_queries, config.model.decoder.frame_queries) == (30, 30)
    assert config.data.root.endswith("ytvis_2019")
    assert config.eval.topk == 12
    assert config.data.crop is not None
    assert config.data.crop.size == (100, 200), "its code reads the crop of the pseudo-videos"
    assert "VITA" in _outcome(report, "MODEL.syncvis.SIM_WEIGHT")[1]
    assert "coco2ytvis2019_train" in _outcome(report, "DATASETS.TRAIN")[1]


def test_joint_training_with_still_images(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "somewhere")
    data = _read(write(RELEASED))[0].data
    (coco,) = data.mix
    assert (Path(coco.root), coco.train) == (Path("somewhere/coco"), "annotations/instances_train2017.json")
    assert (coco.format, coco.ratio, coco.pseudo, data.ratio) == ("coco", 1.0, True, 0.75)
    assert data.pseudo is not None
    assert (data.pseudo.rotation, data.sampling) == (15, "replacement")


@pytest.mark.parametrize(
    "key", ["MIN_SIZE_TRAIN: (1, 2)", "MAX_SIZE_TRAIN: 9", "AUGMENTATIONS: [contrast]", "CROP: {ENABLED: false}"]
)
def test_still_images_are_treated_as_videos_are(write: Write, key: str) -> None:
    text = f"_BASE_: released.yaml\nINPUT: {{PSEUDO: {{{key}}}}}\n"
    write(RELEASED, "released.yaml")
    _, report = read_detectron2_yaml(write(text))
    assert len(report.unsupported) == 1
    assert "INPUT.PSEUDO." in report.unsupported[0]


def test_without_still_images_their_keys_are_left_out(write: Write) -> None:
    text = RELEASED.replace('"coco2ytvis2019_train", "ytvis_2019_train"', '"ytvis_2019_train",')
    config, report = _read(write(text.replace("[rotation]", "[contrast]")))
    assert (config.data.mix, config.data.pseudo) == ((), None)
    assert _outcome(report, "INPUT.PSEUDO.AUGMENTATIONS")[0] == "dropped"


def test_swin(write: Write) -> None:
    config, report = _read(write(SWIN))
    assert config.model.backbone.model_dump() == {
        "name": "swin_l",
        "dim": 192,
        "depths": (2, 2, 18, 2),
        "heads": (6, 12, 24, 48),
        "window": 12,
        "drop_path": 0.3,
    }
    assert _outcome(report, "MODEL.RESNETS.DEPTH") == ("dropped", "the backbone is no ResNet")


def test_our_settings_come_last(write: Write) -> None:
    """After the keys of the file and after the defaults."""
    overrides = "['sync.momentum=0.2', 'subclips=null', 'data.frames=9', 'train.steps=4']"
    text = f"MODEL: {{SYNCVIS: {{OVERRIDES: {overrides}}}, META_ARCHITECTURE: SyncVIS}}\n"
    config, _ = _read(write("_BASE_: base.yaml\n" + text))
    assert config.sync is not None
    assert (config.sync.momentum, config.subclips, config.data.frames, config.train.steps) == (0.2, None, 9, 4)


def test_bases_chain_and_lists_replace_lists(write: Write) -> None:
    write("_BASE_: ../base.yaml\nSOLVER: {STEPS: '(7,)'}\n", "deep/middle.yaml")
    config, _ = _read(write("_BASE_: [deep/middle.yaml]\nSOLVER: {GAMMA: 0.5}\n"))
    assert (config.train.milestones, config.train.gamma, config.train.lr) == ((7,), 0.5, 0.0002)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("_BASE_: config.yaml\n", "_BASE_: is its own base"),
        ("_BASE_: gone.yaml\n", "gone.yaml: cannot be read"),
        ("_BASE_: 3\n", "_BASE_: is 3, not a path"),
        ("_BASE_: https://example.org/a.yaml\n", "is on the network"),
        ("SEED: 1\nSEED: 2\n", "duplicate key 'SEED'"),
        ("- 1\n", "is not a mapping"),
    ],
)
def test_files_that_cannot_be_read(write: Write, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_detectron2_yaml(write(text))
    assert problem in str(error.value)


def test_all_unknown_keys_are_named(write: Write) -> None:
    text = "_BASE_: base.yaml\nMODEL: {MASK_FORMER: {NUM_OBJECT_QUERYS: 3}, syncvis: {NEW: 1}}\nINPUT: {ZOOM: 2}\n"
    path = write(text)
    with pytest.raises(ConfigError) as error:
        import_config(path, allow_unknown=False)
    for key in ("MODEL.MASK_FORMER.NUM_OBJECT_QUERYS", "MODEL.syncvis.NEW", "INPUT.ZOOM"):
        assert key in str(error.value)
    assert "\n" not in str(error.value)
    _, report = import_config(path, allow_unknown=True)
    assert "NUM_OBJECT_QUERYS = 3: did you mean MODEL.MASK_FORMER.NUM_OBJECT_QUERIES?" in str(report)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("MODEL: {META_ARCHITECTURE: Vita}", "MODEL.META_ARCHITECTURE"),
        ("MODEL: {MASK_FORMER: {DROPOUT: 0.1}}", "MODEL.MASK_FORMER.DROPOUT"),
        ("MODEL: {MASK_FORMER: {PRE_NORM: true}}", "MODEL.MASK_FORMER.PRE_NORM"),
        ("MODEL: {MASK_FORMER: {DEC_LAYERS: ten}}", "MODEL.MASK_FORMER.DEC_LAYERS"),
        ("MODEL: {SEM_SEG_HEAD: {CONVS_DIM: 128}}", "MODEL.SEM_SEG_HEAD.CONVS_DIM"),
        ("MODEL: {RESNETS: {NORM: SyncBN}}", "MODEL.RESNETS.NORM"),
        ("MODEL: {RESNETS: {STEM_OUT_CHANNELS: 32, WIDTH_PER_GROUP: 32}}", "MODEL.RESNETS.RES2_OUT_CHANNELS"),
        ("MODEL: {RESNETS: {WIDTH_PER_GROUP: 4}}", "MODEL.RESNETS.WIDTH_PER_GROUP"),
        ("MODEL: {PIXEL_STD: [1.0, 1.0, 1.0]}", "MODEL.PIXEL_STD"),
        ("MODEL: {WEIGHTS: 3}", "MODEL.WEIGHTS"),
        ("INPUT: {CROP: {ENABLED: true, TYPE: absolute_range}}", "INPUT.CROP.ENABLED"),
        ("INPUT: {RANDOM_FLIP: horizontal}", "INPUT.RANDOM_FLIP"),
        ("INPUT: {AUGMENTATIONS: [rotation]}", "INPUT.AUGMENTATIONS"),
        ("SOLVER: {OPTIMIZER: SGD}", "SOLVER.OPTIMIZER"),
        ("SOLVER: {WARMUP_FACTOR: 0.5}", "SOLVER.WARMUP_ITERS"),
        ("SOLVER: {CLIP_GRADIENTS: {ENABLED: false}}", "SOLVER.CLIP_GRADIENTS.ENABLED"),
        ("DATASETS: {TRAIN: [lvis_train]}", "DATASETS.TRAIN"),
        ("DATASETS: {TEST: [ovis_val]}", "DATASETS.TEST"),
    ],
)
def test_values_without_counterpart_are_named(write: Write, text: str, key: str) -> None:
    _, report = read_detectron2_yaml(write(f"_BASE_: base.yaml\n{text}\n"))
    assert key in report.unsupported
    assert not report.unknown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "INPUT: {FORMAT: BGR}\nMODEL: {PIXEL_MEAN: [103.53, 116.28, 123.675], PIXEL_STD: [57.375, 57.12, 58.395]}",
            {},
        ),
        ("MODEL: {RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}}", {"model.backbone.name": "resnet18"}),
        ("MODEL: {RESNETS: {NORM: BN}}", {"model.backbone.norm": "batch"}),
        ("MODEL: {WEIGHTS: start.safetensors}", {"train.init": "start.safetensors"}),
        ("INPUT: {MIN_SIZE_TRAIN: 200}", {"data.short_side": [200]}),
        ("SOLVER: {WARMUP_FACTOR: 1.0}", {"train.warmup": 0}),
        ("SEED: 5", {"seed": 5}),
        (
            "DATASETS: {TRAIN: [ovis_train], TEST: [ovis_train]}",
            {"data.train": "train.json", "data.valid": "train.json"},
        ),
    ],
)
def test_single_keys(write: Write, text: str, expected: dict[str, Any]) -> None:
    path = write(f"_BASE_: base.yaml\n{text}\n")
    tree, report = read_detectron2_yaml(path)
    assert not report.unsupported
    for key, value in expected.items():
        assert tree == set_dotted(tree, key, value), key


def test_data_sets_lie_below_the_folder_of_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "somewhere")
    config, _ = _read(write("_BASE_: base.yaml\n"))
    assert Path(config.data.root) == Path("somewhere/ytvis_2021")


def test_a_key_stands_in_one_table() -> None:
    count = Counter([*RENAMED, *CHOICES, *FIXED, *RULES, *NO_COUNTERPART])
    assert [key for key, number in count.items() if number > 1] == []


def test_tables_speak_of_known_keys_only(write: Write) -> None:
    """Of each other's, and of the run config's."""
    tree, _ = read_detectron2_yaml(write(RELEASED))
    settings = {key for keys in RENAMED.values() for key in keys if not key.startswith("model.backbone")}
    settings |= {key for choice in CHOICES.values() for value in choice.values() for key in value}
    for key in settings:
        with pytest.raises(ConfigError) as error:
            resolve(set_dotted(tree, key, object()), "tables")
        assert "not a known key" not in str(error.value), key
    known = {*RENAMED, *CHOICES, *FIXED, *RULES, *NO_COUNTERPART}
    assert {key for layers in LAYERS.values() for _, layer in layers for key in layer} <= known
    assert {keys for keys, *_ in INACTIVE if not keys.endswith(".*")} <= known
    assert {control for _, control, *_ in INACTIVE} <= known


def test_the_defaults_of_our_own_architecture_build_a_model(write: Write) -> None:
    config, _ = _read(write("MODEL: {META_ARCHITECTURE: SyncVIS}\nDATASETS: {TRAIN: [ovis_train], TEST: [ovis_val]}\n"))
    assert config.method.structure == "synchronous"
    assert config.criterion.mask_weight == OURS["MODEL.MASK_FORMER.MASK_WEIGHT"] == 5


def _command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(cli, "_add_plugins", lambda: None)
    monkeypatch.setattr(sys, "argv", ["syncvis", "import-config", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_command(write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(RELEASED, "good.yaml")
    out = path.with_name("ours.yaml")
    assert _command(monkeypatch, path, "--out", out) == 0
    assert "0 unknown" in capsys.readouterr().out
    assert load_config(out) == _read(path)[0]
    assert _command(monkeypatch, path) == 0
    assert capsys.readouterr().out == out.read_text(), "without --out the config alone goes to stdout"


def test_command_with_unknown_keys(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("_BASE_: base.yaml\nINPUT: {ZOOM: 2}\nSOLVER: {OPTIMIZER: LION}\n")
    out = path.with_name("ours.yaml")
    assert _command(monkeypatch, path, "--out", out) == 2
    error = capsys.readouterr().err
    assert "INPUT.ZOOM" in error
    assert "SOLVER.OPTIMIZER = 'LION'" in error
    assert not out.exists()
    assert _command(monkeypatch, path, "--out", out, "--allow-unknown") == 0
    assert load_config(out).train.steps == 50
