"""The training criterion: for every output of a view, matching and losses on the clip and on its sub-clips.

Weights and point sampling are Mask2Former's; sub-clip terms follow the paper's synchronised embedding optimisation.
Masks of all queries are never made: matching reads the mask features at its points, and only matched queries get masks.
The host waits for a device once, for what all matchings of an output look at; all indices are made on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.distributed import mean_over_processes, world_size
from syncvis.losses import mask_losses
from syncvis.losses.mask_losses import FrameSums
from syncvis.losses.matcher import Matches, Problem, hungarian, matching_cost, on_host
from syncvis.losses.points import PointSource, RandomPoints
from syncvis.losses.views import Supervision, View
from syncvis.ops.points import sample_masks, sample_points
from syncvis.outputs import ClipOutput
from syncvis.structures import Window, fold, unfold
from syncvis.transfer import to_device

IGNORE = -100


@dataclass(frozen=True)
class Criterion:
    """A view -> named, weighted losses, and the matched pairs behind them.

    Attributes:
        class_weight, mask_weight, dice_weight: of cross-entropy, point BCE and dice, in matching and losses.
        no_object_weight: weight of the "no object" class inside the cross-entropy.
        frame_factor: multiplies the frame-level losses.
        points: where matching and mask losses look, unless others are given.
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

    def __call__(self, view: View, problem: Problem | None = None) -> tuple[dict[str, Tensor], Matches]:
        """Losses named ``<window>/layer<i>/<class|mask|dice>``, whose plain sum is minimised, and their matches.

        Args:
            problem: what is to be matched, on the host; None: it is brought there.
        """
        problem = problem or on_host([self.problem(view)])[0]
        matches = hungarian(problem.costs, problem.present)
        with torch.autocast(view.features.device.type, enabled=False):
            class_terms = self._class_losses(view, matches, problem.present)
            mask_terms, dice_terms = self._mask_losses(view, matches)
        terms = {
            "class": self.class_weight * class_terms,
            "mask": self.mask_weight * mask_terms,
            "dice": self.dice_weight * dice_terms,
        }
        return _named(terms, view), matches

    def levels(
        self, output: ClipOutput, supervision: Supervision, windows: Sequence[Window]
    ) -> tuple[dict[str, Tensor], dict[str, Matches]]:
        """Losses and matches of every output of the levels that there are; see :meth:`views`."""
        return self.together(self.views(output, supervision, windows))

    def views(self, output: ClipOutput, supervision: Supervision, windows: Sequence[Window]) -> dict[str, View]:
        """A view of each level that there is, by its name.

        Args:
            windows: of the video level; the first one is the whole clip.
        """
        views: dict[str, View] = {}
        if frames := output.of("frame"):
            views["frame"] = supervision.of_frames(frames, self.frame_factor)
        if videos := output.of("video"):
            views["video"] = supervision.of_clips(videos, windows)
        return views

    def together(self, views: Mapping[str, View]) -> tuple[dict[str, Tensor], dict[str, Matches]]:
        """Losses of all views, and the matches of each by its name; the host waits once for all matchings."""
        losses: dict[str, Tensor] = {}
        matches: dict[str, Matches] = {}
        problems = on_host([self.problem(view) for view in views.values()])
        for (name, view), problem in zip(views.items(), problems, strict=True):
            terms, matches[name] = self(view, problem)
            losses.update(terms)
        return losses, matches

    @torch.no_grad()
    def problem(self, view: View) -> Problem:
        """What it costs to give instance g to query q, and which instances are there, on the device."""
        weights = (self.class_weight, self.mask_weight, self.dice_weight)
        costs = []
        with torch.autocast(view.features.device.type, enabled=False):
            for index, (logits, embeddings) in enumerate(zip(view.class_logits, view.mask_embeddings, strict=True)):
                sums = view.sample(index).sums(embeddings)
                costs.append(matching_cost(logits, view.targets.labels, sums, view.inside, weights))
            return Problem(torch.stack(costs), view.present)

    def _class_losses(self, view: View, matches: Matches, present: Tensor) -> Tensor:
        """Cross-entropy (O, W), averaged with class weights over clips and queries.

        Args:
            present: (M, W, G), on the host.
        """
        logits, labels = view.class_logits, view.targets.labels
        outputs, clips, _, queries, classes = logits.shape
        no_object = classes - 1
        wanted = torch.full((outputs, clips, present.shape[1], queries), no_object, device=logits.device)
        if self.ignore_absent:
            wanted[tuple(to_device(_absent(matches, present), logits.device))] = IGNORE
        found = [matches.output, matches.clip, matches.window, matches.query, matches.instance]
        output, clip, window, query, instance = to_device(found, logits.device)
        wanted[output, clip, window, query] = labels[clip, instance]
        weights = torch.where(wanted == no_object, self.no_object_weight, 1.0) * (wanted != IGNORE)
        log_probability = F.log_softmax(logits, -1).expand(-1, -1, present.shape[1], -1, -1)
        picked = log_probability.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        total = mean_over_processes(weights.sum((1, 3))).clamp(min=1e-6)
        return -(weights * picked).sum((1, 3)) / total

    def _mask_losses(self, view: View, matches: Matches) -> tuple[Tensor, Tensor]:
        """Point BCE and dice, each (O, W), divided by the number of instances in the window.

        A pair that is matched in several windows is sampled once.
        """
        keys = torch.stack([matches.output, matches.clip, matches.query, matches.instance])
        pairs, pair = keys.unique(dim=1, return_inverse=True)
        place = matches.output * view.present.shape[1] + matches.window
        moved = to_device([*pairs, pair, matches.window, place], view.features.device)
        output, clip, query, instance, pair, window, place = moved
        logits = masks_of(view.mask_embeddings[output, clip, :, query], pairs[1], view.features)
        sums = _pair_sums(logits, view.targets.masks, clip, instance, view.points)
        bce, dice = self.reduction(sums, view.inside)  # (U, W)
        # At least one over all processes; the mean itself may be smaller.
        count = mean_over_processes(view.present.sum((0, 2)).to(bce.dtype)).clamp(min=1 / world_size())
        zero = bce.new_zeros(len(view.mask_embeddings) * len(count))
        per_window = [zero.index_add(0, place, x[pair, window]).view(-1, len(count)) / count for x in (bce, dice)]
        return per_window[0], per_window[1]


