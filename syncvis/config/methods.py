"""The base methods and their settings; a new one is a settings class here, its line in METHODS and its file in
``methods/``.

Nothing of a method is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from syncvis.config.schema import CommonConfig, DataConfig, DecoderConfig
from syncvis.config.section import NULL, OWN, Fraction, Named, Natural, NonNegative, Positive, Section, one_of
from syncvis.config.tables import STRUCTURES
from syncvis.references import is_reference

Tree = Mapping[str, Any]

UNQUOTED_OFF = BeforeValidator(lambda value: "off" if value is False else value)
"""YAML reads ``off`` without quotes as false."""

AUTO = "auto"
LEARNED = "learned"
DEFAULT = "mask2former_vis"


class MethodSettings(Section):
    """The settings that only one method has, and what it makes of those that all have.

    Attributes:
        unread: dotted keys of the run config that the method never reads; they must be left at their defaults, so that
            nobody compares runs that differ in nothing.
        own: dotted key -> the method's own value of a setting that is null.
    """

    name: str
    unread: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def complete(cls, tree: Tree) -> Tree:
        """The tree of a run config with this method's own values where it has null, or nothing."""
        for key, value in cls.own.items():
            tree = _filled(tree, key.split("."), value)
        return tree

    def agree(self, config: CommonConfig) -> None:
        """Raises ValueError where the other settings cannot be meant with this method."""

    @property
    def class_text(self) -> tuple[str, int] | None:
        """A file of class-name embeddings that a training reads, and how long its rows must be; None: no file."""
        return None


class Mask2FormerVISSettings(MethodSettings):
    """Mask2Former-VIS, and how its two query sets are arranged (paper Table 6)."""

    own: ClassVar[Mapping[str, Any]] = {"criterion.tube_reduction": "per_frame_sum", "model.decoder.time_code": True}

    name: Literal["mask2former_vis"] = "mask2former_vis"
    structure: Annotated[str, AfterValidator(Named({**STRUCTURES, AUTO: ()}, references=False))] = Field(
        "synchronous", description="auto: synchronous where sync is set, else video_only"
    )

    @classmethod
    def complete(cls, tree: Tree) -> Tree:
        method = tree.get("method")
        if isinstance(method, Mapping) and method.get("structure") == AUTO:
            alone = "sync" in tree and tree["sync"] is None
            tree = {**tree, "method": {**method, "structure": "video_only" if alone else "synchronous"}}
        return super().complete(tree)

    def agree(self, config: CommonConfig) -> None:
        if config.sync is not None and self.structure != "synchronous":
            raise ValueError(f"sync: structure {self.structure!r} has nothing to exchange; set sync to null")
        if config.subclips is not None and "video" not in STRUCTURES[self.structure]:
            problem = f"{self.structure!r} has no video level to match on sub-clips; set subclips to null"
            raise ValueError(f"subclips: {problem}")


class OnlineSettings(MethodSettings):
    """What methods share whose frame queries predict, and that add video queries for ``sync`` and ``subclips`` only."""

    own: ClassVar[Mapping[str, Any]] = {"criterion.tube_reduction": "per_frame_sum", "model.decoder.time_code": False}

    window: Positive | None = Field(
        None,
        description="frames that are decoded together at test time, the last of them new, where sync is set; "
        "null: data.frames",
    )

    @classmethod
    def complete(cls, tree: Tree) -> Tree:
        data = tree.get("data")
        if isinstance(data, Mapping) and tree.get("sync", {}) is not None:
            tree = _filled(tree, ["method", "window"], data.get("frames", DataConfig.model_fields["frames"].default))
        return super().complete(tree)

    def agree(self, config: CommonConfig) -> None:
        if self.window is not None and config.sync is None:
            raise ValueError("method.window: without sync no frame sees another at test time; set it to null")


class MinVISSettings(OnlineSettings):
    """MinVIS: frames linked by the embeddings of their queries."""

    name: Literal["minvis"] = "minvis"


