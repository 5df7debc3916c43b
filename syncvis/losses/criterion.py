"""The training criterion: for every layer and level, matching and losses on the clip and on its sub-clips.

Weights and point sampling are Mask2Former's; sub-clip terms follow the paper's synchronised embedding optimisation.
Masks of all queries are never made: matching reads the mask features at its points, and only matched queries get masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.distributed import mean_over_processes, world_size
from syncvis.losses import mask_losses
from syncvis.losses.mask_losses import FrameSums
from syncvis.losses.matcher import Matches, match, matching_cost
from syncvis.losses.points import PointSource, RandomPoints
from syncvis.ops.linear import linear
from syncvis.ops.points import sample_masks, sample_points
from syncvis.structures import ClipOutput, ClipTarget, Level, PaddedTargets, Window, fold, unfold

IGNORE = -100


@dataclass(frozen=True)
class Criterion:
    """Predictions of all layers + targets + windows -> named, weighted losses.

    Attributes:
        class_weight, mask_weight, dice_weight: of cross-entropy, point BCE and dice, in matching and losses.
        no_object_weight: weight of the "no object" class inside the cross-entropy.
        frame_factor: multiplies the frame-level losses.
        points: where matching and mask losses look.
        reduction: (FrameSums, (T, W) indicator) -> BCE and dice per window.
        ignore_absent: in a sub-clip, leave queries out of the cross-entropy whose instance is seen only in other
            frames of the clip (else their class target there is "no object").
    """

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    frame_factor: float
    points: RandomPoints
    reduction: Callable[[FrameSums, Tensor], tuple[Tensor, Tensor]]
    ignore_absent: bool

    def __call__(
        self,
        output: ClipOutput,
        targets: Sequence[ClipTarget],
        windows: Sequence[Window],
        points: PointSource | None = None,
    ) -> dict[str, Tensor]:
        """Losses named ``<level or window>/layer<i>/<class|mask|dice>``; their plain sum is the training loss.

        Args:
            output: predictions of L + 1 layers on B clips.
            targets: B targets.
            windows: of the video level; the first one is the whole clip.
            points: given ones, instead of drawing them.
        """
        source = points or self.points
        losses: dict[str, Tensor] = {}
        with torch.autocast(output.mask_features.device.type, enabled=False):
            for view in self._views(output, targets, windows, source):
                matches = self._match(view)
                class_terms = self._class_losses(view, matches)
                mask_terms, dice_terms = self._mask_losses(view, matches, source)
                terms = {
                    "class": self.class_weight * class_terms,
                    "mask": self.mask_weight * mask_terms,
                    "dice": self.dice_weight * dice_terms,
                }
                losses.update(_named(terms, view.windows))
        return losses

    def matches(
        self,
        output: ClipOutput,
        targets: Sequence[ClipTarget],
        windows: Sequence[Window],
        points: PointSource | None = None,
    ) -> dict[Level, Matches]:
        """The matched pairs behind the losses; arguments as for the call. A clip of the frame level is one frame."""
        views = self._views(output, targets, windows, points or self.points)
        return {view.level: self._match(view) for view in views}

    def _views(
        self, output: ClipOutput, targets: Sequence[ClipTarget], windows: Sequence[Window], source: PointSource
    ) -> Iterator[_View]:
        """Each level as clips: those of the frame level have one frame and one window."""
        features, by_clip = output.mask_features.float(), PaddedTargets.of(targets)
        drawn = source.matching(len(targets), features.device)
        samples = [MatchingSample.of(features, by_clip, points) for points in drawn]
        for level in output.levels:
            predictions = output.predictions(level)
            class_logits = torch.stack([p.class_logits for p in predictions]).float()
            embeddings = torch.stack([p.mask_embeddings for p in predictions]).float()
            if level == "video":
                yield _View(level, class_logits, embeddings, features, by_clip, samples, windows)
                continue
            here, alone = [s.as_frames() for s in samples], [Window("frame", (0,), self.frame_factor)]
            frames = fold(features)[:, None]
            yield _View(level, class_logits, embeddings, frames, by_clip.as_frames(), here, alone)

    @torch.no_grad()
    def _match(self, view: _View) -> Matches:
        weights = (self.class_weight, self.mask_weight, self.dice_weight)
        costs = []
        for index, (logits, embeddings) in enumerate(zip(view.class_logits, view.embeddings, strict=True)):
            sample = view.samples[min(index, len(view.samples) - 1)]
            sums = sample.sums(embeddings)
            costs.append(matching_cost(logits, view.targets.labels, sums, view.inside, weights))
        return match(torch.stack(costs), view.present)

    def _class_losses(self, view: _View, matches: Matches) -> Tensor:
        """Cross-entropy (O, W), averaged with class weights over clips and queries."""
        logits, labels, present = view.class_logits, view.targets.labels, view.present
        outputs, clips, queries, classes = logits.shape
        no_object = classes - 1
        wanted = torch.full((outputs, clips, present.shape[1], queries), no_object, device=logits.device)
        if self.ignore_absent:
            whole = matches.window == 0
            output, clip, query, instance = (
                x[whole] for x in (matches.output, matches.clip, matches.query, matches.instance)
            )
            unseen, window = (~present[clip, :, instance]).nonzero(as_tuple=True)
            wanted[output[unseen], clip[unseen], window, query[unseen]] = IGNORE
        wanted[matches.output, matches.clip, matches.window, matches.query] = labels[matches.clip, matches.instance]
        weights = torch.where(wanted == no_object, self.no_object_weight, 1.0) * (wanted != IGNORE)
        log_probability = F.log_softmax(logits, -1)[:, :, None].expand(-1, -1, present.shape[1], -1, -1)
        picked = log_probability.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        total = mean_over_processes(weights.sum((1, 3))).clamp(min=1e-6)
        return -(weights * picked).sum((1, 3)) / total

    def _mask_losses(self, view: _View, matches: Matches, source: PointSource) -> tuple[Tensor, Tensor]:
        """Point BCE and dice, each (O, W), divided by the number of instances in the window.

        A pair that is matched in several windows is sampled once.
        """
        keys = torch.stack([matches.output, matches.clip, matches.query, matches.instance])
        (output, clip, query, instance), pair = keys.unique(dim=1, return_inverse=True)
        logits = masks_of(view.embeddings[output, clip, query], clip, view.features)
        bce, dice = self.reduction(
            _pair_sums(logits, view.targets.masks, clip, instance, source), view.inside
        )  # (U, W)
        # At least one over all processes; the mean itself may be smaller.
        count = mean_over_processes(view.present.sum((0, 2)).to(bce.dtype)).clamp(min=1 / world_size())
        place, zero = matches.output * len(count) + matches.window, bce.new_zeros(len(view.embeddings) * len(count))
        per_window = [
            zero.index_add(0, place, x[pair, matches.window]).view(-1, len(count)) / count for x in (bce, dice)
        ]
        return per_window[0], per_window[1]


@dataclass(frozen=True)
class _View:
    """The O outputs of one level on its M clips, with what they are to find.

    Attributes:
        class_logits: (O, M, Q, K+1).
        embeddings: (O, M, Q, C) mask embeddings.
        features: (M, T, C, h, w) mask features.
        samples: one for every output, or a single one for all.
    """

    level: Level
    class_logits: Tensor
    embeddings: Tensor
    features: Tensor
    targets: PaddedTargets
    samples: Sequence[MatchingSample]
    windows: Sequence[Window]

    @cached_property
    def inside(self) -> Tensor:
        """(T, W) indicator of the frames of each window."""
        return mask_losses.frames_inside([w.frames for w in self.windows], self.features.shape[1], self.features)

    @cached_property
    def present(self) -> Tensor:
        """(M, W, G): instances that a window has; the whole clip has all of its own, even one without a pixel."""
        seen = torch.einsum("mgt,tw->mwg", self.targets.present.to(self.inside.dtype), self.inside) > 0
        whole = self.inside.all(0)
        return seen | (whole[:, None] & self.targets.real[:, None])


@dataclass(frozen=True)
class MatchingSample:
    """Mask features and targets of clips at the points of their matching.

    Attributes:
        features: (M, T, P, C).
        targets: (M, T, G, P).
    """

    features: Tensor
    targets: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, features: Tensor, targets: PaddedTargets, points: Tensor) -> MatchingSample:
        """features (B, T, C, h, w), points (B, P, 2): the same in every frame of a clip."""
        masks = targets.masks.transpose(1, 2)
        num_frames, num_instances = masks.shape[1:3]
        by_frame = points.repeat_interleave(num_frames, 0)
        sampled = unfold(sample_points(fold(features), by_frame).mT.contiguous(), num_frames)
        which = torch.arange(masks[..., 0, 0].numel(), device=points.device)
        wanted = sample_masks(masks.flatten(0, 2), which, by_frame.repeat_interleave(num_instances, 0))
        return cls(sampled, wanted.view(*masks.shape[:3], points.shape[1]))

    def as_frames(self) -> MatchingSample:
        """B clips of T frames -> B*T clips of one frame."""
        return MatchingSample(fold(self.features)[:, None], fold(self.targets)[:, None])

    def sums(self, mask_embeddings: Tensor) -> FrameSums:
        """Mask embeddings (M, Q, C) -> sums of every query with every instance, (M, Q, G, T).

        Frame by frame: the logits of all queries at all points are the largest tensor of the losses.
        """
        clips = [
            FrameSums.stack(
                [mask_losses.all_pairs(linear(x, embeddings), y) for x, y in zip(frames, wanted, strict=True)]
            )
            for frames, wanted, embeddings in zip(self.features, self.targets, mask_embeddings, strict=True)
        ]
        return FrameSums.stack(clips, dim=0)


def _named(terms: Mapping[str, Tensor], windows: Sequence[Window]) -> dict[str, Tensor]:
    """Terms (O, W) -> one loss for each layer, window and term."""
    return {
        f"{window.name}/layer{layer}/{term}": window.weight * value
        for term, values in terms.items()
        for layer, row in enumerate(values)
        for window, value in zip(windows, row, strict=True)
    }


def _pair_sums(logits: Tensor, masks: Tensor, clip: Tensor, instance: Tensor, source: PointSource) -> FrameSums:
    """logits (U, T, h, w) of pairs, masks (M, G, T, H, W) -> FrameSums (U, T) at points of each mask's own."""
    instances, num_frames = masks.shape[1:3]
    each = fold(logits)[:, None]
    with torch.no_grad():
        points = source.losses(each)
        frames = torch.arange(num_frames, device=clip.device)
        which = ((clip * instances + instance)[:, None] * num_frames + frames).flatten()
        wanted = sample_masks(masks.flatten(0, 2), which, points)
    predicted = sample_points(each, points)[:, 0]
    return mask_losses.matched_pairs(unfold(predicted, num_frames), unfold(wanted, num_frames))


def masks_of(embeddings: Tensor, clip: Tensor, features: Tensor) -> Tensor:
    """Mask logits of some queries.

    Args:
        embeddings: (U, C) mask embeddings.
        clip: (U,) int64, whose features each of them reads.
        features: (M, T, C, h, w).

    Returns:
        (U, T, h, w).
    """
    clips, dim, (height, width) = features.shape[0], features.shape[2], features.shape[3:]
    counts = clip.bincount(minlength=clips)
    most = int(counts.max())
    # Sorted by clip, the n-th query of a clip takes its n-th place in a padded (M, most, C).
    order = clip.argsort(stable=True)
    place = torch.arange(len(clip), device=clip.device) - (counts.cumsum(0) - counts)[clip[order]]
    slot = torch.empty_like(clip)
    slot[order] = clip[order] * most + place
    padded = embeddings.new_zeros(clips * most, dim).index_copy(0, slot, embeddings).view(clips, 1, most, dim)
    masks = (padded @ features.flatten(3)).transpose(1, 2)  # (M, most, T, h*w)
    return fold(masks)[slot].unflatten(-1, (height, width))
