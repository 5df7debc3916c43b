"""What each key of the public YAML files means here, as data.

Sources are the public repositories as they read the keys: detectron2, Mask2Former (mask2former, mask2former_video) and
the released SyncVIS (syncvis). A key stands in exactly one of these tables, ``rules.RULES`` or
``without_counterpart.NO_COUNTERPART``.
"""

from __future__ import annotations

from typing import Any

RENAMED: dict[str, tuple[str, ...]] = {
    "MODEL.MASK_FORMER.CLASS_WEIGHT": ("criterion.class_weight",),
    "MODEL.MASK_FORMER.MASK_WEIGHT": ("criterion.mask_weight",),
    "MODEL.MASK_FORMER.DICE_WEIGHT": ("criterion.dice_weight",),
    "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT": ("criterion.no_object_weight",),
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": ("criterion.points",),
    "MODEL.MASK_FORMER.OVERSAMPLE_RATIO": ("criterion.oversample",),
    "MODEL.MASK_FORMER.IMPORTANCE_SAMPLE_RATIO": ("criterion.importance",),
    "MODEL.MASK_FORMER.HIDDEN_DIM": ("model.hidden_dim",),
    "MODEL.MASK_FORMER.NHEADS": ("model.decoder.heads", "model.pixel_decoder.heads"),
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": ("model.decoder.ffn_dim",),
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": ("model.decoder.video_queries", "model.decoder.frame_queries"),
    "MODEL.SEM_SEG_HEAD.MASK_DIM": ("model.mask_dim",),
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": ("model.pixel_decoder.layers",),
    "MODEL.BACKBONE.FREEZE_AT": ("model.backbone.freeze_at",),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": ("model.backbone.width",),
    "MODEL.SWIN.DEPTHS": ("model.backbone.depths",),
    "MODEL.SWIN.NUM_HEADS": ("model.backbone.heads",),
    "MODEL.SWIN.WINDOW_SIZE": ("model.backbone.window",),
    "MODEL.SWIN.DROP_PATH_RATE": ("model.backbone.drop_path",),
    "SOLVER.MAX_ITER": ("train.steps",),
    "SOLVER.STEPS": ("train.milestones",),
    "SOLVER.GAMMA": ("train.gamma",),
    "SOLVER.IMS_PER_BATCH": ("train.batch_size",),
    "SOLVER.BASE_LR": ("train.lr",),
    "SOLVER.BACKBONE_MULTIPLIER": ("train.backbone_lr_scale",),
    "SOLVER.WEIGHT_DECAY": ("train.weight_decay",),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ("train.clip_norm",),
    "SOLVER.CHECKPOINT_PERIOD": ("train.checkpoint_every",),
    "INPUT.SAMPLING_FRAME_NUM": ("data.frames",),
    "INPUT.SAMPLING_FRAME_RANGE": ("data.frame_range",),
    "INPUT.MAX_SIZE_TRAIN": ("data.max_size",),
    "INPUT.MIN_SIZE_TEST": ("data.test_short_side",),
    "INPUT.MAX_SIZE_TEST": ("data.test_max_size",),
    "TEST.EVAL_PERIOD": ("train.eval_every",),
    "INPUT.CROP.SIZE": ("data.crop.size",),
    "INPUT.PSEUDO.CROP.SIZE": ("data.crop.size",),
    "TEST.DETECTIONS_PER_IMAGE": ("eval.topk",),
}
"""The same value under our names."""

