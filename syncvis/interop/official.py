"""A model of ours that is a published one: same sizes, same weights, same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from syncvis.config import RunConfig, resolve, set_dotted
from syncvis.errors import StorageError
from syncvis.interop.checkpoints import convert
from syncvis.interop.names import FAMILIES
from syncvis.interop.names.mask2former import CLASS_HEAD
from syncvis.interop.names.naming import Family
from syncvis.interop.names.sizes import Sizes
from syncvis.interop.stored import as_stored
from syncvis.interop.translate import Translation, translate
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.structures import Level
from syncvis.training.checkpoint import spell

PUBLISHED = [name for name, family in FAMILIES.items() if family.entries is not None]
"""Methods whose models are made from their files."""


@overload
def from_official(
    state: Mapping[str, Any],
    level: Level = "video",
    *,
    heads: int = 8,
    points: int = 4,
    changes: Mapping[str, Any] | None = None,
    method: Literal["mask2former_vis"] = "mask2former_vis",
) -> Mask2FormerVIS: ...


@overload
def from_official(
    state: Mapping[str, Any],
    level: Level = "video",
    *,
    heads: int = 8,
    points: int = 4,
    changes: Mapping[str, Any] | None = None,
    method: str,
) -> Method: ...


def from_official(
    state: Mapping[str, Any],
    level: Level = "video",
    *,
    heads: int = 8,
    points: int = 4,
    changes: Mapping[str, Any] | None = None,
    method: str = "mask2former_vis",
) -> Method:
    """Build the model that an official state dict is of, and load it: every tensor of both finds its place.

    Args:
        state: of the published model, also inside the usual wrappers, e.g. ``torch.load("model.pth")["model"]``.
        level: of the queries, where a method has models of either: Mask2Former (``"frame"``: each frame by itself) or
            Mask2Former-VIS (``"video"``).
        heads: of the query decoder's attention; no shape tells.
        points: that a head of the deformable attention reads in each level; its heads follow from it.
        changes: config entries that are no sizes, by dotted key, e.g. ``{"criterion.points": 100}``.
        method: its name in the config.

    Returns:
        The model in evaluation mode, for as many classes as the file has.

    Raises:
        StorageError: The file is no such model, or one of the two has parts that the other does not have; or no models
            of the method are made from files.
    """
    family = FAMILIES.get(method, Family(method))
    tensors = as_stored(state).tensors
    found = translate(tensors)
    config = official_config(found, family, level, heads, points, changes or {})
    model = build(config, Sizes(found.tensors, found.kind).size(CLASS_HEAD) - 1)
    converted = convert(tensors, model.state_dict())
    if converted.fresh:
        problem, fix = f"lacks what the model has: {spell(converted.fresh)}", "use `syncvis weights import`"
        raise StorageError(problem, file=found.kind, fix=fix)
    if converted.unused:
        fix = f"use `syncvis weights import`, which takes the {family.title} in it"
        raise StorageError(f"holds more than a {family.title}: {spell(converted.unused)}", file=found.kind, fix=fix)
    model.load_state_dict(converted.tensors)
    return model.eval()


def official_config(
    found: Translation, family: Family, level: Level, heads: int, points: int, changes: Mapping[str, Any]
) -> RunConfig:
    """The config whose model has the sizes of the tensors.

    Raises:
        StorageError: A tensor that tells a size is missing.
    """
    if family.entries is None:
        problem = f"no model of {family.title} is made from a file"
        raise StorageError(problem, fix=f"choose from {', '.join(PUBLISHED)}")
    if not found.whole:
        raise StorageError("is a backbone alone, not a model", file=found.kind, fix="give a Mask2Former")
    sections = family.entries(Sizes(found.tensors, found.kind), level, heads, points)
    tree: dict[str, Any] = {"data": {"root": "."}, "train": {"steps": 0}, **sections}
    for key, value in changes.items():
        tree = set_dotted(tree, key, value)
    return resolve(tree, found.kind)
