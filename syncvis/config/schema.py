"""The sections of a run config, but for those of the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from syncvis.config.section import NULL, OWN, Fraction, Named, Natural, NonNegative, Positive, Section
from syncvis.config.tables import AGGREGATIONS, WINDOWS


class CropConfig(Section):
    """Before the resize, with a probability: another resize, then a window that slides over the clip (VITA)."""

    probability: Fraction = 0.5
    short_side: tuple[Positive, ...] = Field((400, 500, 600), min_length=1, description="one is drawn per clip")
    size: tuple[Positive, Positive] = Field((384, 600), description="least and largest side of the window, in pixels")
    motion: Literal["sliding", "independent"] = Field(
        "sliding", description="independent: the window's place is drawn anew in every frame (IDOL's pairs)"
    )

    @model_validator(mode="after")
    def _sizes_in_order(self) -> CropConfig:
        if self.size[0] > self.size[1]:
            raise ValueError(f"size {list(self.size)}: the least side is larger than the largest")
        return self


Factors = tuple[NonNegative, NonNegative]


class PhotometricConfig(Section):
    """Random factors of the colours, uniform between two bounds; null leaves one out (detectron2's values)."""

    brightness: Factors | None = (0.9, 1.1)
    contrast: Factors | None = (0.9, 1.1)
    saturation: Factors | None = (0.9, 1.1)
    per: Literal["frame", "clip"] = Field("frame", description="how often factors are drawn")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PhotometricConfig:
        for name in ("brightness", "contrast", "saturation"):
            bounds = getattr(self, name)
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"{name} {list(bounds)}: the lower bound is above the upper one")
        return self


class PseudoConfig(Section):
    """Clips of one-frame videos move: each frame is rotated by an angle of its own, in sorted order (VITA)."""

    rotation: Annotated[float, Field(ge=0, le=180)] = Field(15.0, description="largest angle, in degrees")
    center: tuple[Fraction, Fraction] = Field(
        (0.4, 0.6), description="the centre is drawn between these fractions of width and height, once per clip"
    )

    @model_validator(mode="after")
    def _center_in_order(self) -> PseudoConfig:
        if self.center[0] > self.center[1]:
            raise ValueError(f"center {list(self.center)}: the lower bound is above the upper one")
        return self


class MixConfig(Section):
    """Another data set to train on; ``root`` and ``train`` as in ``data``. Classes are found by their names."""

    root: str
    train: str = "train.json"
    format: Literal["ytvis", "coco"] = Field("ytvis", description="coco: still images, each a video of one frame")
    ratio: Annotated[float, Field(gt=0)] = Field(1.0, description="clips from here for every data.ratio of data.root")
    pseudo: bool = Field(False, description="data.pseudo moves its one-frame videos")


class DataConfig(Section):
    """Which videos, and which frames of them make a clip.

    ``root`` holds JPEGImages/ and the JSON files ``train`` and ``valid`` (paths relative to ``root``).
    """

    root: str
    train: str = "train.json"
    valid: str = "valid.json"
    videos: tuple[int, ...] | None = Field(None, description="use only the videos with these ids")
    frames: Positive = Field(4, description="T, frames per training clip")
    frame_range: Natural = Field(20, description="clip frames are drawn within this distance of a reference frame")
    sampling: Literal["distinct", "replacement", "key_first", "consecutive"] = Field(
        "distinct",
        description="distinct: frames repeat only where the video is short; replacement: they may repeat each other; "
        "key_first: so, reference first; consecutive: neighbours",
    )
    reverse: Fraction = Field(0.0, description="probability that a clip runs backwards")
    short_side: tuple[Positive, ...] = Field(
        (360, 480), min_length=1, description="training short sides, one is drawn per clip"
    )
    max_size: Positive = Field(1333, description="upper bound of the longer side in training")
    crop: CropConfig | None = None
    test_short_side: Positive = 360
    test_max_size: Positive = Field(1333, description="upper bound of the longer side in evaluation")
    flip: Fraction = 0.5
    photometric: PhotometricConfig | None = None
    pseudo: PseudoConfig | None = None
    ratio: Annotated[float, Field(gt=0)] = Field(1.0, description="clips from here for every ``ratio`` of one in mix")
    mix: tuple[MixConfig, ...] = Field((), description="more data sets to train on; each clip comes from one of all")

    @model_validator(mode="after")
    def _pseudo_clips_are_described(self) -> DataConfig:
        if self.pseudo is None and any(source.pseudo for source in self.mix):
            raise ValueError("mix: a source has pseudo: true, but data.pseudo is null; set it to {} or more")
        return self


