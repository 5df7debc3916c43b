from __future__ import annotations

from math import ceil

import pytest
import torch
from torch import Tensor

from syncvis.models.decoder import DecoderLayer
from syncvis.models.heads import Heads
from syncvis.models.temporal import ClipDecoder, EncoderLayer, FrameQueryEncoder, TemporalModule, window_runs

DIM, MASK_DIM, HEADS, FFN, CLASSES = 16, 12, 2, 24, 3
FRAME_QUERIES, CLIP_QUERIES = 5, 4


def _encoder(window: int, compat: bool = False) -> FrameQueryEncoder:
    torch.manual_seed(0)
    return FrameQueryEncoder(DIM, HEADS, FFN, 4, window, compat).double()


def _temporal(window: int, compat: bool = False) -> TemporalModule:
    encoder = _encoder(window, compat)
    decoder = ClipDecoder(DIM, HEADS, FFN, 3, CLIP_QUERIES, FRAME_QUERIES)
    return TemporalModule(encoder, decoder, Heads(DIM, MASK_DIM, CLASSES), DIM, MASK_DIM).double()


def _queries(num_frames: int, clips: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.randn(clips, num_frames, FRAME_QUERIES, DIM, generator=generator, dtype=torch.float64)


def _masked(encoder: FrameQueryEncoder, queries: Tensor, window: int, shifts: bool) -> Tensor:
    """All frames in one attention that hides the frames of other windows; place t is frame t + ceil(W / 2) shifted."""
    x = encoder.projection(queries).flatten(1, 2)
    frame = torch.arange(queries.shape[1]).repeat_interleave(FRAME_QUERIES)
    for index, layer in enumerate(encoder.layers):
        assert isinstance(layer, EncoderLayer)
        group = (frame + (ceil(window / 2) if shifts and index % 2 else 0)) // window
        visible = (group[:, None] == group).expand(len(x), -1, -1)
        x = layer.ffn(layer.norm(x + layer.attention(x, x, x, visible)))
    return x.view_as(queries)


def test_published_sizes() -> None:
    with torch.device("meta"):
        encoder = FrameQueryEncoder(256, 8, 2048, layers=6, window=6)
        decoder = ClipDecoder(256, 8, 2048, layers=3, clip_queries=100, frame_queries=100)
        temporal = TemporalModule(encoder, decoder, Heads(256, 256, 40), 256, 256)
    assert sum(p.numel() for p in temporal.parameters()) == 13_175_081


def test_shapes() -> None:
    output = _temporal(window=3)(_queries(7))
    assert output.tokens.shape == output.frame_similarity.shape == (2, 7, FRAME_QUERIES, DIM)
    assert output.embeddings.shape == (3, 2, CLIP_QUERIES, DIM)
    assert output.class_logits.shape == (3, 2, CLIP_QUERIES, CLASSES + 1)
    assert output.mask_embeddings.shape == (3, 2, CLIP_QUERIES, MASK_DIM)
    assert output.clip_similarity.shape == (2, CLIP_QUERIES, DIM)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 6, 7, 12, 13])
def test_windows_hide_other_windows(num_frames: int, window: int) -> None:
    """A single window is shifted in compat only."""
    queries = _queries(num_frames)
    for compat in (False, True):
        encoder = _encoder(window, compat)
        torch.testing.assert_close(encoder(queries), _masked(encoder, queries, window, shifts=False))
        shifts = compat or num_frames > window
        torch.testing.assert_close(encoder(queries, shift=True), _masked(encoder, queries, window, shifts))


def test_window_runs() -> None:
    assert window_runs(14, 6, shifted=False) == [12, 2]
    assert window_runs(14, 6, shifted=True) == [3, 6, 5]
    assert window_runs(14, 5, shifted=True) == [2, 10, 2]
    assert window_runs(5, 6, shifted=True) == [3, 2]
    assert window_runs(2, 6, shifted=True) == [2]


def test_a_shifted_window_carries_over_the_border() -> None:
    """Frame 6 of 7 is alone in its plain window of 6; shifted, it hears of frames 3 to 5, and so of all others."""
    encoder = _encoder(window=6)
    queries = _queries(7).requires_grad_()

    def heard(frame: int, shift: bool) -> list[bool]:
        (gradient,) = torch.autograd.grad(encoder(queries, shift)[:, frame].sum(), queries)
        return [bool(x.any()) for x in gradient.unbind(1)]

    assert heard(6, shift=False) == [False] * 6 + [True]
    assert heard(6, shift=True) == [True] * 7


