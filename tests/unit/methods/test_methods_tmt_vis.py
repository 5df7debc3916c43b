"""TMT-VIS on Mask2Former-VIS: what the taxonomy adds, where it adds it, and where its text comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import METHOD_SETTINGS, MODULES, NUM_CLASSES, named_tensors, predict, random_batch, tiny_config
from torch import nn

from syncvis.data.class_text import write_class_text
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.methods import build
from syncvis.methods.tmt_vis import TMTVIS
from syncvis.models.taxonomy import FixedText, TaxonomyInjection
from syncvis.structures import ClipBatch
from syncvis.training.checkpoint import initialise, save_weights
from syncvis.training.optim import build_optimizer
from syncvis.training.start import start_from

NAMES, WIDTH = ("cat", "dog", "emu"), 6


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file that knows the classes in another order, and one more."""
    names = ("emu", "fox", "cat", "dog")
    rows = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)
    write_class_text(tmp_path / "text.safetensors", names, rows, "random")
    return tmp_path / "text.safetensors"


def _settings(source: str | Path, **settings: Any) -> dict[str, Any]:
    return {"method": {"name": "tmt_vis", "text": str(source), "width": WIDTH, "selected": 2, **settings}}


def _model(
    changes: Mapping[str, Any], names: Sequence[str] | None = NAMES, seed: int = 0, classes: int = NUM_CLASSES
) -> TMTVIS:
    """A tiny model with noise on all parameters, which has read its classes."""
    torch.manual_seed(seed)
    model = build(tiny_config(changes), classes)
    assert isinstance(model, TMTVIS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if names is not None:
        model.read_classes(names)
    return model


def _double(batch: ClipBatch) -> ClipBatch:
    return replace(batch, images=batch.images.double())


def test_text_is_found_by_name_in_the_order_of_the_class_head(text: Path) -> None:
    model = _model(_settings(text), names=None)
    assert isinstance(model.taxonomy.class_text, FixedText)
    assert model.taxonomy.class_text.weight.isnan().all()
    model.read_classes(NAMES)
    rows = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(model.taxonomy.class_text.weight, rows[[2, 3, 0]])
    assert "taxonomy.class_text.weight" in model.state_dict()
    assert "taxonomy.class_text.weight" not in dict(model.named_parameters())


def test_text_that_does_not_fit_is_refused(text: Path) -> None:
    with pytest.raises(DataError, match=r"text\.safetensors: has no embedding of the classes 'eel'"):
        _model(_settings(text), ("cat", "dog", "eel"))
    with pytest.raises(DataError, match=r"has 6 numbers for each class, and the model reads 7.*method\.width=6"):
        _model(_settings(text, width=7))
    with pytest.raises(StorageError, match=r"none\.safetensors: there is no such file"):
        _model(_settings("none.safetensors"))


def test_a_learned_text_only_where_the_config_says_so(text: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.text: Field required"):
        tiny_config({"method": {"name": "tmt_vis"}})
    model = _model(_settings("learned"))
    assert isinstance(model.taxonomy.class_text, nn.Embedding)
    model.losses(random_batch(2))["clip/layer3/class"].backward()
    assert model.taxonomy.class_text.weight.grad is not None
    assert model.taxonomy.class_text.weight.grad.any()
    groups = build_optimizer(model, tiny_config(_settings("learned")).train).param_groups
    decays = [
        group["weight_decay"] for group in groups for p in group["params"] if p is model.taxonomy.class_text.weight
    ]
    assert decays == [0.0]


@pytest.mark.parametrize("modules", MODULES)
def test_without_an_output_projection_it_is_mask2former_vis(text: Path, modules: str) -> None:
    """Bit for bit, in outputs, losses and gradients."""
    model = _model(_settings(text) | MODULES[modules])
    nn.init.zeros_(model.taxonomy.injection.output.weight)
    nn.init.zeros_(model.taxonomy.injection.output.bias)
    base = build(tiny_config({"method.structure": "auto", **MODULES[modules]}), NUM_CLASSES)
    state = model.state_dict()
    assert set(state) - set(base.state_dict()) == {name for name in state if name.startswith("taxonomy.")}
    base.load_state_dict({name: state[name] for name in base.state_dict()})
    batch, losses = random_batch(3, (2, 1)), []
    found, wanted = (named_tensors(predict(one, batch)) for one in (model, base))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(x, wanted[name]) for name, x in found.items())
    for one in (model, base):
        torch.manual_seed(3)
        losses.append(one.losses(batch))
        torch.stack(list(losses[-1].values())).sum().backward()
    assert all(torch.equal(x, losses[1][name]) for name, x in losses[0].items())
    own = dict(model.named_parameters())
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter.grad, own[name].grad), name


def test_frame_queries_are_there_for_the_exchange_only(text: Path) -> None:
    for modules, levels in (("none", {"video"}), ("+SEO", {"video"}), ("+SVFM", {"video", "frame"})):
        assert set(_model(_settings(text) | MODULES[modules]).decoder.query_sets) == levels