class TinyBackboneConfig(Section):
    """The tiny CPU backbone: stages at ``base_stride`` times 1, 2, 4, 8, with ``width`` times 1, 2, 4, 8 channels."""

    name: Literal["tiny"] = "tiny"
    width: Positive = Field(16, multiple_of=8)
    base_stride: Literal[2, 4] = Field(4, description="stride of the finest map, which is the mask stride")


class ResNetConfig(Section):
    """Torchvision's ResNet, stride in the 3x3 convolution; maps at strides 4, 8, 16, 32."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    width: Positive = Field(64, description="channels of the stem; 64 is the published network")
    norm: Literal["frozen", "batch"] = Field("frozen", description="batch norm with stored or with live statistics")
    freeze_at: Annotated[int, Field(ge=0, le=5)] = Field(
        0, description="parts without gradient: 0 none, 1 the stem, 2 also the first stage, ... 5 all"
    )


class SwinConfig(Section):
    """Torchvision's Swin transformer; null takes the value of the published network of that name."""

    name: Literal["swin_t", "swin_s", "swin_b", "swin_l"]
    dim: Positive | None = Field(None, description="channels of the first stage")
    depths: tuple[Positive, Positive, Positive, Positive] | None = None
    heads: tuple[Positive, Positive, Positive, Positive] | None = None
    window: Positive | None = Field(None, description="side of an attention window, in cells")
    drop_path: Fraction = Field(0.3, description="stochastic depth of the last block, rising linearly from 0")


def backbone_family(value: Any) -> str:
    """The kind of backbone that a section, or a tree of one, names: ``tiny``, ``resnet`` or ``swin``."""
    name = value.get("name", "tiny") if isinstance(value, Mapping) else getattr(value, "name", value)
    return str(name).rstrip("0123456789").split("_")[0]


BackboneConfig = Annotated[
    Annotated[TinyBackboneConfig, Tag("tiny")]
    | Annotated[ResNetConfig, Tag("resnet")]
    | Annotated[SwinConfig, Tag("swin")],
    Discriminator(
        backbone_family,
        custom_error_type="backbone_name",
        custom_error_message="name must be tiny, resnet18, resnet34, resnet50, resnet101 or swin_t, _s, _b, _l",
    ),
]


class PixelDecoderConfig(Section):
    """Multi-scale deformable attention encoder plus one FPN step (Mask2Former's pixel decoder)."""

    layers: Natural = 6
    heads: Positive = 8
    points: Positive = 4
    ffn_dim: Positive = 1024


class DecoderConfig(Section):
    """Masked-attention query decoder."""

    layers: Positive = 9
    heads: Positive = 8
    ffn_dim: Positive = 2048
    frame_queries: Positive = 100
    video_queries: Positive = 100
    shared: bool = Field(True, description="frame and video branch use the same layers and heads")
    time_code: Annotated[bool, OWN] = Field(
        NULL,
        description="add the sine code of the frame's place in the clip to the video keys; null: as the method does",
    )


class ModelConfig(Section):
    hidden_dim: Positive = Field(256, multiple_of=32)
    mask_dim: Positive = 256
    backbone: BackboneConfig = TinyBackboneConfig()
    pixel_decoder: PixelDecoderConfig = PixelDecoderConfig()
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        for part in (self.pixel_decoder, self.decoder):
            if self.hidden_dim % part.heads:
                raise ValueError(f"hidden_dim {self.hidden_dim} is not divisible by {part.heads} heads")
        return self


class SyncConfig(Section):
    """Synchronised video-frame modelling: the exchange after every decoder layer."""

    num_selected: Positive = Field(10, description="Nk, embeddings read from the other level, per frame")
    momentum: Fraction = Field(0.05, description="lambda, weight of the exchanged part")
    aggregation: Annotated[str, AfterValidator(Named(AGGREGATIONS))] = "class_prediction"
    order: Literal["frame_first", "video_first", "frame_to_video", "video_to_frame"] = Field(
        "frame_first",
        description="frame_first: frame -> video, then the updated video -> frame; the last two are one-way",
    )
    query_ffn: bool = Field(True, description="the querying side passes an FFN before the attention")


