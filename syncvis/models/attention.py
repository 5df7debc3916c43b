"""Attention and feed-forward blocks; residual and norm included where Mask2Former has them (post-norm)."""

from __future__ import annotations

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
        q, k, v = (self._split(x) for x in (self.query(query), keys, values))
        mask = None if visible is None else visible[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


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