def test_the_injection_happens_once_before_the_first_layer(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The predictions before the first layer differ from frame to frame; those of Mask2Former-VIS do not."""
    model, calls = _model(_settings(text)).eval(), []
    forward = TaxonomyInjection.forward
    monkeypatch.setattr(TaxonomyInjection, "forward", lambda *args: (calls.append(1), forward(*args))[1])
    first = predict(model, random_batch(3)).layers[0].frame
    assert len(calls) == 1
    assert first is not None
    logits = first.class_logits[0]
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    model.losses(random_batch(3))
    assert len(calls) == 2


def test_the_selected_classes_are_those_of_the_settings(text: Path) -> None:
    taxonomy = _model(_settings(text, selected=1, replace=True)).taxonomy
    assert (taxonomy.selected, taxonomy.replace) == (1, True)
    assert taxonomy.compilation.heads == tiny_config().model.decoder.heads


@pytest.mark.parametrize("replace", [False, True])
def test_training_and_test_are_alike_and_another_text_is_not(text: Path, replace: bool) -> None:
    model, batch = _model(_settings(text, replace=replace)).double(), _double(random_batch(3))
    trained, tested = (named_tensors(predict(model.train(mode), batch)) for mode in (True, False))
    assert all(torch.equal(x, tested[name]) for name, x in trained.items())
    model.read_classes(("dog", "cat", "emu"))
    swapped = named_tensors(predict(model, batch))
    assert all(torch.allclose(x, tested[name], atol=1e-8) for name, x in swapped.items())
    model.taxonomy.class_text.weight.neg_()
    other = named_tensors(predict(model, batch))
    assert all((x - tested[name]).abs().max() > 1e-5 for name, x in other.items())


@pytest.mark.parametrize("modules", MODULES)
def test_video_queries_do_not_know_the_order_of_frames(text: Path, modules: str) -> None:
    model = _model(_settings(text) | {"model.decoder.time_code": False} | MODULES[modules]).double()
    order, batch = [2, 0, 3, 1], _double(random_batch(4, (1, 1)))
    moved = replace(batch, images=batch.images[:, order])
    found, wanted = (predict(model, one).final.video for one in (moved, batch))
    assert found is not None
    assert wanted is not None
    torch.testing.assert_close(found.class_logits, wanted.class_logits, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.mask_logits, wanted.mask_logits[:, :, order], rtol=0, atol=1e-6)


def test_clips_do_not_see_each_other(text: Path) -> None:
    model, batch = _model(_settings(text)).double(), _double(random_batch(3, (1, 1)))
    both = named_tensors(predict(model, batch))
    for b in range(2):
        alone = named_tensors(predict(model, ClipBatch(batch.images[b : b + 1], batch.valid[b : b + 1])))
        for name, x in alone.items():
            torch.testing.assert_close(x, both[name][b : b + 1], rtol=0, atol=1e-8)


def test_the_modules_change_nothing_of_the_taxonomy_that_a_seed_gives(text: Path) -> None:
    states = [_fresh(text, modules) for modules in MODULES]
    for state in states[1:]:
        assert all(
            torch.equal(x, states[0][name]) for name, x in state.items() if not name.endswith("class_text.weight")
        )


def _fresh(text: Path, modules: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = build(tiny_config(_settings(text) | MODULES[modules]), NUM_CLASSES)
    return {name: x for name, x in model.state_dict().items() if name.startswith("taxonomy.")}


def test_an_image_model_starts_all_but_the_taxonomy(text: Path, tmp_path: Path) -> None:
    start, queries = tmp_path / "start.safetensors", {"model.decoder.frame_queries": 4, **MODULES["none"]}
    save_weights(start, build(tiny_config({"method.structure": "frame_only", **queries}), NUM_CLASSES), {})
    model = _model(_settings(text) | queries)
    assert "fresh: taxonomy (not in the file)" in start_from(model, start, NAMES).words
    fresh = initialise(model, start)
    assert fresh == [name for name in model.state_dict() if name.startswith("taxonomy.")]
    model.read_classes(NAMES)
    assert model.taxonomy.class_text.weight.isfinite().all()


def test_a_run_on_other_classes_starts_all_but_head_and_text(text: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_weights(start, _model(_settings(text), ("fox", "emu"), seed=1, classes=2), {})
    model = _model(_settings(text))
    words = start_from(model, start, NAMES).words
    assert words == "fresh: class head (2 classes in the file, 3 here), text of the classes"
    fresh = initialise(model, start)
    assert {name.rsplit(".", 2)[-2] for name in fresh} == {"class_text", "class_embed"}


def test_a_run_on_as_many_other_classes_reads_its_own_text(text: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_weights(start, _model(_settings(text), ("fox", "emu", "dog"), seed=1), {})
    model = _model(_settings(text))
    wanted = model.taxonomy.class_text.weight.clone()
    assert initialise(model, start) == []
    assert not torch.equal(model.taxonomy.class_text.weight, wanted)
    model.read_classes(NAMES)
    assert torch.equal(model.taxonomy.class_text.weight, wanted)


def test_the_contract_is_tried_with_a_learned_text() -> None:
    """Which has all that the text of a file has, and a gradient."""
    assert METHOD_SETTINGS["tmt_vis"]["text"] == "learned"
