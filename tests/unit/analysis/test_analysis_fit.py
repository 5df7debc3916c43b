"""No text of a figure reaches beyond its canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import render
from analysis.choice import find_experiments
from analysis.curves import curve
from analysis.fit import height, wrapped
from analysis.searches import search
from analysis.tables import ablation_table
from analysis.trials import load_trials

FILES = sorted((Path(__file__).parents[3] / "experiments").glob("*.yaml"))
EXPERIMENTS = [yaml.safe_load(file.read_text()) for file in FILES]
TITLES = [f"{one['title']} ({one.get('paper_ref', '')})" for one in EXPERIMENTS]
LONG = (
    "How does the weight of the exchange between both levels, and whether there is one, change the average precision?"
)
TITLES += [LONG, "Unbrokenwordwithoutanyblankthatiswiderthanthecanvasofourfigures" * 2, "X"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, before they become bytes."""
    figures: list[Figure] = []
    encode = render._encode
    monkeypatch.setattr(render, "_encode", lambda figure: figures.append(figure) or encode(figure))
    return figures


def assert_inside(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, (width, tall) = canvas.get_renderer(), figure.get_size_inches()
    for text in [text for text in figure.findobj(Text) if text.get_text() and text.get_figure() and _is_label(text)]:
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text.get_text()
    around = figure.get_tightbbox(renderer)  # also ticks and legends; in inches
    assert -0.01 <= around.x0 <= around.x1 <= width + 0.01
    assert -0.01 <= around.y0 <= around.y1 <= tall + 0.01
    for axes in figure.axes:
        assert axes.get_window_extent(renderer).width > 0.3 * figure.bbox.width


def _is_label(text: Text) -> bool:
    """A title or a label; ticks beyond the limits are objects, too, and nobody sees them."""
    figure = text.get_figure()
    labels = [figure._suptitle, figure._supxlabel]
    labels += [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label, axes.title)]
    return text in labels


@pytest.mark.parametrize("title", TITLES)
def test_titles_fit(frames_book: Any, read: Any, drawn: list[Figure], title: str) -> None:
    render.frames_curve(curve(read(frames_book, "frames")), title)
    assert_inside(drawn[0])
    assert "".join(drawn[0]._suptitle.get_text().split()) == "".join(title.split())


@pytest.mark.parametrize("seeds", [1, 3])
def test_settings_with_long_names_fit(book: Any, read: Any, drawn: list[Figure], seeds: int) -> None:
    axes = {f"a rather long name of an axis {n}": f"{LONG}{n}" for n in range(3)}
    text = book.nk.replace("Number of selected embeddings Nk", LONG)
    book.describe(text)
    for seed in range(seeds):
        for n in range(4):
            book.add("nk", {"Nk": 2, **axes, "n": n}, seed, {"AP": 10.0 * n, "AP50": 1.0})
    render.dot_plot(read(book, "nk"))
    assert_inside(drawn[0])


def test_lines_with_long_names_fit(book: Any, read: Any, drawn: list[Figure]) -> None:
    book.describe(book.frames.replace("SyncVIS:", f'"{LONG}":'))
    for method in (LONG, "Mask2Former-VIS"):
        for frames in (2, 4, 6):
            book.add("frames", {"method": method, "T": frames}, 0, {"AP": frames})
    render.frames_curve(curve(read(book, "frames")), LONG)
    assert_inside(drawn[0])


def test_a_search_fits(book: Any, drawn: list[Figure]) -> None:
    book.describe(book.search.replace("Search over the exchange", LONG))
    for n in range(25):
        axes = {"exchange": "with", "Nk": 1 + n % 16} if n % 3 else {"exchange": "none"}
        book.add("search", axes, n, {"AP": float(n), "AP50": 1.0}, number=n + 1)
    trials = load_trials(book.ledger)
    (experiment,) = find_experiments(trials, book.experiments, ["search"])
    found = search(trials, ablation_table(trials, experiment))
    assert found.importance
    render.search_figure(found)
    assert_inside(drawn[0])


def test_lines_are_as_long_as_they_may_be() -> None:
    text = wrapped(LONG, 3.0, 9)
    assert text.replace("\n", " ") == LONG
    assert 2 < text.count("\n") + 1 < 6
    assert wrapped("short", 3.0, 9) == "short"
    assert wrapped("", 3.0, 9) == ""
    assert "".join(wrapped("x" * 200, 1.0, 9).split("\n")) == "x" * 200
    assert height("one", 9) * 2 == height("one\ntwo", 9)
