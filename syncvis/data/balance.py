"""Cutting a set in two so that every kind is on both sides, in about the wanted share.

A local search in whole numbers: no rounding can differ between machines.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Chosen = NDArray[np.bool_]

_SCALE = 10**6
# A kind that is missing on one side weighs more than any imbalance of 1000 kinds, at this largest denominator.
_MISSING, _DENOMINATOR = 10**13, 1000
_SMALL = 100


class Balance:
    """Judges and improves a choice among V things.

    Args:
        counts: (V, K) how much of each of K kinds a thing holds.
        share: of each kind's sum, and of the sizes, that should be chosen.
        sizes: (V,) how much each thing counts by itself; default: 1.
    """

    def __init__(self, counts: Counts, share: Fraction, sizes: Counts | None = None) -> None:
        sizes = np.ones(len(counts), np.int64) if sizes is None else sizes
        self.counts = np.concatenate([sizes[:, None], counts], 1)
        self.total = self.counts.sum(0)
        self.divisible = (self.counts > 0).sum(0) > 1
        self.share = share.limit_denominator(_DENOMINATOR)
        self.weight = _SCALE // self.total.clip(1)
        self.weight[0] *= max(1, counts.shape[1])  # the sizes count as much as all kinds together

    def cost(self, chosen: Counts) -> Counts:
        """How bad a choice is. (..., 1 + K) chosen sums -> (...)."""
        off = np.abs(self.share.denominator * chosen - self.share.numerator * self.total)
        missing = self.divisible & ((chosen == 0) | (chosen == self.total))
        cost: Counts = (self.weight * off + _MISSING * missing).sum(-1)
        return cost

    def improve(self, chosen: Chosen) -> Chosen:
        """(V,) chosen -> a better choice with few changes; among equal ones the first thing changes.

        Where no single change helps, a change of one thing may help together with others that follow from it: this is
        tried for the things whose kinds are missing on one side, and for all of a small set.
        """
        best = self._descend(chosen, None)
        for thing in self._candidates(best):
            trial = best.copy()
            trial[thing] ^= True
            trial = self._descend(trial, thing)
            if self._cost_of(trial) < self._cost_of(best):
                best = trial
        return best

    def _candidates(self, chosen: Chosen) -> list[int]:
        if len(chosen) <= _SMALL:
            return list(range(len(chosen)))
        return [int(thing) for thing in np.flatnonzero(self.counts[:, self._missing(chosen)].any(1))]

    def _descend(self, chosen: Chosen, kept: int | None) -> Chosen:
        """Change the thing that helps most, again and again; ``kept`` stays as it is."""
        chosen = chosen.copy()
        while True:
            change = np.where(chosen, -1, 1)[:, None] * self.counts
            costs = self.cost(self._sums(chosen) + change)
            if kept is not None:
                costs[kept] = np.iinfo(np.int64).max
            best = int(costs.argmin())
            if costs[best] >= self._cost_of(chosen):
                return chosen
            chosen[best] ^= True

    def _sums(self, chosen: Chosen) -> Counts:
        sums: Counts = self.counts[chosen].sum(0)
        return sums

    def _cost_of(self, chosen: Chosen) -> int:
        return int(self.cost(self._sums(chosen)))

    def _missing(self, chosen: Chosen) -> Chosen:
        sums = self._sums(chosen)
        missing: Chosen = self.divisible & ((sums == 0) | (sums == self.total))
        return missing
