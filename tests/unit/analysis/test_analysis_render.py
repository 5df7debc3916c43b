from __future__ import annotations

import csv
import io
import struct
from typing import Any

import pytest

from analysis import render
from analysis.curves import curve
from analysis.layout import mean_text, sheet

HOSTILE = "=cmd()|<script>alert(1)</script> $x_1$ \\input{a} & 5% `*"


def row(mean: float, spread: float, n: int, planned: int, invalid: int = 0) -> dict[str, Any]:
    return {"mean": mean, "spread": spread, "n": n, "planned": planned, "invalid": invalid}


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (row(41.234, 1.28, 3, 3), "41.2 ± 1.3 (n=3/3)"),
        (row(41.2, float("nan"), 1, 1), "41.2 (n=1/1)"),
        (row(41.2, 1.3, 2, 3), "41.2 ± 1.3 (n=2/3†)"),
        (row(41.2, 1.3, 2, 3, 1), "41.2 ± 1.3 (n=2/3†, 1 NaN)"),
        (row(41.2, float("nan"), 1, 3), "41.2 (n=1/3†)"),
        (row(float("nan"), float("nan"), 0, 2), "– (n=0/2†)"),
    ],
)
def test_a_cell_says_how_many_seeds_it_is_over(numbers: dict[str, Any], text: str) -> None:
    assert mean_text(numbers) == text


def test_markdown(nk_book: Any, read: Any) -> None:
    assert render.markdown(sheet(read(nk_book, "nk"))) == (
        "**Number of selected embeddings Nk (Table 8)**\n\n"
        "| Nk | AP | AP50 | ΔAP to default |\n"
        "| --- | --: | --: | --: |\n"
        "| 2 | 15.0 ± 7.1 (n=2/3†, 1 NaN) | 16.0 ± 7.1 (n=2/3†, 1 NaN) "
        "| −20.0 \\[−20.0, −20.0\\] (n=2/3†) |\n"
        "| 10 (default) | **35.0 ± 7.1 (n=2/3†)** | **36.0 ± 7.1 (n=2/3†)** |  |\n\n"
        "AP, AP50 in percent at scale smoke on tiny (feedbeef): mean ± sample standard deviation "
        "(n = seeds with a value / of how many), seeds 0, 1, 2. Bold: best mean; in AP its lead over the second is "
        "beyond the seed spread. Δ: paired over seeds, 95 % t interval. † fewer seeds than planned. "
        "5 of 6 cells finished; not in the numbers: 1 given up, 1 not a number. Commit 0123456789.\n"
    )


def test_latex(nk_book: Any, read: Any) -> None:
    text = render.latex(sheet(read(nk_book, "nk")))
    assert (
        "\\begin{tabular}{lrrr}\n\\toprule\nNk & AP & AP50 & $\\Delta$AP to default \\\\\n\\midrule\n"
        "2 & 15.0 $\\pm$ 7.1 (n=2/3$\\dagger$, 1 NaN) & 16.0 $\\pm$ 7.1 (n=2/3$\\dagger$, 1 NaN) "
        "& $-$20.0 [$-$20.0, $-$20.0] (n=2/3$\\dagger$) \\\\\n"
        "10 (default) & \\textbf{35.0 $\\pm$ 7.1 (n=2/3$\\dagger$)} "
        "& \\textbf{36.0 $\\pm$ 7.1 (n=2/3$\\dagger$)} &  \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    ) in text
    assert "\\label{tab:nk}" in text


def test_csv_holds_raw_numbers(nk_book: Any, read: Any) -> None:
    text = render.csv_text(read(nk_book, "nk"))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 4
    assert text.splitlines()[1].startswith("nk,smoke,2,AP,15.0,7.071067811865")
    assert (lines[0]["n"], lines[0]["planned"], lines[0]["invalid"]) == ("2", "3", "1")
    assert (lines[0]["difference"], lines[0]["published"]) == ("-20.0", "")


def test_columns_along_an_axis(frames_book: Any, read: Any) -> None:
    file = frames_book.experiments / "frames.yaml"
    file.write_text(file.read_text().replace("metrics: [AP]", "metrics: [AP, AP50]"))
    text = render.markdown(sheet(read(frames_book, "frames")))
    assert "| method | AP, T = 2 | AP, T = 4 | AP, T = 6 |" in text
    assert "| SyncVIS | **33.0 ± 1.4 (n=2/2)** | **36.0 ± 2.8 (n=2/2) \\*** | **39.0 ± 4.2 (n=2/2)** |" in text
    assert "\nAP in percent at scale" in text  # one metric is shown, the CSV has both
    assert "AP50" in render.csv_text(read(frames_book, "frames"))


def test_hostile_names_are_escaped_everywhere(book: Any, read: Any) -> None:
    book.add("x", {HOSTILE: HOSTILE}, 0, {"AP": 5.0})
    table = read(book, "x")
    assert "<script>" not in render.html(sheet(table))
    assert "&lt;script&gt;" in render.html(sheet(table))
    tex = render.latex(sheet(table))
    assert "\\input{a}" not in tex
    assert "\\textbackslash{}input\\{a\\} \\& 5\\%" in tex
    assert "\\$x\\_1\\$" in tex
    markdown = render.markdown(sheet(table)).splitlines()[2:5]
    assert all(line.replace("\\|", "").count("|") == 5 for line in markdown)
    assert "<script" not in markdown[0].replace("\\<", "")
    header, line = list(csv.reader(io.StringIO(render.csv_text(table))))[:2]
    assert (header[2], line[2]) == ("'" + HOSTILE, "'" + HOSTILE)
    assert render.dot_plot(table)["png"]


def test_names_stay_inside_their_folder() -> None:
    assert render.slug("../../etc/passwd") == "etc-passwd"
    assert render.slug("..") == "unnamed"


def test_a_method_has_one_colour_everywhere() -> None:
    alone = render.styles(["SyncVIS"])["SyncVIS"]
    together = render.styles(["ours", "SyncVIS", "Mask2Former-VIS"])
    assert together["SyncVIS"] == alone
    assert len({colour for colour, _, _ in together.values()}) == 3


def test_figures_are_pictures_and_the_same_bytes_again(frames_book: Any, nk_book: Any, read: Any) -> None:
    frames, nk = read(frames_book, "frames"), read(nk_book, "nk")
    first = render.frames_curve(curve(frames), "title"), render.dot_plot(nk)
    again = render.frames_curve(curve(frames), "title"), render.dot_plot(nk)
    assert first == again
    for figure in first:
        assert figure["png"].startswith(b"\x89PNG")
        width, height = struct.unpack(">II", figure["png"][16:24])
        assert min(width, height) > 300
        assert b"<svg" in figure["svg"]
        assert b"<dc:date>" not in figure["svg"]


def test_a_curve_without_runs_is_still_a_picture(book: Any, read: Any) -> None:
    book.describe(book.frames)
    book.add("frames", {"method": "SyncVIS", "T": 2}, 0, None)
    assert render.frames_curve(curve(read(book, "frames")), "title")["png"].startswith(b"\x89PNG")
