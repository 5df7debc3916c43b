"""Run configuration: a frozen, typed tree that says everything a result depends on, and nothing else.

Where results go, on which device and with how many loader workers is not here (see ``training.run.Runtime``): those
must not change a number, so they are not part of a run's identity.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from syncvis.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


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
    short_side: tuple[Positive, ...] = Field(
        (360, 480), min_length=1, description="training short sides, one is drawn per clip"
    )
    max_size: Positive = Field(1333, description="upper bound of the longer side")
    test_short_side: Positive = 360
    flip: Fraction = 0.5


class BackboneConfig(Section):
    """The tiny CPU backbone: stages at ``base_stride`` times 1, 2, 4, 8, with ``width`` times 1, 2, 4, 8 channels."""

    name: Literal["tiny"] = "tiny"
    width: Positive = Field(16, multiple_of=8)
    base_stride: Literal[2, 4] = Field(4, description="stride of the finest map, which is the mask stride")


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
    time_code: bool = Field(True, description="add the sine code of the frame's place in the clip to the video keys")


class ModelConfig(Section):
    hidden_dim: Positive = Field(256, multiple_of=32)
    mask_dim: Positive = 256
    backbone: BackboneConfig = BackboneConfig()
    pixel_decoder: PixelDecoderConfig = PixelDecoderConfig()
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        for part in (self.pixel_decoder, self.decoder):
            if self.hidden_dim % part.heads:
                raise ValueError(f"hidden_dim {self.hidden_dim} is not divisible by {part.heads} heads")
        return self


class MethodConfig(Section):
    """The base method and how its two query sets are arranged (paper Table 6)."""

    name: Literal["mask2former_vis"] = "mask2former_vis"
    structure: Literal["synchronous", "cascade", "frame_only", "video_only"] = "synchronous"


class SyncConfig(Section):
    """Synchronised video-frame modelling: the exchange after every decoder layer but the last."""

    num_selected: Positive = Field(10, description="Nk, embeddings read from the other level, per frame")
    momentum: Fraction = Field(0.05, description="lambda, weight of the exchanged part")
    aggregation: Literal["class_prediction", "query_similarity", "mask_similarity"] = "class_prediction"
    order: Literal["frame_first", "video_first", "frame_to_video", "video_to_frame"] = Field(
        "frame_first",
        description="frame_first: frame -> video, then the updated video -> frame; the last two are one-way",
    )
    query_ffn: bool = Field(True, description="the querying side passes an FFN before the attention")


class SubclipConfig(Section):
    """Synchronised embedding optimisation: the video level is also matched and supervised on windows of the clip."""

    size: Positive = Field(2, description="Ts, frames per sub-clip; a clip of Ts frames or fewer has no sub-clips")
    windows: Literal["neighbours", "all_pairs", "chunks"] = Field(
        "neighbours",
        description="neighbours: every run of Ts frames; all_pairs: every choice of Ts frames; chunks: no overlap",
    )
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
    tube_reduction: Literal["joint", "per_frame_sum"] = Field(
        "per_frame_sum",
        description="joint: one BCE mean and one dice over all frames; per_frame_sum: each frame is a mask, summed",
    )


class TrainConfig(Section):
    steps: Natural
    batch_size: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 1e-4
    backbone_lr_scale: NonNegative = 0.1
    weight_decay: NonNegative = 0.05
    clip_norm: Annotated[float, Field(gt=0)] = 0.01
    milestones: tuple[Fraction, ...] = Field((0.67,), description="fractions of ``steps`` after which lr decays")
    gamma: Fraction = 0.1
    warmup: Natural = Field(0, description="steps of linear warm-up")
    init: str | None = Field(None, description="safetensors file to start from; class heads of another K are left out")
    log_every: Positive = 20
    eval_every: Natural = Field(0, description="steps between evaluations, 0: only at the end")
    checkpoint_every: Positive = 100


class EvalConfig(Section):
    topk: Positive = Field(10, description="tracks kept per video")
    score: Literal["class", "class_times_mask"] = Field(
        "class", description="class_times_mask: also times the mean foreground probability of the mask"
    )


class RunConfig(Section):
    """One training run and its evaluation."""

    scale: Literal["smoke", "small", "paper", "custom"] = "custom"
    seed: Natural = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    method: MethodConfig = MethodConfig()
    sync: SyncConfig | None = SyncConfig()
    subclips: SubclipConfig | None = SubclipConfig()
    criterion: CriterionConfig = CriterionConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _switches_agree(self) -> RunConfig:
        structure = self.method.structure
        if self.sync is not None and structure != "synchronous":
            raise ValueError(f"sync: structure {structure!r} has nothing to exchange; set sync to null")
        if self.subclips is not None and structure == "frame_only":
            raise ValueError("subclips: 'frame_only' has no video level to match on sub-clips; set subclips to null")
        return self

    def canonical(self) -> str:
        """Canonical JSON of the resolved config: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def cell_hash(self) -> str:
        """Identity of this run, seed included: 16 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    @property
    def variant_hash(self) -> str:
        """Identity of this run without its seed: runs that differ only in the seed share it."""
        return self.model_copy(update={"seed": 0}).cell_hash


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a duplicate key is an error and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a key may be a list, which YAML refuses only later
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML (with line and column), has a duplicate key, or is not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", file=path, fix="give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", file=path, fix="give the path of a YAML file") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, source: str | Path) -> dict[str, Any]:
    """Like :func:`read_yaml`, from text; ``source`` names it in errors."""
    try:
        tree = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(problem, file=source, key=place, fix="correct the YAML there") from None
    if not isinstance(tree, dict):
        raise ConfigError("is not a mapping of keys to values", file=source, fix="start with lines like 'seed: 0'")
    return tree


def merge(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings, later ones win key by key; a null removes the whole section below it."""
    merged = OmegaConf.merge(*(OmegaConf.create(dict(tree)) for tree in trees))
    return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=c`` strings into a tree; values are read as YAML.

    Raises:
        ConfigError: An override has no ``=``, or its value is not YAML.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"override {override!r} has no '='", file="command line", fix="write it as key=value")
        value_tree = parse_yaml(f"value: {value}", f"override {override!r}")["value"]
        tree = set_dotted(tree, key, value_tree)
    return tree


