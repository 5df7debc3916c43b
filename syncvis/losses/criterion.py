"""The training criterion: for every layer and level, matching and losses on the clip and on its sub-clips.

Weights and point sampling are Mask2Former's; sub-clip terms follow the paper's synchronised embedding optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.losses import mask_losses
from syncvis.losses.mask_losses import FrameSums
from syncvis.losses.matcher import Matches, match, matching_cost
from syncvis.ops.points import sample_points, uncertain_points
from syncvis.structures import ClipOutput, ClipTarget, LevelOutput, PaddedTargets, Window

IGNORE = -100


@dataclass(frozen=True)
class Criterion:
    """Predictions of all layers + targets + windows -> named, weighted losses.

    Attributes:
        class_weight, mask_weight, dice_weight: of cross-entropy, point BCE and dice, in matching and losses.
        no_object_weight: weight of the "no object" class inside the cross-entropy.
        frame_factor: multiplies the frame-level losses.
        points: P, sampled points per mask.
        oversample, importance: see :func:`syncvis.ops.points.uncertain_points`.
        reduction: (FrameSums, (T, W) indicator) -> BCE and dice per window.
        ignore_absent: in a sub-clip, leave queries out of the cross-entropy whose instance is seen only in other
            frames of the clip (else their class target there is "no object").
    """

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    frame_factor: float
    points: int
    oversample: float
    importance: float
    reduction: Callable[[FrameSums, Tensor], tuple[Tensor, Tensor]]
    ignore_absent: bool

    def __call__(
        self, output: ClipOutput, targets: Sequence[ClipTarget], windows: Sequence[Window]
    ) -> dict[str, Tensor]:
        """Losses named ``<level or window>/layer<i>/<class|mask|dice>``; their plain sum is the training loss.

        Args:
            output: predictions of L + 1 layers on B clips.
            targets: B targets.
            windows: of the video level; the first one is the whole clip.
        """
        by_clip = PaddedTargets.of(targets)
        by_frame = by_clip.as_frames()
        losses: dict[str, Tensor] = {}
        for index, layer in enumerate(output.layers):
            for prediction in layer.levels():
                if prediction.level == "frame":
                    frame = [Window("frame", (0,), self.frame_factor)]
                    terms = self._level(prediction, by_frame, frame)
                else:
                    terms = self._level(prediction, by_clip, windows)
                losses.update({name.replace("/", f"/layer{index}/"): value for name, value in terms.items()})
        return losses

    def _level(self, prediction: LevelOutput, targets: PaddedTargets, windows: Sequence[Window]) -> dict[str, Tensor]:
        class_logits, mask_logits = (x.float() for x in prediction.as_clips())
        inside = mask_losses.frames_inside([w.frames for w in windows], mask_logits.shape[2], mask_logits)
        present = torch.einsum("mgt,tw->mwg", targets.present.float(), inside) > 0
        matches = self._match(class_logits, mask_logits, targets, inside, present)
        class_terms = self._class_losses(class_logits, targets.labels, matches, present)
        mask_terms, dice_terms = self._mask_losses(mask_logits, targets.masks, matches, inside, present)
        losses = {}
        for w, window in enumerate(windows):
            losses[f"{window.name}/class"] = window.weight * self.class_weight * class_terms[w]
            losses[f"{window.name}/mask"] = window.weight * self.mask_weight * mask_terms[w]
            losses[f"{window.name}/dice"] = window.weight * self.dice_weight * dice_terms[w]
        return losses

    @torch.no_grad()
    def _match(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        targets: PaddedTargets,
        inside: Tensor,
        present: Tensor,
    ) -> Matches:
        """One set of uniform points per clip, the same for all its masks, frames and windows."""
        clips, queries, num_frames = mask_logits.shape[:3]
        points = torch.rand(clips, self.points, 2, device=mask_logits.device)
        predicted = sample_points(mask_logits.flatten(1, 2), points).unflatten(1, (queries, num_frames))
        masks = targets.masks.to(mask_logits.dtype)
        wanted = sample_points(masks.flatten(1, 2), points).unflatten(1, (-1, num_frames))
        weights = (self.class_weight, self.mask_weight, self.dice_weight)
        sums = mask_losses.all_pairs(predicted, wanted)
        return match(matching_cost(class_logits, targets.labels, sums, inside, weights), present)

    def _class_losses(self, logits: Tensor, labels: Tensor, matches: Matches, present: Tensor) -> Tensor:
        """(M, Q, K+1) logits -> cross-entropy per window, (W,), averaged with class weights over clips and queries."""
        clips, queries, no_object = logits.shape[0], logits.shape[1], logits.shape[2] - 1
        wanted = torch.full((clips, present.shape[1], queries), no_object, device=logits.device)
        if self.ignore_absent:
            whole = matches.window == 0
            clip, query, instance = matches.clip[whole], matches.query[whole], matches.instance[whole]
            unseen, window = (~present[clip, :, instance]).nonzero(as_tuple=True)
            wanted[clip[unseen], window, query[unseen]] = IGNORE
        wanted[matches.clip, matches.window, matches.query] = labels[matches.clip, matches.instance]
        weights = torch.where(wanted == no_object, self.no_object_weight, 1.0) * (wanted != IGNORE)
        log_probability = F.log_softmax(logits, -1)[:, None].expand(-1, present.shape[1], -1, -1)
        picked = log_probability.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        total = weights.sum((0, 2)).clamp(min=1e-6)
        return -(weights * picked).sum((0, 2)) / total

    def _mask_losses(
        self, logits: Tensor, masks: Tensor, matches: Matches, inside: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Point BCE and dice per window, each (W,), divided by the number of instances present in the window.

        A pair that is matched in several windows is sampled once.
        """
        pairs = torch.stack([matches.clip, matches.query, matches.instance])
        (clip, query, instance), pair = pairs.unique(dim=1, return_inverse=True)
        sums = self._pair_sums(logits[clip, query], masks[clip, instance])
        bce, dice = self.reduction(sums, inside)  # (U, W)
        count = present.sum((0, 2)).clamp(min=1)
        zero = logits.new_zeros(len(count))
        per_window = [zero.index_add(0, matches.window, x[pair, matches.window]) / count for x in (bce, dice)]
        return per_window[0], per_window[1]

    def _pair_sums(self, logits: Tensor, masks: Tensor) -> FrameSums:
        """logits (U, T, h, w), masks (U, T, H, W) -> FrameSums of shape (U, T) at points of each mask's own."""
        num_frames = logits.shape[1]
        each = logits.flatten(0, 1)[:, None]
        with torch.no_grad():
            points = uncertain_points(each, self.points, self.oversample, self.importance)
            wanted = sample_points(masks.flatten(0, 1)[:, None].to(logits.dtype), points)
        predicted = sample_points(each, points)
        shape = (-1, num_frames, self.points)
        return mask_losses.matched_pairs(predicted.view(shape), wanted.view(shape))