CHOICES: dict[str, dict[Any, dict[str, Any]]] = {
    "MODEL.META_ARCHITECTURE": {
        # Constants of its code: ten tracks by class score (video_maskformer_model.py: inference_video), each frame of a
        # tube is a mask of its own (modeling/criterion.py: loss_masks), frames drawn with replacement (data mapper),
        # FFN and points of the pixel decoder.
        "VideoMaskFormer": {
            "method.structure": "video_only",
            "sync": None,
            "subclips": None,
            "criterion.tube_reduction": "per_frame_sum",
            "data.sampling": "replacement",
            "model.pixel_decoder.ffn_dim": 1024,
            "model.pixel_decoder.points": 4,
            "eval.topk": 10,
            "eval.score": "class",
        },
        # Constants of its code: pairs of neighbours with a quarter of the weight at both ends and half the weight of
        # the clip, class score times mask score (syncvis_model.py), tubes reduced as one
        # (modeling/syncvis_criterion.py), ten selected queries and lambda 0.05 (transformer_decoder).
        "syncvis": {
            "method.structure": "synchronous",
            "sync.num_selected": 10,
            "sync.momentum": 0.05,
            "subclips.size": 2,
            "subclips.windows": "neighbours",
            "subclips.weights": "edges",
            "subclips.factor": 0.5,
            "criterion.tube_reduction": "joint",
            "data.sampling": "replacement",
            "model.pixel_decoder.ffn_dim": 1024,
            "model.pixel_decoder.points": 4,
            "eval.score": "class_times_mask",
        },
        "SyncVIS": {"method.structure": "synchronous"},
    },
    "MODEL.RESNETS.DEPTH": {depth: {"model.backbone.name": f"resnet{depth}"} for depth in (18, 34, 50, 101)},
    "MODEL.RESNETS.NORM": {"FrozenBN": {"model.backbone.norm": "frozen"}, "BN": {"model.backbone.norm": "batch"}},
    "SOLVER.AMP.ENABLED": {True: {"train.precision": "fp16"}, False: {"train.precision": "float32"}},
    "INPUT.RANDOM_FLIP": {"flip_by_clip": {"data.flip": 0.5}, "none": {"data.flip": 0.0}},
}
"""What a value stands for; any other value has no counterpart."""

FIXED: dict[str, tuple[Any, ...]] = {
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": (
        "VideoMultiScaleMaskedTransformerDecoder",
        "syncvisMultiScaleMaskedTransformerDecoder",
    ),
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": ("multi_scale_pixel_decoder",),
    "MODEL.MASK_FORMER.DEEP_SUPERVISION": (True,),
    "MODEL.MASK_FORMER.DROPOUT": (0,),
    "MODEL.MASK_FORMER.PRE_NORM": (False,),
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ": (False,),
    "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": (32,),
    "MODEL.SEM_SEG_HEAD.NAME": ("MaskFormerHead",),
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": ("MSDeformAttnPixelDecoder",),
    "MODEL.SEM_SEG_HEAD.NORM": ("GN",),
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": (4,),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": (("res2", "res3", "res4", "res5"),),
    "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": (("res3", "res4", "res5"),),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone", "D2SwinTransformer"),
    "MODEL.RESNETS.OUT_FEATURES": (("res2", "res3", "res4", "res5"),),
    "MODEL.RESNETS.NUM_GROUPS": (1,),
    "MODEL.RESNETS.STRIDE_IN_1X1": (False,),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ((False, False, False, False),),
    "MODEL.SWIN.PATCH_SIZE": (4,),
    "MODEL.SWIN.MLP_RATIO": (4,),
    "MODEL.SWIN.QKV_BIAS": (True,),
    "MODEL.SWIN.QK_SCALE": (None,),
    "MODEL.SWIN.DROP_RATE": (0,),
    "MODEL.SWIN.ATTN_DROP_RATE": (0,),
    "MODEL.SWIN.APE": (False,),
    "MODEL.SWIN.PATCH_NORM": (True,),
    "MODEL.SWIN.OUT_FEATURES": (("res2", "res3", "res4", "res5"),),
    "MODEL.syncvis.FREEZE_DETECTOR": (False,),
    "SOLVER.OPTIMIZER": ("ADAMW",),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR",),
    "SOLVER.WARMUP_METHOD": ("linear",),
    "SOLVER.WEIGHT_DECAY_NORM": (0,),
    "SOLVER.WEIGHT_DECAY_EMBED": (0,),
    "SOLVER.WEIGHT_DECAY_BIAS": (None,),
    "SOLVER.BIAS_LR_FACTOR": (1,),
    "SOLVER.REFERENCE_WORLD_SIZE": (0,),
    "SOLVER.RESCALE_INTERVAL": (False,),
    "SOLVER.CLIP_GRADIENTS.ENABLED": (True,),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("full_model",),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (2,),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.SAMPLING_FRAME_SHUFFLE": (False,),
    "INPUT.AUGMENTATIONS": ((),),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice_by_clip",),
    "INPUT.LSJ_AUG.ENABLED": (False,),
    "INPUT.CROP.TYPE": ("absolute_range",),
    "INPUT.PSEUDO.CROP.TYPE": ("absolute_range",),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler",),
    "TEST.AUG.ENABLED": (False,),
    "TEST.PRECISE_BN.ENABLED": (False,),
}
"""The values that say what our model and training do anyway; any other one has no counterpart."""