def set_dotted(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of ``tree`` with the value at a dotted key replaced or added."""
    head, _, rest = key.partition(".")
    below = tree.get(head)
    new = set_dotted(below if isinstance(below, Mapping) else {}, rest, value) if rest else value
    return {**tree, head: new}


def read_tree(path: str | Path) -> dict[str, Any]:
    """Read a run config file and the files it is the difference to (its ``base``, relative to itself).

    Raises:
        ConfigError: A file cannot be read, the bases form a loop, or a ``${reference}`` leads nowhere.
    """
    chain: list[dict[str, Any]] = []
    seen: list[Path] = []
    here: Path | None = Path(path)
    while here is not None:
        if here.resolve() in seen:
            raise ConfigError("is its own base", file=here, key="base", fix="break the loop of base files")
        seen.append(here.resolve())
        tree = read_yaml(here)
        base = tree.pop("base", None)
        if not isinstance(base, str | None):
            raise ConfigError(f"is {base!r}, not a path", file=here, key="base", fix="name one YAML file")
        chain.insert(0, tree)
        here = here.parent / base if base else None
    try:
        return merge(*chain)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], file=path, fix="correct the value with '${'") from None


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config, apply ``key=value`` overrides and validate the result.

    Raises:
        ConfigError: With every problem at once, each naming its key.
    """
    tree = apply_overrides(read_tree(path), overrides)
    return resolve(tree, path)


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    try:
        return merge(tree, parse_overrides(overrides))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], file="command line", fix="write key=value") from None


def resolve(tree: Mapping[str, Any], source: str | Path) -> RunConfig:
    """Validate a tree into a RunConfig; ``source`` names it in errors.

    Raises:
        ConfigError: With every problem at once; an unknown key comes with the nearest known one.
    """
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise validation_error(error, RunConfig, source) from None


def validation_error(error: ValidationError, model: type[BaseModel], source: str | Path) -> ConfigError:
    """One ConfigError that lists all problems of a pydantic validation."""
    problems = [_describe(detail, model) for detail in error.errors()]
    text = problems[0] if len(problems) == 1 else f"{len(problems)} problems: " + "; ".join(problems)
    return ConfigError(text, file=source, fix="correct the keys named above")


def _describe(detail: Any, model: type[BaseModel]) -> str:
    parts = [str(part) for part in detail["loc"]]
    key = ".".join(parts) or "(whole config)"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(parts[-1], _known_keys(model, parts[:-1]), n=1)
        return f"{key} is not a known key" + (f" (did you mean {near[0]!r}?)" if near else "")
    given = f", got {detail['input']!r}" if not isinstance(detail["input"], Mapping | BaseModel) else ""
    return f"{key}: {detail['msg'].removeprefix('Value error, ')}{given}"


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            return []
        choices = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)
