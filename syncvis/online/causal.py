"""Frame queries at test time, frame by frame: what a frame sees of other frames is the past."""

from __future__ import annotations

from collections.abc import Callable

from syncvis.models.decoder import QueryDecoder
from syncvis.outputs import ClipFeatures, ClipOutput, LevelOutput


class CausalFrames:
    """Predictions of the frame queries for each next frame of a video.

    Args:
        decode: features of a clip -> predictions with a frame level.
        window: frames that are decoded together, the frame itself the last of them; None where frames do not see each
            other, which are then decoded as they come.
    """

    def __init__(self, decode: Callable[[ClipFeatures], ClipOutput], window: int | None) -> None:
        self._decode, self._window = decode, window
        self._past: ClipFeatures | None = None

    @classmethod
    def of(cls, decoder: QueryDecoder, window: int) -> CausalFrames:
        """Frames see the window only where they exchange with video queries, which are else left out."""
        if decoder.exchanges:
            return cls(decoder, window)
        return cls(lambda features: decoder(features, levels=["frame"]), None)

    def __call__(self, features: ClipFeatures) -> LevelOutput:
        """Features (1, t, ...) of the next frames -> what the frame queries predict there after the last layer."""
        if self._window is None:
            return self._final(features)
        each = [self._next(features.window((t,)), self._window) for t in range(features.num_frames)]
        return LevelOutput.concat(each)

    def _next(self, frame: ClipFeatures, window: int) -> LevelOutput:
        seen = frame if self._past is None else ClipFeatures.concat([self._past, frame])
        kept = range(max(0, seen.num_frames - window + 1), seen.num_frames)
        self._past = seen.window(tuple(kept))
        return self._final(seen).window((seen.num_frames - 1,))

    def _final(self, features: ClipFeatures) -> LevelOutput:
        frame = self._decode(features).final.frame
        assert frame is not None
        return frame
