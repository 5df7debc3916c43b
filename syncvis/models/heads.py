"""Prediction heads: one norm, one class layer and one mask MLP for every query set that shares them."""

from __future__ import annotations

from torch import Tensor, nn

from syncvis.outputs import ClipFeatures, LevelOutput
from syncvis.structures import Level


class Heads(nn.Module):
    """Queries -> class logits and mask embeddings.

    Args:
        dim: C of the queries.
        mask_dim: channels of the mask features.
        num_classes: K; one more logit stands for "no object".
    """

    def __init__(self, dim: int, mask_dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = _mlp(dim, mask_dim)

    def forward(self, level: Level, queries: Tensor, features: ClipFeatures) -> LevelOutput:
        """queries (B, T, Qf, C) or (B, Qv, C)."""
        return LevelOutput(level, *self.predict(queries), features.mask, features.guides[-1])

    def predict(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """queries (..., C) -> normalised queries (..., C), class logits (..., K+1), mask embeddings (..., C)."""
        embeddings = self.norm(queries)
        return embeddings, self.class_embed(embeddings), self.mask_embed(embeddings)


def identity_head(dim: int) -> nn.Sequential:
    """Normalised queries (..., C) -> embeddings (..., C) that tell instances apart over time (CTVIS' ``reid_embed``).

    Its initialisation is detectron2's ``c2_xavier_fill``.
    """
    head = _mlp(dim, dim)
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
    return head


def _mlp(dim: int, out: int) -> nn.Sequential:
    """Three linear layers of width C with ReLU between."""
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out))
