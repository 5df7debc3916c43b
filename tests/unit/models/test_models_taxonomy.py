"""Taxonomy injection against a calculation with loops, and what must hold whatever its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from syncvis.models.attention import Attention
from syncvis.models.taxonomy import FixedText, TaxonomyInjection
from syncvis.outputs import ClipFeatures, Queries

DIM, HEADS, WIDTH, CLASSES = 8, 2, 6, 7
Array = NDArray[np.float64]


def _injection(selected: int = 3, replace: bool = False, classes: int = CLASSES, seed: int = 0) -> TaxonomyInjection:
    """In double precision, with noise on what starts at zero."""
    torch.manual_seed(seed)
    made = TaxonomyInjection(FixedText(torch.randn(classes, WIDTH)), DIM, HEADS, selected, replace).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def _clip(clips: int = 2, frames: int = 3, seed: int = 1) -> tuple[Queries, ClipFeatures]:
    """Contents that are the same for all clips and frames, as a decoder has them, and random maps."""
    torch.manual_seed(seed)
    contents = torch.randn(5, DIM).double(), torch.randn(4, DIM).double()
    maps = [torch.randn(clips, frames, DIM, h, w).double() for h, w in ((1, 2), (2, 4), (3, 5))]
    features = ClipFeatures.of(maps, torch.randn(clips, frames, 3, 6, 10).double())
    return Queries(contents[0].expand(clips, frames, -1, -1), contents[1].expand(clips, -1, -1)), features


def _close(found: Queries, wanted: Queries) -> None:
    for x, y in zip(found.both(), wanted.both(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


def _array(x: Tensor) -> Array:
    return x.detach().numpy()


def _linear(x: Array, layer: nn.Linear) -> Array:
    return x @ _array(layer.weight).T + _array(layer.bias)


def _attended(layer: Attention, query: Array, keys: Array) -> Array:
    """(Q, C) and (S, C) -> (Q, C), one head and one query after the other; keys are the values too."""
    q, k, v = _linear(query, layer.query), _linear(keys, layer.key), _linear(keys, layer.value)
    size = DIM // HEADS
    out = np.zeros((len(query), DIM))
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for row in range(len(query)):
            weight = np.exp(k[:, part] @ q[row, part] / np.sqrt(size))
            out[row, part] = weight @ v[:, part] / weight.sum()
    return _linear(out, layer.output)


def _reference(module: TaxonomyInjection, queries: Queries, features: ClipFeatures) -> Queries:
    """The same with loops over clips, frames and classes."""
    asked = _array(module.class_text.weight)
    for layer in module.text_embed:
        asked = _linear(asked, layer) if isinstance(layer, nn.Linear) else np.maximum(asked, 0)

    def injected(content: Array, answers: Array) -> Array:
        scores = [float(question @ answer) for question, answer in zip(asked, answers, strict=True)]
        best = sorted(range(len(scores)), key=lambda c: -scores[c])[: module.selected]
        read = _attended(module.injection, content, answers[best])
        return read if module.replace else content + read

    frame, video = (x.clone() for x in queries.both())
    for b in range(len(video)):
        maps = _array(features.levels[-1][b])
        answers = [_attended(module.compilation, asked, x.reshape(DIM, -1).T) for x in maps]
        for t, answer in enumerate(answers):
            frame[b, t] = torch.from_numpy(injected(_array(frame[b, t]), answer))
        video[b] = torch.from_numpy(injected(_array(video[b]), np.mean(answers, 0)))
    return Queries(frame, video)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("selected", [1, 3, 99])
def test_it_is_the_calculation_with_loops(selected: int, replace: bool) -> None:
    module = _injection(selected, replace)
    _close(module(*_clip()), _reference(module, *_clip()))


def test_parameters_at_the_published_size() -> None:
    """By hand: three layers 1024-256-256-256 and two attentions of four 256 x 256 matrices, all with biases."""
    module = TaxonomyInjection(FixedText(torch.zeros(40, 1024)), 256, 8)
    by_hand = 1024 * 256 + 256 + 2 * (256 * 256 + 256) + 2 * 4 * (256 * 256 + 256)
    assert sum(p.numel() for p in module.parameters()) == by_hand == 920_320
    assert module.state_dict()["class_text.weight"].shape == (40, 1024)
    assert dict(module.named_buffers()).keys() == {"class_text.weight"}


def test_every_weight_gets_a_gradient_but_key_biases() -> None:
    module = _injection()
    queries, features = _clip()
    result = module(queries, features)
    sum(x.square().sum() for x in result.both()).backward()
    for name, parameter in module.named_parameters():
        moved = parameter.grad is not None and bool((parameter.grad.abs() > 1e-12).any())
        assert moved != name.endswith("key.bias"), name


def test_classes_in_another_order_with_their_text_change_nothing() -> None:
    module, order = _injection(), torch.randperm(CLASSES)
    wanted = module(*_clip())
    module.class_text = FixedText(module.class_text.weight[order])
    _close(module(*_clip()), wanted)


def test_another_text_changes_the_queries() -> None:
    module = _injection()
    before = module(*_clip())
    module.class_text = FixedText(module.class_text.weight.flip(1))
    for x, y in zip(module(*_clip()).both(), before.both(), strict=True):
        assert (x - y).abs().max() > 1e-3


def test_a_zero_output_projection_leaves_the_queries() -> None:
    module = _injection()
    nn.init.zeros_(module.injection.output.weight)
    nn.init.zeros_(module.injection.output.bias)
    queries, features = _clip()
    for x, y in zip(module(queries, features).both(), queries.both(), strict=True):
        assert torch.equal(x, y)


def test_training_and_test_are_alike() -> None:
    """In the released code they are not."""
    module = _injection()
    trained, tested = module.train()(*_clip()), module.eval()(*_clip())
    assert all(torch.equal(x, y) for x, y in zip(trained.both(), tested.both(), strict=True))


def test_clips_do_not_see_each_other() -> None:
    module, (queries, features) = _injection(), _clip()
    for b in range(2):
        one = [x[b : b + 1] for x in (*queries.both(), *features.levels, features.mask)]
        alone = module(Queries(*one[:2]), ClipFeatures.of(one[2:5], one[5]))
        _close(alone, Queries(*(x[b : b + 1] for x in module(queries, features).both())))


@pytest.mark.parametrize("frames", range(1, 8))
def test_any_number_of_frames(frames: int) -> None:
    """The queries of a frame are those of the frame alone, and a still clip has the video queries of one frame."""
    module, (queries, features) = _injection(), _clip(1, frames)
    frame, video = module(queries, features).both()
    assert (frame.shape, video.shape) == ((1, frames, 5, DIM), (1, 4, DIM))
    for t in range(frames):
        alone = module(Queries(frame=queries.both()[0][:, t : t + 1]), features.window((t,)))
        torch.testing.assert_close(alone.frame, frame[:, t : t + 1], rtol=0, atol=1e-12)
    still = module(queries, features.window((0,) * frames)).both()[1]
    one = module(Queries(video=queries.both()[1]), features.window((0,))).video
    torch.testing.assert_close(still, one, rtol=0, atol=1e-12)


def test_the_order_of_the_frames_moves_frame_queries_and_leaves_video_queries() -> None:
    module, (queries, features) = _injection(), _clip(2, 4)
    order = (2, 0, 3, 1)
    frame, video = module(queries, features).both()
    _close(module(queries, features.window(order)), Queries(frame[:, list(order)], video))


def test_with_as_many_selected_as_classes_scores_decide_nothing() -> None:
    module = _injection(CLASSES)
    wanted = module(*_clip())
    module._select = lambda asked, answers: answers  # type: ignore[method-assign]
    _close(module(*_clip()), wanted)


def test_a_frame_that_shows_a_class_selects_it() -> None:
    """Each frame is filled with one question; attention that hands values through answers it to every class."""
    module = _injection(1, classes=3)
    for linear in (module.compilation.value, module.compilation.output):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    asked = torch.eye(3, DIM).double()
    answers = module._compile(asked, asked.flip(0)[None, :, :, None, None].expand(-1, -1, -1, 2, 2))
    torch.testing.assert_close(module._select(asked, answers)[0, :, 0], asked.flip(0))
