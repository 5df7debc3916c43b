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
        self.mask_embed = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, mask_dim)
        )

    def forward(self, level: Level, queries: Tensor, features: ClipFeatures) -> LevelOutput:
        """queries (B, T, Qf, C) or (B, Qv, C)."""
        embeddings = self.norm(queries)
        return LevelOutput(
            level,
            embeddings,
            self.class_embed(embeddings),
            self.mask_embed(embeddings),
            features.mask,
            features.guides[-1],
        )
