"""The method of a run config: its own settings, its own values, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import yaml
from helpers import TINY, tiny_config
from pydantic import AfterValidator, BaseModel

from syncvis.config import (
    AGGREGATIONS,
    METHODS,
    WINDOWS,
    CommonConfig,
    CTVISSettings,
    Mask2FormerVISSettings,
    MethodSettings,
    OwnMethodSettings,
    RunConfig,
    load_config,
    merge,
    plugins_of,
)
from syncvis.config.methods import unread_changes
from syncvis.config.section import OWN, Named, one_of
from syncvis.config.tables import OWN_CODE
from syncvis.errors import ConfigError

Write = Callable[[str, str], Path]
PLAIN = {"method": {"structure": "video_only"}, "sync": None}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


def _refused(changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        tiny_config(changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def _nullable(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of settings that may be the method's own."""
    for name, field in model.model_fields.items():
        if OWN in field.metadata:
            yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _nullable(field.annotation, f"{prefix}{name}.")


NULLABLE = list(_nullable(CommonConfig))


def test_settings_that_may_be_null() -> None:
    assert NULLABLE == ["model.decoder.time_code", "criterion.tube_reduction"]


@pytest.mark.parametrize("settings", [*(settings for settings, _ in METHODS.values()), OwnMethodSettings])
def test_a_method_has_a_value_for_every_null_that_it_reads(settings: type[MethodSettings]) -> None:
    assert set(settings.own) | set(settings.unread) >= set(NULLABLE)
    assert not set(settings.own) & set(settings.unread)


@pytest.mark.parametrize("name", METHODS)
def test_a_table_has_the_name_that_the_settings_have(name: str) -> None:
    assert METHODS[name][0].model_fields["name"].default == name


def test_null_and_nothing_are_the_methods_own_value() -> None:
    written = {"criterion.tube_reduction": "per_frame_sum", "model.decoder.time_code": True}
    config = tiny_config(written)
    assert (config.criterion.tube_reduction, config.model.decoder.time_code) == ("per_frame_sum", True)
    for changes in ({}, dict.fromkeys(written), {"criterion": {"points": 16}}):
        assert tiny_config(changes) == config
        assert tiny_config(changes).cell_hash == config.cell_hash
    assert config.model_dump()["criterion"]["tube_reduction"] == "per_frame_sum"
    assert tiny_config({"model.decoder.time_code": False}).model_dump()["model"]["decoder"]["time_code"] is False


def test_sections_that_are_left_out_get_the_methods_own_values() -> None:
    config = RunConfig.model_validate({"data": {"root": "x"}, "train": {"steps": 1}})
    assert (config.criterion.tube_reduction, config.model.decoder.time_code) == ("per_frame_sum", True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"criterion": 3}, "criterion"),
        ({"model.decoder": "deep"}, "model.decoder"),
        ({"criterion.tube_reduction": "mean"}, "criterion.tube_reduction"),
        ({"model.decoder.time_code": "maybe"}, "model.decoder.time_code"),
        ({"method": 3}, "method: name must be"),
        ({"method": None}, "method: name must be"),
        ({"method.name": None}, "method: name must be"),
    ],
    ids=str,
)
def test_what_is_no_value_is_still_refused(changes: dict[str, Any], named: str) -> None:
    assert named in _refused(changes)


@pytest.mark.parametrize(("sync", "structure"), [({}, "synchronous"), (None, "video_only")], ids=str)
def test_the_structure_follows_the_exchange(sync: Any, structure: str) -> None:
    config = tiny_config({"method.structure": "auto", "sync": sync})
    assert config == tiny_config({"method.structure": structure, "sync": sync})
    assert isinstance(config.method, Mask2FormerVISSettings)
    assert config.method.structure == structure
    assert "auto" not in config.canonical()


def test_the_structure_follows_an_exchange_by_default() -> None:
    tree = {key: value for key, value in TINY.items() if key != "sync"} | {"method": {"structure": "auto"}}
    config = RunConfig.model_validate(tree)
    assert config.sync is not None
    assert config.method.model_dump() == {"name": "mask2former_vis", "structure": "synchronous"}


