"""Reading run configs: strict YAML, bases, overrides, and errors that name every problem at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from syncvis.config.methods import OwnMethodSettings, method_name
from syncvis.config.run import RunConfig
from syncvis.config.schema import backbone_family
from syncvis.config.section import Section
from syncvis.errors import ConfigError

S = TypeVar("S", bound=Section)


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
    """Merge mappings, later ones win key by key; a null removes the whole section below it.

    Where a later one names another method, or a backbone of another kind, nothing of the earlier one's section is
    carried over.
    """
    merged: Any = OmegaConf.create({})
    for tree in trees:
        below: Any = start_anew(OmegaConf.to_container(merged, resolve=False), tree)
        merged = OmegaConf.merge(OmegaConf.create(below), OmegaConf.create(dict(tree)))
    return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]


_CHOICES: tuple[tuple[tuple[str, ...], Callable[[Any], str]], ...] = (
    (("model", "backbone"), backbone_family),
    (("method",), method_name),
)
"""Places where one of several sections stands, and how its kind is told."""


def start_anew(tree: Any, above: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` without its backbone, or method, where ``above``, which is to win over it, names one of another kind.

    Settings mean something else there, even those of one name (``width``), and each kind has defaults of its own.
    """
    for path, kind in _CHOICES:
        given, changed = _section(tree, path), _section(above, path)
        if given is not None and changed is not None and "name" in changed and kind(given) != kind(changed):
            tree = _without(tree, path)
    return dict(tree)


def _section(tree: Any, path: Sequence[str]) -> Mapping[str, Any] | None:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else None


def _without(tree: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    name, *rest = path
    kept = {key: value for key, value in tree.items() if key != name}
    return {**kept, name: _without(tree[name], rest)} if rest else kept


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
    """Read a run config file and the files it is the difference to.

    Its ``base`` is a path relative to itself, or a list of them, of which later ones win; bases have bases in turn.

    Raises:
        ConfigError: A file cannot be read, the bases form a loop, or a ``${reference}`` leads nowhere.
    """
    layers = [tree for _, tree in read_layers(path)]
    try:
        return merge(*layers)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], file=path, fix="correct the value with '${'") from None


def read_layers(path: str | Path) -> list[tuple[Path, dict[str, Any]]]:
    """The files that make up a run config with what each of them says, later ones win; ``path`` is the last.

    Raises:
        ConfigError: A file cannot be read, or the bases form a loop.
    """
    return _read_layers(Path(path), ())


def _read_layers(path: Path, above: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    place = path.resolve()
    if place in above:
        raise ConfigError("is its own base", file=path, key="base", fix="break the loop of base files")
    tree = read_yaml(path)
    base = tree.pop("base", None)
    names = base if isinstance(base, list) else [] if base is None else [base]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"is {base!r}, not a path", file=path, key="base", fix="name one or more YAML files")
    below = [layer for name in names for layer in _read_layers(path.parent / name, (*above, place))]
    return [*below, (path, tree)]


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


def own_settings(config: RunConfig, model: type[S]) -> S:
    """What a config says in ``method.settings`` of a method of one's own, as a section that the method describes.

    Raises:
        ConfigError: With every problem at once, as for the settings of the workbench.
    """
    given = config.method.settings if isinstance(config.method, OwnMethodSettings) else {}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = validation_error(error, model, config.method.name).problem
        raise ConfigError(problem, key="method.settings", fix="correct the keys named above") from None


def validation_error(error: ValidationError, model: type[BaseModel], source: str | Path) -> ConfigError:
    """One ConfigError that lists all problems of a pydantic validation."""
    problems = [_describe(detail, model) for detail in error.errors()]
    text = problems[0] if len(problems) == 1 else f"{len(problems)} problems: " + "; ".join(problems)
    return ConfigError(text, file=source, fix="correct the keys named above")


def _describe(detail: Any, model: type[BaseModel]) -> str:
    unknown = detail["type"] == "extra_forbidden"
    parts = _without_tags(detail["loc"], model, unknown)
    key = ".".join(parts) or "(whole config)"
    if unknown:
        near = difflib.get_close_matches(parts[-1], _known_keys(model, parts[:-1]), n=1)
        if near == parts[-1:]:  # another of the sections that may stand there has it
            return f"{key} is not a key of this kind of {parts[-2]}"
        return f"{key} is not a known key" + (f" (did you mean {near[0]!r}?)" if near else "")
    given = f", got {detail['input']!r}" if not isinstance(detail["input"], Mapping | BaseModel) else ""
    return f"{key}: {detail['msg'].removeprefix('Value error, ')}{given}"


def _without_tags(location: Sequence[str | int], model: type[BaseModel], unknown: bool) -> list[str]:
    """A location without the tags that pydantic adds where one of several sections was chosen.

    There, a part that none of the sections has is such a tag, unless it is the unknown key itself.
    """
    parts: list[str] = []
    for i, part in enumerate(location):
        chosen = len(_sections(model, parts)) > 1
        if not chosen or part in _known_keys(model, parts) or (unknown and i == len(location) - 1):
            parts.append(str(part))
    return parts


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    return [key for section in _sections(model, path) for key in section.model_fields]


def _sections(model: type[BaseModel], path: Sequence[str]) -> list[type[BaseModel]]:
    """The sections that may stand at a path; several where the config offers a choice."""
    sections = [model]
    for part in path:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [found for field in fields for found in _models_in(field.annotation)]
    return sections


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
