"""Taxonomy of TMT-VIS: the names of the classes read the clip, and the queries read what the best of them found.

Source: TMT-VIS, official repository, frame decoder. Its compilation reads the mask features and works in training only;
here it reads the finest map of the pixel decoder, alike in training and test, and keeps the query as a residual.

Letters: B clips, T frames, Q queries, C channels, K classes, D width of the text, N selected classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from syncvis.models.attention import Attention
from syncvis.outputs import ClipFeatures, Queries


class FixedText(nn.Module):
    """A row per class that is given instead of learned, and stored with the weights.

    Args:
        rows: (K, D).
    """

    weight: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", rows)


class TaxonomyInjection(nn.Module):
    """A start of the query decoder: the contents of its queries, enriched by the classes that the clip seems to show.

    Each class name asks every frame by attention; the N classes whose answers agree most with their question are what
    the queries of that frame read. Video queries read answers averaged over the frames, so the order of the frames
    does not matter to them.

    Args:
        text: a row per class, (K, D).
        dim: C of queries and features.
        heads: of both attentions.
        selected: N; all classes where there are no more.
        replace: what was read takes the place of the query (the released code), instead of being added to it.
    """

    def __init__(
        self, text: FixedText | nn.Embedding, dim: int, heads: int, selected: int = 10, replace: bool = False
    ) -> None:
        super().__init__()
        self.class_text = text
        self.text_embed = nn.Sequential(
            nn.Linear(text.weight.shape[1], dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        self.compilation = Attention(dim, heads)
        self.injection = Attention(dim, heads)
        self.selected, self.replace = selected, replace

    def forward(self, queries: Queries, features: ClipFeatures) -> Queries:
        """Contents of the query sets that there are -> the contents that the decoder starts from."""
        asked = self._questions()
        return self._enrich(queries, asked, self._compile(asked, features.levels[-1]))

    def answers(self, cells: Tensor) -> Tensor:
        """What each class finds in some frames of the finest feature map: (B, t, C, h, w) -> (B, t, K, C)."""
        return self._compile(self._questions(), cells)

    def enrich(self, queries: Queries, answers: Tensor) -> Queries:
        """Contents of the query sets, enriched by the answers (B, T, K, C) of all frames."""
        return self._enrich(queries, self._questions(), answers)

    def _questions(self) -> Tensor:
        """One of each class, (K, C)."""
        return self.text_embed(self.class_text.weight)

    def _compile(self, asked: Tensor, cells: Tensor) -> Tensor:
        """Questions (K, C), feature map (B, T, C, h, w) -> what each class finds in each frame, (B, T, K, C)."""
        tokens = cells.flatten(3).transpose(2, 3).flatten(0, 1)
        found = self.compilation(asked.expand(len(tokens), -1, -1), tokens, tokens)
        return found.unflatten(0, cells.shape[:2])

    def _enrich(self, queries: Queries, asked: Tensor, answers: Tensor) -> Queries:
        frame, video = queries.frame, queries.video
        return Queries(
            frame=None if frame is None else self._inject(frame, asked, answers),
            video=None if video is None else self._inject(video, asked, answers.mean(1)),
        )

    def _inject(self, contents: Tensor, asked: Tensor, answers: Tensor) -> Tensor:
        """Contents (..., Q, C), questions (K, C), answers (..., K, C) -> contents (..., Q, C)."""
        rows = self._select(asked, answers).flatten(0, -3)
        read = self.injection(contents.flatten(0, -3), rows, rows).view_as(contents)
        return read if self.replace else contents + read

    def _select(self, asked: Tensor, answers: Tensor) -> Tensor:
        """The answers (..., K, C) of the N classes with the largest scalar product of question and answer, best first.

        The choice itself has no gradient.
        """
        scores = (asked * answers).sum(-1)
        best = scores.topk(min(self.selected, len(asked))).indices
        return answers.take_along_dim(best[..., None], -2)