def test_errors_name_what_the_tables_have() -> None:
    assert f"must be {one_of([*AGGREGATIONS, 'module:function'])}, got 'best'" in _refused({"sync.aggregation": "best"})
    assert f"must be {one_of([*WINDOWS, 'module:function'])}" in _refused({"subclips.windows": "all"})
    assert f"method: name must be {one_of([*METHODS, 'module:function'])}" in _refused({"method": {"name": "vitta"}})


def test_one_of() -> None:
    assert [one_of(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method.structur": "cascade"}, "method.structur is not a known key (did you mean 'structure'?)"),
        ({"method.settings": {}}, "method.settings is not a key of this kind of method"),
        ({"method": {"name": "a:b", "structure": "cascade"}}, "method.structure is not a key of this kind of method"),
        ({"method": {"name": "a:b", "setings": {}}}, "method.setings is not a known key (did you mean 'settings'?)"),
        ({"method": {"name": "a:b", "settings": 3}}, "method.settings: "),
    ],
    ids=str,
)
def test_unknown_settings_of_a_method(changes: dict[str, Any], named: str) -> None:
    assert named in _refused(changes)


def test_a_method_from_outside_is_not_imported() -> None:
    config = tiny_config({"method": {"name": "not.there:build", "settings": {"depth": 3, "kinds": ["a"]}}})
    assert isinstance(config.method, OwnMethodSettings)
    assert config.method.settings == {"depth": 3, "kinds": ["a"]}
    assert config.criterion.tube_reduction == "per_frame_sum"
    assert tiny_config(config.model_dump(mode="json")).cell_hash == config.cell_hash
    other = tiny_config({"method": {"name": "not.there:build", "settings": {"depth": 4, "kinds": ["a"]}}})
    assert other.cell_hash != config.cell_hash


def test_a_function_of_the_workbench_has_one_name() -> None:
    written = {"sync.aggregation": AGGREGATIONS["mask_similarity"], "subclips.windows": WINDOWS["chunks"]}
    assert tiny_config(written) == tiny_config({"sync.aggregation": "mask_similarity", "subclips.windows": "chunks"})
    own = tiny_config({"sync.aggregation": "mine:best", "subclips.windows": "mine:odd", "subclips.step": 3})
    assert own.sync is not None
    assert own.sync.aggregation == "mine:best"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"subclips.windows": "strided"}, "subclips: step: strided windows need one"),
        ({"subclips.step": 2}, "subclips: step: neighbours have none"),
        ({"subclips.windows": "strided", "subclips.step": 0}, "subclips.step"),
    ],
    ids=str,
)
def test_only_strided_windows_have_a_step(changes: dict[str, Any], named: str) -> None:
    assert named in _refused(changes)


class _Blind(Mask2FormerVISSettings):
    """Reads less than it could."""

    unread: ClassVar[tuple[str, ...]] = (
        "criterion.points", "subclips.placement", "model.backbone.window", "model.pixel_decoder", "sync",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"criterion": {}, "model": {}, "sync": {}}, []),
        ({"criterion": {"points": 8}, "model": {}, "sync": {}}, ["criterion.points"]),
        ({"criterion": {}, "model": {}, "sync": {}, "subclips": None}, []),
        ({"criterion": {}, "model": {}, "sync": {}, "subclips.placement": "decode"}, ["subclips.placement"]),
        (
            {"criterion": {}, "model.backbone": {"name": "swin_t", "window": 3}, "sync": {}},
            ["model.backbone.window", "model.pixel_decoder"],
        ),
        ({"criterion": {}, "model": {"pixel_decoder": {"layers": 2}}, "sync": {}}, ["model.pixel_decoder"]),
        ({"criterion": {"points": 8}, "model": {}, **PLAIN}, ["criterion.points", "sync"]),
    ],
    ids=str,
)
def test_what_a_method_never_reads_stays_at_its_default(changes: dict[str, Any], found: list[str]) -> None:
    assert list(unread_changes(_Blind(), tiny_config(changes))) == found


def test_what_a_method_never_reads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mask2FormerVISSettings, "unread", ("criterion.points", "data.flip"))
    text = _refused({"data.flip": 0.1})
    assert "criterion.points, data.flip: mask2former_vis never reads this; leave it at its default" in text


