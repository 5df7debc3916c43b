"""Tiny video files for tests: with a red corner, turned by a display matrix, cut, with covers and other tracks."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 48
ONE = 1 << 16
MATRICES = {
    "upright": (ONE, 0, 0, ONE),
    "90 clockwise": (0, ONE, -ONE, 0),
    "180": (-ONE, 0, 0, -ONE),
    "270 clockwise": (0, -ONE, ONE, 0),
    "mirrored": (-ONE, 0, 0, ONE),
    "upside down": (ONE, 0, 0, -ONE),
    "transposed": (0, ONE, ONE, 0),
    "transversed": (0, -ONE, -ONE, 0),
}
"""The numbers a, b, c, d of display matrices."""


def picture(t: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3): the stored top left is red, and a white bar moves below it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    pixels[:16, :16] = 230, 20, 20
    pixels[24:, t % WIDTH] = 255
    return pixels


def write_clip(
    path: Path,
    length: int = 4,
    codec: str = "libx264",
    matrix: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    sound: float = 0,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write 25 frames a second.

    Args:
        matrix: a, b, c, d of the display matrix (mp4, mov).
        times: when the frames are shown, in 25ths of a second.
        sound: seconds of silence.
    """
    with av.open(str(path), "w", options=dict(options or {})) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.thread_count = 1
        silence = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for t in range(length):
            frame = av.VideoFrame.from_ndarray(picture(t), format="rgb24")
            frame.pts = t if times is None else times[t]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for tenth in range(round(sound * 10)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 8000, 800 * tenth
            container.mux(silence.encode(samples))
    if matrix is not None:
        patch_matrix(path, matrix)
    return path


def patch_matrix(path: Path, matrix: Sequence[int]) -> None:
    """Put a, b, c, d into the track header of an mp4 that was written without a turn."""
    content, (a, b, c, d) = path.read_bytes(), matrix
    old, new = (
        struct.pack(">9i", *m) for m in ((ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    )
    start = content.index(old, content.index(b"tkhd"))
    path.write_bytes(content[:start] + new + content[start + len(old) :])


def cut(path: Path, share: float = 0.6) -> Path:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
