"""What an online method remembers of an instance: one embedding, brought up to date whenever the instance is seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Memory(Protocol):
    """The memory of one instance.

    Attributes:
        seen: in how many frames the instance was seen.
    """

    seen: int

    @property
    def embedding(self) -> Tensor:
        """(C,) what the embeddings of the next frame are compared with."""
        ...

    def update(self, embedding: Tensor, score: float) -> None:
        """Take in what the instance looks like now.

        Args:
            embedding: (C,).
            score: confidence of the detection.
        """
        ...


@dataclass
class SimilarityGuided:
    """m <- (1 - b) m + b e, where b is the mean cosine of e with earlier embeddings, at least 0 (arXiv 2203.14208).

    What resembles the instance so far moves the memory, an occluded or swapped view leaves it. The first embedding is
    the memory. Gradients pass through all of it (CTVIS trains its memory as it uses it).

    Attributes:
        cache: with how many of the latest embeddings a new one is compared; None: with all.
        recent: these embeddings, each (C,), the latest one last.
    """

    cache: int | None = None
    seen: int = 0
    recent: list[Tensor] = field(default_factory=list)
    _fused: Tensor | None = None

    @property
    def embedding(self) -> Tensor:
        assert self._fused is not None, "an empty memory"
        return self._fused

    def update(self, embedding: Tensor, score: float = 1.0) -> None:
        """The score takes no part."""
        if self._fused is None:
            self._fused = embedding
        else:
            earlier = F.normalize(torch.stack(self.recent), dim=-1)
            similarity = (earlier @ F.normalize(embedding, dim=-1)).mean().clamp(min=0)
            self._fused = (1 - similarity) * self._fused + similarity * embedding
        self.seen += 1
        self.recent.append(embedding)
        if self.cache is not None:
            del self.recent[: -self.cache]