def test_another_method_takes_nothing_over(write: Write) -> None:
    write("base.yaml", yaml.safe_dump(TINY | PLAIN))
    path = write("own.yaml", "base: base.yaml\nmethod: {name: 'mine:build', settings: {a: 1}}\n")
    assert load_config(path).method.model_dump() == {"name": "mine:build", "settings": {"a": 1}}
    assert load_config(path, ["method.name='yours:build'"]).method.model_dump() == {
        "name": "yours:build",
        "settings": {},
    }
    assert load_config(path, ["method.settings.b=2"]).method.model_dump()["settings"] == {"a": 1, "b": 2}
    back = load_config(path, ["method.name=mask2former_vis", "sync=null"])
    assert back.method.model_dump() == {"name": "mask2former_vis", "structure": "synchronous"}


def test_the_same_method_keeps_its_settings() -> None:
    """Also where only one of the two files names the default method."""
    structure = {"method": {"structure": "cascade"}}
    named = {"method": {"name": "mask2former_vis"}}
    assert merge(structure, named)["method"] == {"name": "mask2former_vis", "structure": "cascade"}
    assert merge({"method": {"name": "a:b"}}, structure)["method"] == {"name": "a:b", "structure": "cascade"}


def test_a_config_of_an_earlier_version_still_opens() -> None:
    """As a ledger has it: every value written out, the keys of this version not yet there."""
    tree = tiny_config().model_dump(mode="json")
    del tree["subclips"]["step"]
    assert RunConfig.model_validate(tree) == tiny_config()


def test_configs_are_read_without_torch() -> None:
    code = "import sys, syncvis.config as c; print(sorted(c.METHODS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{sorted(METHODS)} False"


def _open_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys at which ``module:function`` may stand."""
    for name, field in model.model_fields.items():
        for part in field.metadata:
            if isinstance(part, AfterValidator) and isinstance(part.func, Named) and part.func.references:
                yield prefix + name
        for inner in [field.annotation, *get_args(field.annotation)]:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _open_keys(inner, f"{prefix}{name}.")


def test_every_key_for_code_of_ones_own_is_known() -> None:
    methods = [settings for settings, _ in METHODS.values()]
    found = [
        *_open_keys(CommonConfig),
        *(key for m in [*methods, OwnMethodSettings] for key in _open_keys(m, "method.")),
    ]
    assert sorted(found) == sorted(OWN_CODE)


def test_the_modules_that_a_config_names() -> None:
    assert tiny_config().plugins == ()
    assert tiny_config({"sync": None, "subclips": None, "method": {"structure": "video_only"}}).plugins == ()
    own = tiny_config({"method": {"name": "b.c:build"}, "sync.aggregation": "a:x", "subclips.windows": "b.c:windows"})
    assert own.plugins == plugins_of(own.model_dump(mode="json")) == ("a", "b.c")


CTVIS = {"method": {"name": "ctvis"}}


@pytest.mark.parametrize(("sync", "causal", "window"), [({}, "prefix", 3), (None, "off", None)], ids=str)
def test_an_online_method_sees_the_past_where_it_exchanges(sync: Any, causal: str, window: int | None) -> None:
    found = tiny_config(CTVIS | {"sync": sync})
    assert isinstance(found.method, CTVISSettings)
    assert (found.method.causal, found.method.window) == (causal, window)
    assert found == tiny_config({"method": {"name": "ctvis", "causal": causal, "window": window}, "sync": sync})
    assert (found.model.decoder.time_code, found.criterion.tube_reduction) == (False, "per_frame_sum")


def test_off_needs_no_quotes(write: Write) -> None:
    path = write("run.yaml", yaml.safe_dump(merge(TINY, {"method": {"name": "ctvis"}})))
    found = load_config(path, ["method.causal=off"])
    assert isinstance(found.method, CTVISSettings)
    assert found.method.causal == "off"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method.causal": "prefix", "sync": None}, "method.causal: without sync no frame sees a later one"),
        ({"method.window": 2, "sync": None}, "method.window: without sync no frame sees another"),
        ({"method.causal": "always"}, "method.causal"),
        ({"method.tracker.match": -0.1}, "method.tracker.match"),
        ({"method.tracker.cache": 0}, "method.tracker.cache"),
        ({"method.structure": "auto"}, "method.structure"),
    ],
    ids=str,
)
def test_what_ctvis_refuses(changes: dict[str, Any], named: str) -> None:
    assert named in _refused(CTVIS | changes)
