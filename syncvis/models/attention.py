"""Attention and feed-forward blocks; residual and norm included where Mask2Former has them (post-norm)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syncvis.ops.linear import TokenLinear


class Attention(nn.Module):
    """Multi-head attention without residual.

    Args:
        dim: C of queries, keys and output.
        heads: number of heads, a divisor of ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = TokenLinear(dim, dim)
        self.key = TokenLinear(dim, dim)
        self.value = TokenLinear(dim, dim)
        self.output = TokenLinear(dim, dim)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """query (M, Q, C), key and value (M, S, C), visible (M, Q, S) bool -> (M, Q, C)."""
        return self.attend(query, self.key(key), self.value(value), visible)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
        """Like ``forward``, on keys and values that are projected already."""
        q, k, v = (self.split(x) for x in (self.query(query), keys, values))
        mask = None if visible is None else visible[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.join(attended)

    def split(self, x: Tensor) -> Tensor:
        """Projected (M, S, C) -> (M, heads, S, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, attended: Tensor) -> Tensor:
        """What each head read, (M, heads, Q, C / heads) -> (M, Q, C)."""
        return self.output(attended.transpose(1, 2).flatten(2))


class RunningAttention:
    """Masked attention over keys that come in parts: that over all of them, up to rounding.

    The softmax runs along: what was read so far is scaled down whenever a larger score comes ("Online normalizer
    calculation for softmax", arXiv 1805.02867). A query without a visible key reads all of them, as in Mask2Former; it
    does so until the first visible one comes, and then starts anew.

    Args:
        attention: projects queries and output.
        query: (M, Q, C).
    """

    def __init__(self, attention: Attention, query: Tensor) -> None:
        q = attention.split(attention.query(query))
        self._attention, self._query = attention, q * q.shape[-1] ** -0.5
        self._none = torch.finfo(q.dtype).min
        self._largest = q.new_full((*q.shape[:-1], 1), self._none)
        self._total = torch.zeros_like(self._largest)
        self._read = torch.zeros_like(q)
        self._sees = torch.zeros(query.shape[:2], dtype=torch.bool, device=q.device)

    def read(self, keys: Tensor, values: Tensor, visible: Tensor) -> None:
        """Read a part: projected keys and values (M, S, C), visible (M, Q, S) bool."""
        sees = visible.any(-1)
        self._forget(sees & ~self._sees)
        self._sees = self._sees | sees
        scores = self._query @ self._attention.split(keys).mT
        scores = scores.masked_fill_(~(visible | ~self._sees[..., None])[:, None], -torch.inf)
        largest = torch.maximum(self._largest, scores.amax(-1, keepdim=True))
        weights, before = scores.sub_(largest).exp_(), (self._largest - largest).exp()
        self._largest = largest
        self._total = self._total * before + weights.sum(-1, keepdim=True)
        self._read = self._read * before + weights @ self._attention.split(values)

    def result(self) -> Tensor:
        """What the queries read of all parts, (M, Q, C)."""
        return self._attention.join(self._read / self._total)

    def _forget(self, queries: Tensor) -> None:
        """What some queries, (M, Q) bool, read so far."""
        chosen = queries[:, None, :, None]
        self._largest = self._largest.masked_fill(chosen, self._none)
        self._total = self._total.masked_fill(chosen, 0)
        self._read = self._read.masked_fill(chosen, 0)


class FeedForward(nn.Module):
    """norm(x + linear(relu(linear(x)))), (..., C) -> (..., C)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = TokenLinear(dim, hidden)
        self.linear2 = TokenLinear(hidden, dim)
        self.norm = nn.LayerNorm(dim)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))