def _absent(matches: Matches, present: Tensor) -> tuple[Tensor, ...]:
    """Where a query's instance of the whole clip is not seen: output, clip, window and query, on the host."""
    whole = matches.window == 0
    output, clip, query, instance = (x[whole] for x in (matches.output, matches.clip, matches.query, matches.instance))
    absent, window = (~present[clip, :, instance]).nonzero(as_tuple=True)
    return output[absent], clip[absent], window, query[absent]


def _named(terms: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
    """Terms (O, W) -> one loss for each layer, window and term."""
    return {
        f"{window.name}/layer{layer}/{term}": window.weight * value
        for term, values in terms.items()
        for layer, row in enumerate(values.unflatten(0, (-1, view.branches)).mean(1))
        for window, value in zip(view.windows, row, strict=True)
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
        embeddings: (U, 1, C) mask embeddings, or (U, T, C) if each frame has its own.
        clip: (U,) int64 on the host, whose features each of them reads.
        features: (M, T, C, h, w).

    Returns:
        (U, T, h, w).
    """
    clips, (height, width) = features.shape[0], features.shape[3:]
    parts, dim = embeddings.shape[1:]
    counts = clip.bincount(minlength=clips)
    most = int(counts.max())
    # Sorted by clip, the n-th query of a clip takes its n-th place in a padded (M, most, ...).
    order = clip.argsort(stable=True)
    place = torch.arange(len(clip)) - (counts.cumsum(0) - counts)[clip[order]]
    slot = torch.empty_like(clip)
    slot[order] = clip[order] * most + place
    (slot,) = to_device([slot], features.device)
    padded = embeddings.new_zeros(clips * most, parts, dim).index_copy(0, slot, embeddings)
    codes = padded.view(clips, most, parts, dim).transpose(1, 2)
    masks = (codes @ features.flatten(3)).transpose(1, 2)  # (M, most, T, h*w)
    return fold(masks)[slot].unflatten(-1, (height, width))