@pytest.mark.parametrize("shift", [True, False])
def test_a_clip_within_one_window_is_full_attention(shift: bool) -> None:
    for num_frames in (1, 5, 6):
        queries = _queries(num_frames)
        plain, full = (_encoder(window)(queries, shift) for window in (6, 0))
        assert torch.equal(plain, full)


def test_as_published_a_shift_cuts_a_single_window_in_two() -> None:
    queries = _queries(5)
    ours, published = (_encoder(6, compat)(queries, shift=True) for compat in (False, True))
    assert (ours - published).abs().max() > 1e-3


def test_clip_queries_do_not_see_the_order_of_frames() -> None:
    temporal, queries = _temporal(window=0), _queries(7)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    straight, mixed = (temporal(x, shift=True) for x in (queries, queries[:, order]))
    torch.testing.assert_close(mixed.class_logits, straight.class_logits)
    torch.testing.assert_close(mixed.mask_embeddings, straight.mask_embeddings)
    torch.testing.assert_close(mixed.frame_similarity, straight.frame_similarity[:, order])


def test_clip_queries_know_frame_queries_by_their_index() -> None:
    temporal, queries = _temporal(window=0), _queries(2)
    straight, mixed = (temporal(x).class_logits for x in (queries, queries.flip(2)))
    assert (straight - mixed).abs().max() > 1e-3


def test_clips_do_not_see_each_other() -> None:
    temporal, queries = _temporal(window=3), _queries(7)
    together, alone = (temporal(x, shift=True) for x in (queries, queries[1:]))
    torch.testing.assert_close(together.class_logits[:, 1:], alone.class_logits)
    torch.testing.assert_close(together.frame_similarity[1:], alone.frame_similarity)


def test_a_clip_decoder_can_be_continued() -> None:
    """Learned content is what it starts from unless it is given."""
    decoder = _temporal(window=0).decoder
    queries = _queries(3)
    learned = decoder.queries.content.weight.expand(2, -1, -1)
    assert torch.equal(decoder(queries), decoder(queries, learned))
    assert (decoder(queries, learned + 1) - decoder(queries)).abs().max() > 1e-3


def test_layers_of_the_clip_decoder() -> None:
    """The code of a frame query is in the keys, not in the values; positions are in queries and keys."""
    decoder, tokens = _temporal(window=0).decoder, _queries(3)
    keys, values = (tokens + decoder.frame_code.weight).flatten(1, 2), tokens.flatten(1, 2)
    state, place = decoder.queries.content.weight.expand(2, -1, -1), decoder.queries.position.weight
    for layer, found in zip(decoder.layers, decoder(tokens), strict=True):
        assert isinstance(layer, DecoderLayer)
        state = layer.cross_norm(state + layer.cross_attention(state + place, keys, values))
        state = layer.self_norm(state + layer.self_attention(state + place, state + place, state))
        state = layer.ffn(state)
        torch.testing.assert_close(found, state)


def test_what_the_heads_read() -> None:
    temporal, queries = _temporal(window=0), _queries(3)
    output = temporal(queries)
    embeddings = temporal.heads.norm(temporal.decoder(temporal.encoder(queries)))
    torch.testing.assert_close(output.embeddings, embeddings)
    torch.testing.assert_close(output.class_logits, temporal.heads.class_embed(embeddings))
    torch.testing.assert_close(output.mask_embeddings, temporal.heads.mask_embed(embeddings))
    torch.testing.assert_close(output.clip_similarity, temporal.clip_similarity(embeddings[-1]))
    torch.testing.assert_close(output.frame_similarity, temporal.frame_similarity(output.tokens))


def test_every_weight_learns() -> None:
    temporal = _temporal(window=3)
    output = temporal(_queries(4))
    loss = output.class_logits.sum() + output.mask_embeddings.sum()
    loss = loss + output.frame_similarity.sum() + output.clip_similarity.sum()
    loss = loss + temporal.mask_features(torch.randn(1, DIM, 2, 2, dtype=torch.float64)).sum()
    loss.backward()
    still = {name for name, p in temporal.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in still if not name.endswith("key.bias")} == set()
