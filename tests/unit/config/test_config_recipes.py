"""The published recipes as run configs: all resolve, and hold the published values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncvis.config import (
    CropConfig,
    CTVISSettings,
    Mask2FormerVISSettings,
    RunConfig,
    SubclipConfig,
    TMTVISSettings,
    TrackerConfig,
    load_config,
    read_layers,
)

RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"

# Name: batch, lr, milestones, steps, T, frame range, queries, test short side, top k.
# M2F: Mask2Former configs/youtubevis_{2019,2021}; SYNC: SyncVIS/configs/youtubevis_{2019,2021}; VITA: configs.
PUBLISHED = {
    "mask2former_vis_ytvis_2019_r50": (16, 1e-4, (4000,), 6000, 2, 20, 100, 360, 10),  # M2F
    "mask2former_vis_ytvis_2019_r101": (16, 1e-4, (4000,), 6000, 2, 20, 100, 360, 10),  # M2F
    "mask2former_vis_ytvis_2019_swin_l": (16, 1e-4, (4000,), 6000, 2, 20, 200, 480, 10),  # M2F
    "mask2former_vis_ytvis_2021_r50": (16, 1e-4, (5500,), 8000, 2, 20, 100, 360, 10),  # M2F
    "mask2former_vis_ytvis_2021_r101": (16, 1e-4, (5500,), 8000, 2, 20, 100, 360, 10),  # M2F
    "mask2former_vis_ytvis_2021_swin_l": (16, 1e-4, (5500,), 8000, 2, 20, 200, 360, 10),  # M2F
    "minvis_ytvis_2019_r50": (32, 1e-4, (4000,), 6000, 1, 20, 100, 360, 10),  # MinVIS d039c54
    "syncvis_minvis_ytvis_2019_r50": (8, 1e-4, (4000,), 6000, 4, 20, 100, 360, 10),  # ours: as many frames in a step
    "tmt_vis_ytvis_2019_r50": (16, 1e-4, (4000,), 6000, 5, 20, 100, 360, 10),  # TMT-VIS faf0ac2 base_train.yaml
    "syncvis_tmt_vis_ytvis_2019_r50": (16, 1e-4, (4000,), 6000, 5, 20, 100, 360, 10),  # as TMT-VIS
    "ctvis_ytvis_2019_r50": (16, 1e-4, (6000, 12000), 16000, 10, 20, 100, 480, 40),  # CTVIS c1ed15c, as all of these
    "ctvis_ytvis_2019_swin_l": (16, 1e-4, (6000, 12000), 16000, 8, 16, 200, 480, 40),
    "ctvis_ytvis_2021_r50": (16, 1e-4, (6000, 12000), 16000, 10, 20, 100, 480, 40),
    "ctvis_ytvis_2021_swin_l": (16, 1e-4, (6000, 12000), 16000, 8, 16, 200, 480, 40),
    "ctvis_ytvis_2022_r50": (16, 1e-4, (6000, 12000), 16000, 10, 20, 100, 480, 40),  # its README: trained on 2021
    "ctvis_ytvis_2022_swin_l": (16, 1e-4, (6000, 12000), 16000, 8, 16, 200, 480, 40),
    "ctvis_ovis_r50": (16, 1e-4, (6000, 12000), 16000, 10, 15, 100, 480, 25),
    "ctvis_ovis_swin_l": (16, 1e-4, (6000, 12000), 16000, 6, 10, 200, 480, 25),
    "syncvis_ytvis_2019_r50": (8, 1e-4, (37500,), 70000, 8, 20, 100, 360, 10),  # SYNC R50_bs8.yaml
    "syncvis_ytvis_2019_r101": (8, 5e-5, (75000,), 140000, 5, 20, 100, 360, 10),  # SYNC R101_bs8.yaml
    "syncvis_ytvis_2019_swin_l": (8, 5e-5, (75000,), 140000, 5, 20, 200, 448, 10),  # SYNC SWIN_bs8.yaml
    "syncvis_ytvis_2021_r50": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),  # SYNC vfi_R50_bs8.yaml
    "syncvis_ytvis_2021_r101": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),  # SYNC vfi_R101_bs8.yaml
    "syncvis_ytvis_2021_swin_l": (8, 5e-5, (100000,), 187500, 6, 8, 200, 448, 10),  # SYNC vfi_SWIN_bs8.yaml
    "syncvis_ytvis_2022_r50": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),  # as 2021: nothing was released
    "syncvis_ytvis_2022_r101": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),
    "syncvis_ytvis_2022_swin_l": (8, 5e-5, (100000,), 187500, 6, 8, 200, 448, 10),
    "syncvis_ovis_r50": (8, 5e-5, (50000, 125000), 150000, 6, 8, 100, 360, 20),  # VITA vita_R50_bs8.yaml
    "syncvis_ovis_r101": (8, 5e-5, (50000, 125000), 150000, 6, 8, 100, 360, 20),  # as R50
    "syncvis_ovis_swin_l": (8, 5e-5, (50000, 125000), 150000, 6, 8, 200, 448, 20),  # VITA vita_SWIN_bs8.yaml
    "vita_ytvis_2019_r50": (8, 5e-5, (75000,), 140000, 5, 20, 100, 360, 10),  # VITA configs/youtubevis_2019
    "vita_ytvis_2019_swin_l": (8, 5e-5, (75000,), 140000, 5, 20, 200, 448, 10),
    "vita_ytvis_2021_r50": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),  # VITA configs/youtubevis_2021
    "vita_ytvis_2021_swin_l": (8, 5e-5, (100000,), 187500, 6, 8, 200, 448, 10),
    "vita_ytvis_2022_r50": (8, 5e-5, (100000,), 187500, 6, 8, 100, 360, 10),  # as 2021
    "vita_ytvis_2022_swin_l": (8, 5e-5, (100000,), 187500, 6, 8, 200, 448, 10),
    "vita_ovis_r50": (8, 5e-5, (50000, 125000), 150000, 6, 8, 100, 360, 20),  # VITA configs/ovis
    "vita_ovis_swin_l": (8, 5e-5, (50000, 125000), 150000, 6, 8, 200, 448, 20),
}
PUBLISHED |= {  # the released SyncVIS is on VITA
    name.replace("syncvis_", "syncvis_vita_"): values
    for name, values in PUBLISHED.items()
    if re.match("syncvis_(ytvis|ovis)", name) and "r101" not in name
}
PUBLISHED |= {f"syncvis_{name}": values for name, values in PUBLISHED.items() if name.startswith("ctvis")}
BACKBONES = {"r50": "resnet50", "r101": "resnet101", "swin_l": "swin_l"}


JOINT = [name for name in PUBLISHED if re.match("(syncvis_)?(vita|ytvis|ovis)_", name)]
CTVIS = [name for name in PUBLISHED if "ctvis" in name]


def _recipe(name: str) -> RunConfig:
    return load_config(RECIPES / f"{name}.yaml")


def test_every_recipe_is_checked() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name: str) -> None:
    config = _recipe(name)
    data, train, decoder = config.data, config.train, config.model.decoder
    found = (train.batch_size, train.lr, train.milestones, train.steps, data.frames, data.frame_range)
    assert found == PUBLISHED[name][:6]
    assert decoder.frame_queries == decoder.video_queries == PUBLISHED[name][6]
    assert (data.test_short_side, config.eval.topk) == PUBLISHED[name][7:]
    assert (train.clip_norm, train.weight_decay, train.backbone_lr_scale, train.gamma) == (0.01, 0.05, 0.1, 0.1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_say_what_is_inside(name: str) -> None:
    config = _recipe(name)
    parts = re.fullmatch(r"(\w+?)_(ytvis_\d+|ovis)_(r50|r101|swin_l)", name)
    assert parts is not None
    model, benchmark, backbone = parts.groups()
    start = "vita" if model.endswith("vita") else "mask2former"
    assert config.scale == "paper"
    assert config.model.backbone.name == BACKBONES[backbone]
    assert config.data.root == f"data/{benchmark}/train"
    assert config.train.init == f"weights/{start}_coco_{backbone}.safetensors"


@pytest.mark.parametrize("name", JOINT)
def test_augmentation_of_vita_and_syncvis(name: str) -> None:
    """INPUT and CROP of both."""
    config = _recipe(name)
    assert config.data.short_side == (288, 320, 352, 384, 416, 448, 480, 512)
    assert config.data.max_size == 768
    assert config.data.crop is not None
    crop = {"probability": 0.5, "short_side": (400, 500, 600), "size": (384, 600), "motion": "sliding"}
    assert config.data.crop.model_dump() == crop
    assert (config.criterion.tube_reduction, config.eval.score) == ("joint", "class_times_mask")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("syncvis")])
def test_the_two_modules(name: str) -> None:
    """Decoder and model files of the released code; on CTVIS, where nothing was released, three sub-clips of four."""
    config = _recipe(name)
    if isinstance(config.method, Mask2FormerVISSettings):
        assert config.method.structure == "synchronous"
    assert config.sync is not None
    assert (config.sync.num_selected, config.sync.momentum) == (10, 0.05)
    assert config.subclips is not None
    windows = (4, "uniform", 0.5) if "ctvis" in name else (2, "edges", 0.5)
    assert (config.subclips.size, config.subclips.weights, config.subclips.factor) == windows


# DATASETS.DATASET_RATIO of COCO and the videos, in VITA's and SyncVIS's configs.
RATIOS = {"ytvis_2019": (1.0, 0.75), "ytvis_2021": (1.0, 0.8), "ytvis_2022": (1.0, 0.8), "ovis": (1.0, 0.25)}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "vita" in name])
def test_temporal_module_of_vita(name: str) -> None:
    """vita/config.py MODEL.VITA, and ENC_WINDOW_SIZE and SIM_WEIGHT of the configs."""
    config = _recipe(name)
    assert config.method.model_dump() == {
        "name": "vita",
        "clip_queries": 100,
        "heads": 8,
        "ffn_dim": 2048,
        "encoder_layers": 6,
        "decoder_layers": 3,
        "window": 6,
        "branches": 3,
        "similarity_weight": 0.5,
        "final": "clip",
        "compat": False,
    }
    assert config.model.decoder.time_code is False
    assert (config.sync is None) == (config.subclips is None) == name.startswith("vita")


@pytest.mark.parametrize("name", JOINT)
def test_joint_training_with_coco(name: str) -> None:
    data = _recipe(name).data
    (coco,) = data.mix
    assert (coco.root, coco.format, coco.pseudo) == ("data/coco", "coco", True)
    assert (coco.ratio, data.ratio) == next(ratio for benchmark, ratio in RATIOS.items() if benchmark in name)
    assert data.pseudo is not None
    assert (data.pseudo.rotation, data.pseudo.center) == (15, (0.4, 0.6))
    assert (data.sampling, data.photometric) == ("replacement", None)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("mask2former_vis")])
def test_mask2former_vis_has_no_part_of_syncvis(name: str) -> None:
    config = _recipe(name)
    assert (config.method.structure, config.sync, config.subclips) == ("video_only", None, None)
    assert (config.data.short_side, config.data.max_size, config.data.crop) == ((360, 480), 1333, None)
    assert (config.data.sampling, config.data.pseudo, config.data.mix) == ("replacement", None, ())


def test_minvis_trains_an_image_model() -> None:
    config = _recipe("minvis_ytvis_2019_r50")
    assert (config.method.name, config.sync, config.subclips) == ("minvis", None, None)
    assert (config.data.short_side, config.data.max_size, config.data.crop) == ((360, 480), 1333, None)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "tmt" in name])
def test_tmt_vis_trains_on_one_data_set(name: str) -> None:
    """TMT INPUT and CROP; the decoder file of the released code for width and number of classes."""
    config = _recipe(name)
    text = "weights/text_ytvis_2019.safetensors"
    assert config.method == TMTVISSettings(text=text, width=1024, selected=10, replace=False)
    assert (config.data.short_side[0], config.data.short_side[-1], config.data.max_size) == (288, 512, 768)
    assert config.data.crop == CropConfig(probability=0.5, short_side=(400, 500, 600), size=(384, 600))
    assert (config.data.mix, config.criterion.tube_reduction, config.eval.score) == ((), "per_frame_sum", "class")
    if name.startswith("syncvis"):
        assert config.sync == _recipe("syncvis_ytvis_2019_r50").sync
        assert config.subclips == SubclipConfig(weights="edges")
    else:
        assert (config.sync, config.subclips) == (None, None)


@pytest.mark.parametrize("name", CTVIS)
def test_ctvis_and_its_data(name: str) -> None:
    config = _recipe(name)
    data, ratios = config.data, {"ytvis_2019": 1.5, "ytvis_2021": 0.8, "ytvis_2022": 0.8, "ovis": 0.75}
    (coco,) = data.mix
    assert (coco.ratio, coco.pseudo) == (1.0, True)
    assert data.ratio == next(ratio for benchmark, ratio in ratios.items() if benchmark in name)
    assert data.short_side == (320, 352, 392, 416, 448, 480, 512, 544, 576, 608, 640)
    assert (data.max_size, data.sampling) == (768, "replacement")
    assert isinstance(config.method, CTVISSettings)
    assert config.method.tracker == TrackerConfig()  # whose values are the published ones
    assert (config.method.contrast_weight, config.method.cosine_weight) == (2, 3)
    both = name.startswith("syncvis")
    assert (config.sync is not None, config.subclips is not None) == (both, both)
    assert (config.method.causal, config.method.window) == (("prefix", data.frames) if both else ("off", None))
    assert config.eval.score == "class_times_mask"


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "ctvis" not in name])
def test_what_cannot_be_followed_is_said(name: str) -> None:
    text = "".join(path.read_text() for path, _ in read_layers(RECIPES / f"{name}.yaml"))
    assert ("# Differs: published runs start from SyncVIS's own" in text) == (
        name.startswith("syncvis") and "minvis" not in name
    )
    assert ("was released" in text) == ("2022" in name or ("ovis" in name and name.startswith("syncvis")))
