"""A table says with which states of the source its cells were trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from analysis.choice import find_experiments
from analysis.layout import caption
from analysis.render import html, markdown
from analysis.report import page, sections
from analysis.trials import load_trials
from sweeps import database

COMMIT, OTHER = "0123456789abcdef", "fedcba9876543210"
CLEAN = {"commit": COMMIT, "dirty": False, "diff": None, "source": "a" * 16, "changed": []}
STRAY = CLEAN | {"dirty": True, "diff": "1" * 64}
DIRTY = CLEAN | {"dirty": True, "diff": "2" * 64, "source": "b" * 16, "changed": ["syncvis/a.py"]}
OLD = {"commit": COMMIT, "dirty": True, "diff": "3" * 64}
OLDER = {"commit": OTHER, "dirty": False}
NOWHERE = {"commit": None, "dirty": False, "source": "c" * 16}

CASES = {
    "one": ([CLEAN, CLEAN], "Commit 0123456789."),
    "stray files": ([CLEAN, STRAY], "Commit 0123456789."),
    "commits with the same code": ([CLEAN, CLEAN | {"commit": OTHER}], "Commit 0123456789 = fedcba9876."),
    "uncommitted": ([DIRTY], "Commit 0123456789 with uncommitted changes (source bbbbbbbb)."),
    "in no commit": ([NOWHERE], "Commit unknown (source cccccccc)."),
    "of an older version": ([OLD], "Commit 0123456789 with uncommitted changes 33333333."),
    "mixed": (
        [DIRTY, CLEAN, STRAY],
        "Mixes 2 states of the source: 0123456789 (2 cells), 0123456789 with uncommitted changes (source bbbbbbbb) "
        "(1 cell); a difference may be one of the code.",
    ),
    "mixed, of an older version": (
        [OLD, OLDER, OLD | {"diff": "4" * 64}, CLEAN],
        "Mixes 4 states of the source: 0123456789 (1 cell), 0123456789 with uncommitted changes 33333333 (1 cell), "
        "0123456789 with uncommitted changes 44444444 (1 cell), fedcba9876 (1 cell); a difference may be one of the "
        "code.",
    ),
}

OWN = CLEAN | {
    "source": "d" * 16,
    "workbench": "a" * 16,
    "changed": [".plugins/mine.py"],
    "plugins": {"mine.py": "e" * 64},
}
CASES |= {
    "with a module of one's own": (
        [CLEAN, OWN, OWN],
        "Commit 0123456789. Code from outside: mine.py eeeeeeee (2 cells).",
    ),
    "with two states of it": (
        [OWN, OWN | {"source": "f" * 16, "plugins": {"mine.py": "9" * 64, "b.py": "1" * 64}}],
        "Commit 0123456789. Code from outside: b.py 11111111 (1 cell). Mixes 2 states of mine.py: eeeeeeee (1 cell), "
        "99999999 (1 cell); a difference may be one of the code.",
    ),
    "with a module of one's own, mixed": (
        [OWN, DIRTY | {"workbench": "b" * 16}],
        "Mixes 2 states of the source: 0123456789 (1 cell), 0123456789 with uncommitted changes (source bbbbbbbb) "
        "(1 cell); a difference may be one of the code. Code from outside: mine.py eeeeeeee (1 cell).",
    ),
}


@pytest.mark.parametrize(("results", "text"), CASES.values(), ids=list(CASES))
def test_states_in_the_caption(book: Any, read: Callable[..., Any], results: list[dict[str, Any]], text: str) -> None:
    book.describe(book.nk)
    for seed, result in enumerate(results):
        book.add("nk", {"Nk": 2}, seed, {"AP": 1.0, "AP50": 1.0}, result=result)
    assert caption(read(book, "nk")).endswith(f" {text}")


@pytest.fixture
def mixed(book: Any) -> Any:
    book.describe(book.nk)
    for seed, result in enumerate([CLEAN, DIRTY]):
        book.add("nk", {"Nk": 2}, seed, {"AP": 1.0, "AP50": 1.0}, result=result)
    return book


def test_they_are_named_on_the_page_too(mixed: Any) -> None:
    trials = load_trials(mixed.ledger)
    parts = sections(trials, find_experiments(trials, mixed.experiments, ["nk"]))
    told = "Mixes 2 states of the source: 0123456789 (1 cell), 0123456789 with uncommitted changes"
    assert told in markdown(parts[0].sheet)
    assert told in html(parts[0].sheet)
    text = page(parts, Path("outputs"))
    assert text.count(told) == 2  # the caption, and the facts below
    assert "states of the source: 0123456789, 0123456789 with uncommitted changes (source bbbbbbbb)." in text
    assert "<td>0123456789 with uncommitted changes (source bbbbbbbb)</td>" in text


def test_an_earlier_attempt_with_another_source_is_told(mixed: Any, read: Callable[..., Any]) -> None:
    for attempt, code in enumerate(("a" * 16, "b" * 16), 1):
        row = {"digest": code, "commit": COMMIT, "code": code, "patch": b"", "changed": "[]", "left_out": "[]"}
        mixed.do(database.sources.insert().values(**row))
        identity = {"cell_hash": f"{2:016x}", "attempt": attempt}
        mixed.do(database.attempt_sources.insert().values(**identity, digest=code))
    assert caption(read(mixed, "nk")).endswith(" 1 cell began with another source, in an earlier attempt.")
    for table in ("attempt_sources", "sources"):
        mixed.do(f"DROP TABLE {table}")
    assert "earlier attempt" not in caption(read(mixed, "nk"))


def test_a_role_that_may_not_read_the_sources_still_gets_its_tables(
    book_at: Any, request: pytest.FixtureRequest, tmp_path: Path, read: Callable[..., Any]
) -> None:
    server = request.getfixturevalue("postgres")
    url = server.database("sources")
    book = book_at(tmp_path, url)
    book.describe(book.nk)
    book.add("nk", {"Nk": 2}, 0, {"AP": 1.0, "AP50": 1.0}, result=CLEAN)
    book.do("CREATE ROLE source_reader LOGIN PASSWORD 'reader'")
    for table in ("about", "studies", "cells", "members", "attempts", "metrics", "results"):
        book.do(f"GRANT SELECT ON {table} TO source_reader")
    book.ledger = (
        sa.make_url(url).set(username="source_reader", password="reader").render_as_string(hide_password=False)
    )
    assert caption(read(book, "nk")).endswith(" Commit 0123456789.")
