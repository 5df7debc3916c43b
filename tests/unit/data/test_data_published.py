"""Published values beside ours: which data set, what was published, and how far ours is from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from syncvis.data.published import Published, Quantity, all_published, choose, find
from syncvis.data.stats import Holding, Statistics
from syncvis.data.stats_text import report, to_json
from syncvis.errors import ConfigError


def _statistics(videos: int, categories: int, instances: int, name: str = "train.json") -> Statistics:
    """Videos of two frames; every instance has a mask in one; all are in the first video."""
    return Statistics(
        name=name,
        lengths=(2,) * videos,
        objects=(instances, *(0,) * (videos - 1)),
        durations=(1,) * instances,
        crowds=0,
        categories={f"c{n}": Holding() for n in range(categories)},
        sizes={(10, 20): videos},
        areas=(),
        blank=0,
        fingerprints=tuple((f"{name} {n}",) for n in range(videos)),
    )


@pytest.mark.parametrize(
    ("text", "value", "step"), [("4883", 4883, 1), ("131k", 131_000, 1000), ("5.8", 5.8, 0.1), ("1.69", 1.69, 0.01)]
)
def test_numbers_as_published(text: str, value: float, step: float) -> None:
    assert Quantity.parse(text) == Quantity(text, value, pytest.approx(step))


@pytest.mark.parametrize("text", ["", "259 val + 268 test", "about 5", "k"])
def test_what_is_no_single_number(text: str) -> None:
    assert Quantity.parse(text) is None


def test_every_data_set_has_a_source_and_nothing_invented() -> None:
    assert [p.name for p in all_published()] == [
        "YouTube-VIS 2019",
        "YouTube-VIS 2021",
        "YouTube-VIS 2022 (additional long videos only)",
        "OVIS",
    ]
    assert all(len(p.source) > 10 for p in all_published())
    assert {p.values["masks_per_frame"] for p in all_published()} == {""}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("YouTube-VIS 2019", "YouTube-VIS 2019"),
        ("youtube_vis-2021", "YouTube-VIS 2021"),
        ("YouTube-VIS 2022", "YouTube-VIS 2022 (additional long videos only)"),
        ("ovis", "OVIS"),
    ],
)
def test_find(name: str, found: str) -> None:
    assert find(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("YouTube-VIS", "3 published data sets fit"),
        ("OVISS", "did you mean 'OVIS'"),
        ("", "0 published"),
        ("x", "use one"),
    ],
)
def test_find_refuses(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find(name)


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("ytvis_2019/train", "YouTube-VIS 2019"),
        ("YouTubeVIS2021", "YouTube-VIS 2021"),
        ("youtube-vis-2022", "YouTube-VIS 2022 (additional long videos only)"),
        ("OVIS", "OVIS"),
        ("novis", None),
        ("ytvis", None),
        ("synthetic", None),
    ],
)
def test_guess_by_the_folder(folder: str, found: str | None) -> None:
    published = choose(None, Path("data") / folder, [_statistics(3, 2, 4)])
    assert (published and published.name) == found


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([_statistics(2238, 40, 9)], "YouTube-VIS 2019"),
        ([_statistics(2985, 40, 9), _statistics(421, 40, 9, "valid.json")], "YouTube-VIS 2021"),
        ([_statistics(901, 25, 9, "all.json")], "OVIS"),
        ([_statistics(2238, 39, 9)], None),
        ([_statistics(2238, 40, 9, "train_split.json")], None),
    ],
)
def test_guess_by_the_counts(parts: list[Statistics], found: str | None) -> None:
    published = choose(None, Path("anything"), parts)
    assert (published and published.name) == found


def test_none_and_a_name_given_go_before_a_guess() -> None:
    assert choose("none", Path("ovis"), [_statistics(3, 2, 4)]) is None
    assert choose("OVIS", Path("ytvis_2019"), [_statistics(3, 2, 4)]) == find("OVIS")


def _row(text: str, label: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_differences_and_what_stays_empty() -> None:
    """5,000 and 100 instances of one mask each, in 2,000 and 883 videos of two frames."""
    parts = [_statistics(2000, 40, 5000), _statistics(883, 40, 100, "valid.json")]
    text = report(parts, find("YouTube-VIS 2019"), as_markdown=True)
    assert _row(text, "videos") == ["2,000", "883", "2,883", "2,883", "+0"]
    assert _row(text, "instances") == ["5,000", "100", "5,100", "4,883", "+217"]
    assert _row(text, "masks") == ["5,000", "100", "5,100", "131k", "~-125,900"]
    assert _row(text, "masks per frame") == ["1.25", "0.06", "0.88", "", ""]
    assert _row(text, "objects per video") == ["2.50", "0.11", "1.77", "1.69 *", "+0.08"]
    assert "train.json: 2,000 videos, published 2,238 (-238)." in text
    assert "valid.json: 883 videos, published 302 (+581)." in text
    assert "youtube-vos.org" in text
    assert "compare ratios" not in text


def test_other_videos_than_published_are_noted() -> None:
    text = report([_statistics(10, 40, 5)], find("YouTube-VIS 2019"))
    assert "The published numbers are of 2,883 videos, ours of 10: compare ratios, not counts." in text


def test_text_that_is_no_number_is_shown_without_a_difference() -> None:
    text = report([_statistics(71, 40, 5, "valid.json")], find("YouTube-VIS 2022"), as_markdown=True)
    assert _row(text, "videos") == ["71", "71 val + 89 test", ""]
    assert "valid.json: 71 videos, published 71 (+0)." in text


def test_json_has_the_same() -> None:
    found = to_json([_statistics(901, 25, 5223, "all.json")], find("OVIS"))["published"]
    assert found["differences"]["instances"] == 0
    assert found["differences"]["masks_per_frame"] is None
    assert found["differences"]["masks"] == 5223 - 296_000
    assert found["derived"] == ["objects_per_video"]


def test_a_part_that_we_cut_speaks_of_no_published_split() -> None:
    published: Published = replace(find("OVIS"), split_videos={"train": "607", "val": "140", "test": "154"})
    assert published.videos_of("train_split.json") is None
    assert published.videos_of("valid.json") == Quantity("140", 140, 1)
