"""Frames with a fault, told in as few words as name every video."""

from __future__ import annotations

import pytest

from syncvis.data.faulty_frames import Faulty, grouped


def _whole(video: int | None, length: int = 8) -> Faulty:
    return Faulty(video, length, tuple(f"v{video}/{t}.png" for t in range(length)))


@pytest.mark.parametrize(
    ("faulty", "lines"),
    [
        ([], []),
        ([_whole(1)], ["video 1: all 8 frames missing"]),
        ([_whole(2), _whole(1)], ["videos 1, 2: all 8 frames missing"]),
        (
            [_whole(1), Faulty(3, 8, ("v3/7.png",)), _whole(2)],
            ["videos 1, 2: all 8 frames missing", "video 3: 1 (v3/7.png)"],
        ),
        (
            [Faulty(3, 8, ("a", "b")), Faulty(4, 8, ("c",))],
            ["video 3: 2 frames missing (a, ...)", "video 4: 1 (c)"],
        ),
        ([Faulty(3, 8, ("a",))], ["video 3: 1 frame missing (a)"]),
        ([Faulty(3, 1, ("a",))], ["video 3: 1 frame missing (a)"]),
        ([_whole(1), _whole(9, 36)], ["video 1: all 8 frames missing", "video 9: all 36 frames"]),
        ([_whole(n, 2 + n) for n in range(10)], ["videos 0 to 9: all 65 frames missing"]),
        ([_whole(n) for n in (1, 3, 5, 7, 9, 11, 12, 13)], ["videos 1, 3, 5, 7, 9 and 3 more: all 8 frames missing"]),
        ([_whole(n) for n in (1, 2, 3, 5)], ["videos 1 to 3, 5: all 8 frames missing"]),
        ([_whole(None), _whole(None)], ["2 videos without an id: all 8 frames missing"]),
        (
            [Faulty(n, 8, ("a", "b")) for n in range(9)],
            [f"video {n}: 2{' frames missing' * (n == 0)} (a, ...)" for n in range(5)] + ["4 more videos: 8"],
        ),
    ],
    ids=str,
)
def test_grouped(faulty: list[Faulty], lines: list[str]) -> None:
    assert grouped(faulty, "missing") == lines


def test_an_example_where_the_reason_is_not_clear() -> None:
    assert grouped([_whole(1)], "unreadable", examples=True) == ["video 1: all 8 frames unreadable (v1/0.png, ...)"]


def test_images_are_called_so() -> None:
    assert grouped([Faulty(3, 1, ("a.jpg",))], "missing", "image") == ["image 3: 1 frame missing (a.jpg)"]
