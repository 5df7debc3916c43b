from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from analysis.cli import app
from syncvis.errors import ConfigError


def invoke(book: Any, *arguments: str) -> Any:
    parent = typer.Typer()
    parent.add_typer(app, name="report")
    parent.command()(lambda: None)
    places = ["--out", str(book.out), "--experiments", str(book.experiments)]
    return CliRunner().invoke(parent, ["report", *arguments, *places], catch_exceptions=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Tags(HTMLParser):
    """Checks that tags are balanced and collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_command_writes_every_file_and_prints_tables_and_paths(frames_book: Any, nk_book: Any) -> None:
    result = invoke(nk_book)
    assert result.exit_code == 0
    files = content(nk_book.out / "report")
    kinds = [f"tables/{name}.{kind}" for name in ("frames", "nk") for kind in ("md", "tex", "csv", "html")]
    kinds += [f"figures/{name}.{kind}" for name in ("frames", "nk") for kind in ("png", "svg")]
    assert sorted(files) == sorted([*kinds, "index.html"])
    assert "| 10 (default) | **35.0 ± 7.1 (n=2/3†)**" in result.output
    assert str(nk_book.out / "report" / "index.html") in result.output.replace("\n", "")
    invoke(nk_book)
    assert content(nk_book.out / "report") == files  # the same bytes again


def test_options_may_follow_the_ids(nk_book: Any, frames_book: Any) -> None:
    result = invoke(nk_book, "nk", "--scale", "smoke")
    assert result.exit_code == 0
    assert not (nk_book.out / "report" / "tables" / "frames.md").exists()
    with pytest.raises(ConfigError, match="--scale smoke"):
        invoke(nk_book, "nk", "--scale", "paper")
    with pytest.raises(ConfigError, match="no experiment at scale paper"):
        invoke(nk_book, "--scale", "paper")


def test_report_is_self_contained_and_leads_to_runs_and_claims(nk_book: Any) -> None:
    overlays = nk_book.out / "runs" / f"{2:016x}" / "overlays"  # Nk = 10, seed 0, is the second cell
    for name in ("a.png", "b.png"):
        overlays.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (900, 600)).save(overlays / name)
    (overlays / "c.png").write_bytes(b"no picture")
    invoke(nk_book)
    text = (nk_book.out / "report" / "index.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(source.startswith("data:image/") for source in tags.sources)
    assert "script" not in tags.seen
    assert "link" not in tags.seen
    assert "There is an optimal Nk" in text
    assert "5 of 6 trials finished at scale smoke, seeds 0, 1, 2, commit 0123456789" in text
    assert "Our numbers at scale smoke: Best mean AP at Nk = 10" in text
    assert "gave_up: loss became NaN" in text
    assert re.search(r"<code>0{15}1</code>.*outputs/runs/0{15}1</code>", text)
    assert text.count("data:image/png") == 2
    assert "(picture cannot be read)" in text


def test_names_from_outside_are_escaped(book: Any) -> None:
    hostile = "</td><script>alert(1)</script>"
    book.add("x", {"a": hostile}, 0, {"AP": 1.0})
    book.add("x", {"a": "b"}, 0, None, state="gave_up", error=hostile)
    invoke(book)
    assert "<script" not in (book.out / "report" / "index.html").read_text()


def test_nothing_finished_is_said_not_an_error(book: Any) -> None:
    book.add("x", {"a": 1}, 0, None)
    book.add("x", {"a": 2}, 0, None)
    result = invoke(book)
    assert result.exit_code == 0
    assert "0 of 2 cells finished; not in the numbers: 2 planned." in result.output
    assert "nothing to compare yet" in result.output


def test_a_search_that_has_no_cell_yet_is_no_experiment_yet(book: Any) -> None:
    book.describe(book.search)
    with pytest.raises(ConfigError, match=r"ledger\.db: holds no experiment\. Fix: plan and run one"):
        invoke(book)
