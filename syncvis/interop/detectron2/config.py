"""The keys of SyncVIS in a detectron2 config, and what such a config means for our model."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from syncvis.config import RunConfig, resolve
from syncvis.errors import ConfigError
from syncvis.interop.detectron2_yaml.defaults import OURS
from syncvis.interop.detectron2_yaml.files import flatten
from syncvis.interop.detectron2_yaml.keys import FIXED
from syncvis.interop.detectron2_yaml.report import Line
from syncvis.interop.detectron2_yaml.translate import KNOWN, translate

SECTIONS = ("model", "method", "sync", "subclips", "criterion", "eval")
"""What the model reads of a run config; data and training are detectron2's."""


def add_syncvis_config(cfg: CfgNode) -> None:
    """Add every key that the public YAML files of Mask2Former-VIS and SyncVIS use, and set what SyncVIS needs.

    Call it before the YAML is merged. ``MODEL.SYNCVIS.OVERRIDES`` takes our own settings, e.g.
    ``["sync.momentum=0.1", "subclips=null"]``.
    """
    for key, value in OURS.items():
        _set(cfg, key, value)
    for key in KNOWN:
        if not key.endswith(".*") and not _has(cfg, key):
            _set(cfg, key, FIXED.get(key, (None,))[0])


def run_config(cfg: CfgNode) -> RunConfig:
    """The model part of a detectron2 config as a run config; its data and train sections are placeholders.

    Raises:
        ConfigError: With all keys below MODEL whose value our model cannot have.
    """
    tree, lines = translate(flatten(cfg))
    wrong = [line for line in lines if _concerns_model(line) and line.outcome.verdict == "unsupported"]
    if wrong:
        raise ConfigError("; ".join(map(str, wrong)), file="detectron2 config", fix="correct these keys")
    overrides = next(line.outcome.settings for line in lines if line.key == "MODEL.SYNCVIS.OVERRIDES")
    if stray := [key for key in overrides if key.partition(".")[0] not in SECTIONS]:
        fix = f"override only {', '.join(SECTIONS)}; data and training are set by detectron2's keys"
        raise ConfigError(f"{stray[0]} is not of the model", file="detectron2 config", key=lines[0].key, fix=fix)
    sections = {name: tree[name] for name in SECTIONS if name in tree}
    return resolve({**sections, "data": {"root": "unused"}, "train": {"steps": 0}}, "detectron2 config")


def _concerns_model(line: Line) -> bool:
    return line.key.startswith("MODEL.") or line.key == "INPUT.FORMAT"


def _has(cfg: CfgNode, key: str) -> bool:
    head, _, rest = key.partition(".")
    return head in cfg and (not rest or _has(cfg[head], rest))


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if not rest:
        cfg[head] = list(value) if isinstance(value, tuple) else value
        return
    if head not in cfg:
        cfg[head] = CfgNode()
    _set(cfg[head], rest, value)