class SubclipConfig(Section):
    """Synchronised embedding optimisation: the video level is also matched and supervised on windows of the clip."""

    size: Positive = Field(2, description="Ts, frames per sub-clip; a clip of Ts frames or fewer has no sub-clips")
    windows: Annotated[str, AfterValidator(Named(WINDOWS))] = Field(
        "neighbours",
        description="neighbours: every run of Ts frames; all_pairs: every choice of Ts frames; chunks: no overlap; "
        "strided: a run of Ts frames every ``step``",
    )
    step: Positive | None = Field(None, description="frames from one window to the next, where they are strided")
    weights: Literal["uniform", "edges"] = Field("uniform", description="edges: 0.25 for the first and last window")
    factor: NonNegative = Field(0.5, description="weight of all sub-clip losses against the full clip")
    absent: Literal["ignore", "no_object"] = Field(
        "ignore",
        description="class target, in a sub-clip, of a query whose instance is seen only in other frames",
    )
    placement: Literal["losses", "decode"] = Field(
        "losses",
        description="losses: one decoder pass, windows on the losses; decode: the decoder runs per window",
    )

    @model_validator(mode="after")
    def _step_is_read(self) -> SubclipConfig:
        if self.windows == "strided" and self.step is None:
            raise ValueError("step: strided windows need one")
        if self.windows in WINDOWS and self.windows != "strided" and self.step is not None:
            raise ValueError(f"step: {self.windows} have none; set step to null")
        return self


class CriterionConfig(Section):
    """Weights and point sampling of matching and losses (methods common to the field, Mask2Former values)."""

    class_weight: NonNegative = 2.0
    mask_weight: NonNegative = 5.0
    dice_weight: NonNegative = 5.0
    no_object_weight: NonNegative = 0.1
    frame_factor: NonNegative = Field(1.0, description="weight of the frame-level losses")
    points: Positive = 12544
    oversample: Annotated[float, Field(ge=1)] = 3.0
    importance: Fraction = 0.75
    tube_reduction: Annotated[Literal["joint", "per_frame_sum"], OWN] = Field(
        NULL,
        description="joint: one BCE mean and one dice over all frames; per_frame_sum: each frame is a mask, summed; "
        "null: as the method does",
    )


class TrainConfig(Section):
    steps: Natural
    batch_size: Positive = Field(8, description="clips per optimizer step, over all processes and passes")
    accumulate: Positive = Field(1, description="passes whose gradients make one step; divides batch_size")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32",
        description="of matrix products and convolutions; pixel decoder attention, matching and losses stay float32",
    )
    lr: Annotated[float, Field(gt=0)] = 1e-4
    backbone_lr_scale: NonNegative = 0.1
    weight_decay: NonNegative = 0.05
    clip_norm: Annotated[float, Field(gt=0)] = 0.01
    milestones: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.67,), description="when lr decays: fractions of ``steps`` up to 1, numbers of steps above"
    )
    gamma: Fraction = 0.1
    warmup: Natural = Field(0, description="steps of linear warm-up")
    init: str | None = Field(
        None,
        description="safetensors file to start from (``syncvis weights import`` makes one from a published model); "
        "class heads of another K start fresh",
    )
    trained: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="parts of the model that learn (``backbone``, ``decoder``, ...), all others are frozen; "
        "null: those that the method says, all of them as a rule",
    )
    log_every: Positive = 20
    eval_every: Natural = Field(0, description="steps between evaluations, 0: only at the end")
    checkpoint_every: Positive = 100

    @model_validator(mode="after")
    def _passes_divide(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        return self


class EvalConfig(Section):
    topk: Positive = Field(10, description="tracks kept per video")
    score: Literal["class", "class_times_mask"] = Field(
        "class", description="class_times_mask: also times the mean foreground probability of the mask"
    )
    features: Literal["full", "half"] = Field(
        "full",
        description="half: features of a video that wait for its last frame are rounded to float16, which takes half "
        "the memory and changes results a little",
    )


class CommonConfig(Section):
    """What every training run and its evaluation has, whatever the method."""

    scale: Literal["smoke", "small", "paper", "custom"] = "custom"
    seed: Natural = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    sync: SyncConfig | None = SyncConfig()
    subclips: SubclipConfig | None = SubclipConfig()
    criterion: CriterionConfig = CriterionConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()
