from __future__ import annotations

from typing import Any

import pytest

TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.NHEADS": 2,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 3,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 5,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "MODEL.SYNCVIS.OVERRIDES": ["sync.num_selected=2", "model.pixel_decoder.ffn_dim=32"],
    "INPUT.SAMPLING_FRAME_NUM": 3,
    "INPUT.MIN_SIZE_TRAIN": (32,),
    "INPUT.MIN_SIZE_TEST": 32,
    "INPUT.RANDOM_FLIP": "none",
}


@pytest.fixture
def tiny_cfg() -> Any:
    """A detectron2 config of a SyncVIS that a CPU trains in milliseconds."""
    from detectron2.config import get_cfg

    from syncvis.interop.detectron2 import add_syncvis_config

    cfg = get_cfg()
    add_syncvis_config(cfg)
    cfg.merge_from_list([part for item in TINY.items() for part in item])
    return cfg