class VITASettings(MethodSettings):
    """VITA: a temporal module of clip queries on top of the frame queries; video queries are there with ``sync``."""

    own: ClassVar[Mapping[str, Any]] = {"criterion.tube_reduction": "joint", "model.decoder.time_code": False}
    of_decoder: ClassVar[Mapping[str, str]] = {
        "clip_queries": "frame_queries",
        "heads": "heads",
        "ffn_dim": "ffn_dim",
    }

    name: Literal["vita"] = "vita"
    clip_queries: Annotated[Positive, OWN] = Field(NULL, description="null: as many as model.decoder.frame_queries")
    heads: Annotated[Positive, OWN] = Field(NULL, description="of the temporal module; null: as model.decoder has")
    ffn_dim: Annotated[Positive, OWN] = Field(NULL, description="of the temporal module; null: as model.decoder has")
    encoder_layers: Natural = 6
    decoder_layers: Positive = 3
    window: Natural = Field(6, description="frames whose queries attend each other in the encoder; 0: all")
    branches: Positive = Field(3, description="last layers of the frame decoder that each get a pass in training")
    similarity_weight: NonNegative = 0.5
    final: Literal["clip", "video"] = Field("clip", description="the queries whose prediction is the result")
    compat: bool = Field(
        False,
        description="at test time as published: the window of a video that has a single one is cut in two, and how "
        "sure a mask is is measured before its last resize",
    )

    @classmethod
    def complete(cls, tree: Tree) -> Tree:
        model = tree.get("model", {})
        decoder = model.get("decoder", {}) if isinstance(model, Mapping) else {}
        for key, source in cls.of_decoder.items():
            value = decoder.get(source) if isinstance(decoder, Mapping) else None
            default = DecoderConfig.model_fields[source].default
            tree = _filled(tree, ["method", key], default if value is None else value)
        return super().complete(tree)

    def agree(self, config: CommonConfig) -> None:
        layers = config.model.decoder.layers
        if self.branches > layers:
            raise ValueError(f"method.branches: {self.branches} of the decoder's {layers} layers are too many")
        if config.model.hidden_dim % self.heads:
            raise ValueError(f"method.heads: hidden_dim {config.model.hidden_dim} is not divisible by {self.heads}")
        if self.final == "video" and config.sync is None:
            raise ValueError("method.final: without sync there are no video queries; set it to clip")


class TMTVISSettings(MethodSettings):
    """TMT-VIS on Mask2Former-VIS: class names read the clip, and queries start from what the best of them found."""

    own: ClassVar[Mapping[str, Any]] = Mask2FormerVISSettings.own

    name: Literal["tmt_vis"] = "tmt_vis"
    text: str = Field(description="file of class-name embeddings (``syncvis data text`` makes one), or learned")
    width: Positive = Field(1024, description="numbers for each class, as the file has them")
    selected: Positive = Field(10, description="classes that the queries of a frame, or of the video, read")
    replace: bool = Field(False, description="what is read replaces the query instead of being added (released code)")

    @property
    def class_text(self) -> tuple[str, int] | None:
        return None if self.text == LEARNED else (self.text, self.width)


class TrackerConfig(Section):
    """When detections are tracked, and when tracks continue, begin and end (CTVIS' values)."""

    detect: Fraction = Field(0.01, description="score above which a query is a detection; the best one always is")
    overlap: Fraction = Field(0.6, description="mask IoU with a better detection above which one is dropped")
    match: Fraction = Field(0.3, description="similarity above which a detection continues a track")
    open_first: Fraction = Field(0.01, description="score above which a detection opens a track while there is none")
    open: Fraction = Field(0.01, description="the same later on")
    patience: Natural = Field(20, description="a track unseen for more frames than this is forgotten")
    cache: Positive = Field(10, description="latest embeddings of a track that a new one is compared with")
    settled: Natural = Field(9, description="from this frame on, counted from 0, short tracks leave the result,")
    short: Natural = Field(3, description="which are those seen in fewer frames than this")
    missed: Natural = Field(2, description="and not in the last frames, this many")


