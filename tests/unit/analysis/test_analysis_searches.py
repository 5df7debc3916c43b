"""Searched studies: axes that exist at some points only, pruned trials, best so far, importance."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from analysis import render
from analysis.choice import find_experiments
from analysis.layout import importance_text, search_sheet
from analysis.report import sections
from analysis.searches import MIN_TRIALS, Search, search
from analysis.tables import ablation_table
from analysis.trials import load_trials
from analysis.verdicts import search_verdict

NONE: dict[str, Any] = {"exchange": "none"}


def at(selected: int) -> dict[str, Any]:
    return {"exchange": "with", "Nk": selected}


def find(book: Any) -> Search:
    trials = load_trials(book.ledger)
    return search(trials, ablation_table(trials, find_experiments(trials, book.experiments, ["search"])[0]))


@pytest.fixture
def search_book(book: Any) -> Any:
    """Trials 1 to 8: 30, 20 pruned, 35, given up, 33, NaN, the second seed of the third: 25, running."""
    book.describe(book.search)
    book.add("search", NONE, 0, {"AP": 30.0, "AP50": 50.0})
    book.add("search", at(2), 0, None, state="pruned", reports=[10.0, 20.0, math.nan])
    book.add("search", at(10), 0, {"AP": 35.0, "AP50": None})
    book.add("search", at(3), 0, None, state="gave_up", error="boom")
    book.add("search", at(16), 0, {"AP": 33.0, "AP50": 53.0})
    book.add("search", at(5), 0, {"AP": None, "AP50": None})
    book.add("search", at(10), 1, {"AP": 25.0, "AP50": 45.0})
    book.add("search", at(7), 0, None, state="running", reports=[99.0])
    return book


def test_trials_by_number_with_the_best_so_far(search_book: Any) -> None:
    rows = find(search_book).trials.fillna({"value": -1.0})
    assert list(rows["number"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(rows["value"]) == [30.0, 20.0, 35.0, -1.0, 33.0, -1.0, 25.0, -1.0]
    assert list(rows["best"]) == [30.0, 30.0, 35.0, 35.0, 35.0, 35.0, 35.0, 35.0]
    assert list(rows["axis.Nk"]) == [None, 2, 10, 3, 16, 5, 10, 7]


def test_best_trials_say_what_became_of_the_others(search_book: Any) -> None:
    text = render.markdown(search_sheet(find(search_book)))
    assert "| trial | exchange | Nk | seed | AP | AP50 | AP of the point |" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert lines == [
        "| 3 | with | 10 | 0 | 35.0 | – | 30.0 ± 7.1 (n=2/2) |",
        "| 5 | with | 16 | 0 | 33.0 | 53.0 | 33.0 (n=1/1) |",
        "| 1 | none | – | 0 | 30.0 | 50.0 | 30.0 (n=1/1) |",
        "| 7 | with | 10 | 1 | 25.0 | 45.0 | 30.0 ± 7.1 (n=2/2) |",
    ]
    assert "5 of 8 cells finished; not in the numbers: 1 running, 1 pruned, 1 given up, 1 not a number." in text
    assert "the best 4 of 4 finished trials" in text


def test_verdict_of_a_search_claims_one_run(search_book: Any) -> None:
    text = search_verdict(find(search_book))
    where = "trial 3 (exchange = with, Nk = 10, seed 0), of 4 finished and 1 pruned trials"
    assert text.startswith(f"Best AP 35.0 at {where}; it is one run")


def test_the_default_of_a_range_and_of_an_absent_axis(search_book: Any, read: Any) -> None:
    rows = read(search_book, "search").of_metric()
    assert [row["axis.Nk"] for row in rows[rows["default"]].to_dict("records")] == [10]
    assert not (rows["mean"] == 20.0).any()  # what a pruned trial had reached


def test_a_base_without_the_axis_is_the_default(search_book: Any, read: Any) -> None:
    search_book.do(
        """UPDATE studies SET definition = replace(replace(definition, '"base": {',
        '"base": {"method": {"structure": "video_only"}, '), '"sync": {"num_selected": 10}', '"sync": null')"""
    )
    rows = read(search_book, "search").of_metric()
    assert [row["axis.exchange"] for row in rows[rows["default"]].to_dict("records")] == ["none"]


def test_importance_finds_the_axis_that_matters(book: Any) -> None:
    book.describe(book.search)
    for place in range(MIN_TRIALS - 1):
        nk = 1 + place % 16
        book.add("search", at(nk), place // 16, {"AP": 50.0 - abs(nk - 10), "AP50": 1.0})
    few = find(book)
    assert few.importance == {}
    assert f"needs {MIN_TRIALS} finished trials with an AP; there are {MIN_TRIALS - 1}" in importance_text(few)
    for seed in (0, 1):
        book.add("search", NONE, seed, {"AP": 45.0, "AP50": 1.0})
    found = find(book)
    assert list(found.importance) == ["Nk", "exchange"]
    assert sum(found.importance.values()) == pytest.approx(1.0)
    assert found.importance["Nk"] > 0.8
    assert f"the 5 best of {MIN_TRIALS + 1} finished trials" in importance_text(found)
    assert find(book).importance == found.importance


def test_a_label_that_the_study_lost_does_not_stop_the_report(book: Any) -> None:
    book.describe(book.search)
    for place in range(MIN_TRIALS):
        book.add("search", {"exchange": "gone" if place == 3 else "none", "old": 1}, place, {"AP": float(place)})
    assert list(find(book).importance) == ["exchange"]


def test_section_of_a_search(search_book: Any) -> None:
    trials = load_trials(search_book.ledger)
    (part,) = sections(trials, find_experiments(trials, search_book.experiments))
    assert "Importance of the axes needs" in part.verdict
    lines = list(csv.DictReader(io.StringIO(part.csv)))
    assert [line["state"] for line in lines][:4] == ["done", "pruned", "done", "gave_up"]
    assert (lines[0]["Nk"], lines[1]["value"], lines[3]["value"]) == ("", "20.0", "")
    svg = part.figure["svg"].decode()
    assert part.figure["png"].startswith(b"\x89PNG")
    assert all(f"<!-- {word} -->" in svg for word in ("pruned", "finished", "best so far"))
    assert render.search_figure(find(search_book)) == part.figure


def test_a_search_without_a_finished_trial(book: Any) -> None:
    book.describe(book.search)
    book.add("search", at(2), 0, None)
    found = find(book)
    assert search_verdict(found) == "No finished trial yet, 0 pruned."
    assert b"no finished run" in render.search_figure(found)["svg"]
    assert "1 planned" in render.markdown(search_sheet(found))
