"""What wrappers put before the names of a model is cut and named; what is no single model is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import official_skeleton as official
import pytest
import torch
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.stored import as_stored

State = dict[str, Tensor]

MASK_BIAS = "sem_seg_head.pixel_decoder.mask_features.bias"


@pytest.fixture(scope="module")
def state() -> State:
    return official.mask2former()


def _with(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def _other(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def _assert_equal(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


PREFIXES = (
    *("module.", "model.", "_orig_mod.", "ema_model.", "student.", "net.", "my_own.wrapper.", "0."),
    *("model.module.", "model.model.", "module._orig_mod.", "_orig_mod.module.", "_forward_module.model."),
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_one_prefix_is_cut_and_named(state: State, prefix: str, key: str | None) -> None:
    content = _with(prefix, state) if key is None else {key: _with(prefix, state), "epoch": 3}
    found = as_stored(content)
    _assert_equal(found.tensors, state)
    assert found.notes == (f"prefix {prefix!r} cut from {len(state)} names",)
    assert not found.passed


@pytest.mark.parametrize(
    "make",
    [
        official.resnet,
        official.swin,
        lambda: official.node(backbone=official.resnet()),
        lambda: official.node(backbone=official.swin()),
    ],
)
def test_a_prefix_of_a_backbone(make: Callable[[], Any]) -> None:
    state = official.random_state(make())
    found = as_stored({"state_dict": _with("model.module.", state)})
    _assert_equal(found.tensors, state)
    assert found.notes == (f"prefix 'model.module.' cut from {len(state)} names",)


def test_names_without_a_prefix_are_left_alone(state: State) -> None:
    for content in (state, {"model": state}, {"model": {"state_dict": state}}):
        found = as_stored(content)
        _assert_equal(found.tensors, state)
        assert not found.notes


def test_what_lies_beside_the_weights_is_passed_over_and_named(state: State) -> None:
    found = as_stored(
        {
            "state_dict": _with("model.", state) | {"extra_ema": torch.tensor(0.9)},
            "pytorch-lightning_version": "2.0",
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
            "optim": {"state": {"backbone.res2.0.conv1.weight": {"exp_avg": torch.zeros(3)}}, "param_groups": []},
            "queue": torch.zeros(4, 4),
        }
    )
    _assert_equal(found.tensors, state)
    assert found.passed == {
        "optimizer_states": "state or settings of a training, no weights",
        "optim": "state or settings of a training, no weights",
        "state_dict.extra_ema": "one number, outside of the model",
        "queue": "beside the weights",
        "pytorch-lightning_version": "no tensor",
    }


def test_torchs_averaged_model(state: State) -> None:
    found = as_stored({"n_averaged": torch.tensor(5), **_with("module.", state)})
    _assert_equal(found.tensors, state)
    assert list(found.passed) == ["n_averaged"]


def test_one_number_beside_names_without_a_prefix(state: State) -> None:
    found = as_stored(state | {"num_updates": torch.tensor(7)})
    _assert_equal(found.tensors, state)
    assert found.passed == {"num_updates": "one number, outside of the model"}


def test_a_name_in_two_dictionaries(state: State) -> None:
    name, tensor = next(iter(state.items()))
    part, _, rest = name.partition(".")
    with pytest.raises(StorageError, match="two names for one tensor"):
        as_stored(state | {part: {rest: tensor}})


def test_constants_of_the_loss_may_stand_outside(state: State) -> None:
    wrapped = _with("model.", state) | {"criterion.empty_weight": torch.ones(6)}
    assert as_stored(wrapped).passed.keys() == {"criterion.empty_weight"}


def test_wrappers_of_parts_are_cut(state: State) -> None:
    inner = {
        name.replace("backbone.", "backbone.module.").replace("sem_seg_head.", "sem_seg_head._orig_mod."): tensor
        for name, tensor in state.items()
    }
    found = as_stored(_with("model.", inner))
    _assert_equal(found.tensors, state)
    assert found.notes[0] == f"prefix 'model.' cut from {len(state)} names"
    assert f"from inside {len(state) - 1} names" in found.notes[1]


def test_parts_in_dictionaries_of_their_own(state: State) -> None:
    parts: dict[str, State] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    found = as_stored({"state_dict": parts})
    _assert_equal(found.tensors, state)
    assert not found.notes


TWO_SETS: dict[str, tuple[Callable[[State], Any], tuple[str, str]]] = {
    "prefixes": (lambda s: _with("model.", s) | _with("ema_model.", _other(s)), ("model.", "ema_model.")),
    "one of them bare": (lambda s: s | _with("ema.", _other(s)), ("", "ema.")),
    "students": (
        lambda s: {"state_dict": _with("student.", s) | _with("teacher.", _other(s))},
        ("student.", "teacher."),
    ),
    "dictionaries": (
        lambda s: {"state_dict": s, "state_dict_ema": _other(s), "optimizer": {"state": {}, "param_groups": []}},
        ("state_dict.", "state_dict_ema."),
    ),
    "both": (lambda s: {"model": s, "ema": _with("module.", _other(s))}, ("model.", "ema.module.")),
}


@pytest.mark.parametrize("kind", TWO_SETS)
def test_of_two_sets_one_must_be_chosen(state: State, kind: str) -> None:
    make, prefixes = TWO_SETS[kind]
    content = make(state)
    with pytest.raises(StorageError, match=r"x\.pth: holds two sets of weights") as error:
        as_stored(content, "x.pth")
    text = str(error.value)
    assert f"{len(state)} tensors of the same name differ" in text
    assert text.endswith("choose one with " + " or ".join(f"--prefix {p or repr(p)}" for p in prefixes))
    for prefix, wanted in zip(prefixes, (state, _other(state)), strict=True):
        for spelling in {prefix, prefix.rstrip(".")}:
            found = as_stored(content, "x.pth", spelling)
            _assert_equal(found.tensors, wanted)
            reasons = [reason for reason in found.passed.values() if reason.startswith("not behind the prefix")]
            assert len(reasons) == len(state)


def test_a_dictionary_alone_may_be_the_prefix(state: State) -> None:
    found = as_stored({"model": state, "ema": _with("module.", _other(state))}, prefix="ema")
    _assert_equal(found.tensors, _other(state))
    assert found.notes[0] == "weights under the key 'ema' taken"


def test_of_two_equal_sets_one_is_taken_and_said(state: State) -> None:
    copy = {name: tensor.clone() for name, tensor in state.items()}
    found = as_stored(_with("model.", state) | _with("ema_model.", copy))
    _assert_equal(found.tensors, state)
    assert set(found.passed.values()) == {"the same numbers as those with the prefix 'model.'"}
    assert len(found.passed) == len(state)


def test_a_prefix_that_no_name_has(state: State) -> None:
    with pytest.raises(
        StorageError, match=rf"no name with the prefix 'foo'; it has {len(state)} with the prefix 'a\.'"
    ):
        as_stored(_with("a.", state), "x.pth", "foo")


@pytest.mark.parametrize("cut", [0.5, 0.2, 0.99])
def test_a_mixture_is_named(state: State, cut: float) -> None:
    names = list(state)
    plain = names[: int(cut * len(names))]
    mixed = {name if name in plain else f"module.{name}": tensor for name, tensor in state.items()}
    with pytest.raises(StorageError, match=r"x\.pth: is a mixture of names: ") as error:
        as_stored(mixed, "x.pth")
    text = str(error.value)
    assert f"{len(plain)} without a prefix (such as {plain[0]})" in text
    assert f"{len(names) - len(plain)} with the prefix 'module.' (such as module.{names[len(plain)]})" in text


def test_weights_outside_of_the_prefix_are_no_small_matter(state: State) -> None:
    wrapped = _with("model.", state) | {"loss.weights": torch.ones(6)}
    with pytest.raises(StorageError, match=r"1 without a prefix \(such as loss\.weights\)\. Fix: .*--prefix model\."):
        as_stored(wrapped, "x.pth")
    found = as_stored(wrapped, "x.pth", "model.")
    _assert_equal(found.tensors, state)
    assert found.passed == {"loss.weights": "not behind the prefix 'model.'"}


def test_one_tensor_with_and_without_a_prefix(state: State) -> None:
    found = as_stored(state | {f"module.{MASK_BIAS}": state[MASK_BIAS].clone()})
    _assert_equal(found.tensors, state)
    assert list(found.passed) == [f"module.{MASK_BIAS}"]
    with pytest.raises(StorageError, match="two names for one tensor that differ") as error:
        as_stored(state | {f"module.{MASK_BIAS}": state[MASK_BIAS] + 1}, "x.pth")
    assert f"(1): {MASK_BIAS} and module.{MASK_BIAS}. Fix: " in str(error.value)


def test_names_of_no_known_kind() -> None:
    plain = {"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}
    assert as_stored(plain).tensors.keys() == plain.keys()
    assert as_stored({"model": _with("module.", plain)}).tensors.keys() == plain.keys()
    assert as_stored({"module.a": torch.zeros(2), "b": torch.zeros(2)}).tensors.keys() == {"module.a", "b"}