class CTVISSettings(OnlineSettings):
    """CTVIS: frames tracked by embeddings that are trained against a memory."""

    name: Literal["ctvis"] = "ctvis"
    contrast_weight: NonNegative = Field(2.0, description="of the contrast of dot products")
    cosine_weight: NonNegative = Field(3.0, description="of the squared error of cosines")
    causal: Annotated[Literal["off", "prefix"], UNQUOTED_OFF, OWN] = Field(
        NULL,
        description="prefix: in half of the steps clips are cut to their first n frames, n from 2 to all, so that the "
        "last frame sees the past alone, as at test time; null: prefix where sync is set, else off",
    )
    tracker: TrackerConfig = TrackerConfig()
    compat: bool = Field(False, description="leave out the contrast items that the published code miscounts")

    @classmethod
    def complete(cls, tree: Tree) -> Tree:
        causal = "off" if tree.get("sync", {}) is None else "prefix"
        return super().complete(_filled(tree, ["method", "causal"], causal))

    def agree(self, config: CommonConfig) -> None:
        super().agree(config)
        if self.causal != "off" and config.sync is None:
            raise ValueError("method.causal: without sync no frame sees a later one; set it to null")


class OwnMethodSettings(MethodSettings):
    """A method from outside the package: ``module:function`` and whatever settings its function reads."""

    own: ClassVar[Mapping[str, Any]] = Mask2FormerVISSettings.own

    name: Annotated[str, AfterValidator(Named({}))]
    settings: dict[str, Any] = Field(default={}, description="read by the method alone")


METHODS: dict[str, tuple[type[MethodSettings], str]] = {
    "ctvis": (CTVISSettings, "syncvis.methods.ctvis:build"),
    "minvis": (MinVISSettings, "syncvis.methods.minvis:build"),
    "vita": (VITASettings, "syncvis.methods.vita:build"),
    "mask2former_vis": (Mask2FormerVISSettings, "syncvis.methods.mask2former_vis:build"),
    "tmt_vis": (TMTVISSettings, "syncvis.methods.tmt_vis:build"),
}
"""Name -> its settings, and the function that builds it from a RunConfig and the number of classes."""

BUILDERS = {name: reference for name, (_, reference) in METHODS.items()}


def method_name(value: Any) -> str:
    """The method that a section, or a tree of one, names."""
    return str(value.get("name", DEFAULT) if isinstance(value, Mapping) else getattr(value, "name", value))


def _kind(value: Any) -> str:
    """The tag of a method's settings; of all methods from outside, that of their common one."""
    name = method_name(value)
    return "own" if name not in METHODS and is_reference(name) else name


def complete(tree: Tree) -> Tree:
    """The tree of a run config in which its method has filled in its own values."""
    kind = _kind(tree.get("method", {}))
    if kind == "own":
        return OwnMethodSettings.complete(tree)
    return METHODS[kind][0].complete(tree) if kind in METHODS else tree


def unread_changes(method: MethodSettings, config: CommonConfig) -> Iterator[str]:
    """The dotted keys that the method never reads and that are not at their defaults."""
    return (key for key in method.unread if not _at_default(config, key.split(".")))


def _at_default(section: Section | None, path: list[str]) -> bool:
    if section is None or path[0] not in type(section).model_fields:
        return True
    value = getattr(section, path[0])
    if len(path) > 1:
        return _at_default(value, path[1:])
    return bool(value == type(section).model_fields[path[0]].get_default(call_default_factory=True))


def _filled(tree: Tree, path: list[str], value: Any) -> Tree:
    """With the value at a path where there is null or nothing; a section that is none is left to the validation."""
    name, *rest = path
    if not rest:
        return tree if tree.get(name) is not None else {**tree, name: value}
    below = tree.get(name, {})
    return {**tree, name: _filled(below, rest, value)} if isinstance(below, Mapping) else tree


if TYPE_CHECKING:
    MethodConfig = MethodSettings
else:
    _CLASSES = {name: settings for name, (settings, _) in METHODS.items()} | {"own": OwnMethodSettings}
    MethodConfig = Annotated[
        Union[tuple(Annotated[settings, Tag(tag)] for tag, settings in _CLASSES.items())],  # noqa: UP007
        Discriminator(
            _kind,
            custom_error_type="method_name",
            custom_error_message=f"name must be {one_of([*METHODS, 'module:function'])}",
        ),
    ]
