"""The counts of data sets as tables, the published values beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from syncvis.data.published import DERIVED, Published, Quantity
from syncvis.data.stats import Statistics, combine
from syncvis.data.text_table import Rows, aligned, markdown

Summary = dict[str, Any]

_NONE = "-"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _ratio(value: float) -> str:
    return f"{value:,.2f}"


def _spread(spread: dict[str, float] | None) -> str:
    return _NONE if spread is None else " / ".join(f"{spread[key]:,g}" for key in ("min", "median", "max"))


def _area(spread: dict[str, float] | None) -> str:
    return _NONE if spread is None else " / ".join(f"{spread[key]:.2%}" for key in ("min", "median", "max"))


MEASURES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("videos", "videos", _whole),
    ("categories", "categories", _whole),
    ("categories_used", "categories with instances", _whole),
    ("instances", "instances", _whole),
    ("masks", "masks", _whole),
    ("frames", "frames", _whole),
    ("masks_per_frame", "masks per frame", _ratio),
    ("objects_per_video", "objects per video", _ratio),
    ("objects_per_video_max", "objects per video, most", _whole),
    ("video_length", "frames of a video, min / median / max", _spread),
    ("instance_duration", "frames of an instance, min / median / max", _spread),
    ("never_seen", "instances without a mask", _whole),
    ("crowd_share", "share of crowds", "{:.1%}".format),
)
BLANK = ("blank_masks", "masks without a pixel (not counted)", _whole)
"""Only where there are some."""
AREA = ("mask_area", "share of the frame, min / median / max", _area)
"""Only where there are masks."""


def report(parts: Sequence[Statistics], published: Published | None, as_markdown: bool = False) -> str:
    """All tables and notes as text."""
    table = markdown if as_markdown else aligned
    shown = [*parts, combine(parts)] if len(parts) > 1 else list(parts)
    summaries = [one.summary() for one in shown]
    sections = [
        table(_main_rows(summaries, published)),
        "\n".join(_notes(shown, published)),
        table(_category_rows(shown)),
        table(_size_rows(summaries)),
    ]
    return "\n\n".join(section for section in sections if section)


def to_json(parts: Sequence[Statistics], published: Published | None) -> dict[str, Any]:
    """The same numbers for a program; differences are ours, together, minus published."""
    together = combine(parts).summary()
    return {
        "splits": [part.summary() for part in parts],
        "together": together,
        "published": published and _published_json(published, together),
    }


def _published_json(published: Published, together: Summary) -> dict[str, Any]:
    differences = {key: published.difference(key, together[key]) for key in published.values}
    return {
        "name": published.name,
        "values": dict(published.values),
        "split_videos": dict(published.split_videos),
        "derived": [DERIVED],
        "differences": differences,
        "source": published.source,
        "note": published.note,
    }


def _main_rows(summaries: Sequence[Summary], published: Published | None) -> Rows:
    measures = [*MEASURES, *(shown for shown in (BLANK, AREA) if summaries[-1][shown[0]])]
    header = ["", *(summary["name"] for summary in summaries)]
    rows = [[label, *(show(summary[key]) for summary in summaries)] for key, label, show in measures]
    if published is not None:
        header += [published.name, "difference"]
        for row, (key, _, _) in zip(rows, measures, strict=True):
            row += _beside(published, key, summaries[-1][key])
    return [header, *rows]


def _beside(published: Published, key: str, ours: Any) -> tuple[str, str]:
    """The published value and how far ours is from it; both empty where nothing was published."""
    text = published.values.get(key, "")
    quantity = Quantity.parse(text)
    if quantity is None:
        return text, ""
    whole = quantity.step >= 1
    rounded = "~" if quantity.step > 1 else ""
    shown = f"{quantity.value:,.0f}" if quantity.step == 1 else text
    difference = f"{ours - quantity.value:+,.0f}" if whole else f"{ours - quantity.value:+,.2f}"
    return shown + (" *" if key == DERIVED else ""), rounded + difference


def _notes(shown: Sequence[Statistics], published: Published | None) -> list[str]:
    notes = [] if published is None else _published_notes(shown, published)
    if repeated := shown[-1].repeated:
        notes.append(f"{repeated} videos name the frames of an earlier one and were counted again.")
    return notes


def _published_notes(shown: Sequence[Statistics], published: Published) -> list[str]:
    notes = [f"Published: {published.name}, {published.source}."]
    if published.values[DERIVED]:
        notes.append("* Published instances divided by published videos; the published mean was not found.")
    quantity, ours = Quantity.parse(published.values["videos"]), shown[-1].videos
    if quantity is not None and quantity.value != ours:
        covered = f"The published numbers are of {quantity.value:,.0f} videos, ours of {ours:,}"
        notes.append(f"{covered}: compare ratios, not counts.")
    for part in shown:
        if (videos := published.videos_of(part.name)) is not None:
            difference = part.videos - videos.value
            notes.append(f"{part.name}: {part.videos:,} videos, published {videos.value:,.0f} ({difference:+,.0f}).")
    return notes


def _category_rows(shown: Sequence[Statistics]) -> Rows:
    """Most instances first."""
    total = shown[-1].categories
    names = sorted(total, key=lambda name: (-total[name].instances, -total[name].masks, name))
    columns = [f"{Path(one.name).stem} {what}" for one in shown for what in ("instances", "masks")]
    header = ["category", *(["instances", "masks"] if len(shown) == 1 else columns)]
    return [header, *([name, *(cell for one in shown for cell in _held(one, name))] for name in names)]


def _held(one: Statistics, name: str) -> tuple[str, str]:
    held = one.categories.get(name)
    return (_NONE, _NONE) if held is None else (_whole(held.instances), _whole(held.masks))


def _size_rows(summaries: Sequence[Summary], most: int = 10) -> Rows:
    """The commonest sizes first."""
    total = summaries[-1]["frame_sizes"]
    sizes = sorted(total, key=lambda size: (-total[size], size))
    header = ["height x width", *(f"{s['name']} videos" for s in summaries)]
    rows = [[size, *(_whole(s["frame_sizes"].get(size, 0)) for s in summaries)] for size in sizes[:most]]
    if rest := sizes[most:]:
        counts = [_whole(sum(s["frame_sizes"].get(size, 0) for size in rest)) for s in summaries]
        rows.append([f"{len(rest)} other sizes", *counts])
    return [header, *rows]
