from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analysis.choice import find_experiments, pick_scale
from analysis.curves import curve
from analysis.layout import caption, counts_text, mean_text, sheet, title_text
from analysis.render import markdown
from analysis.tables import ablation_table
from analysis.trials import load_trials
from analysis.verdicts import curve_verdict, verdict
from syncvis.errors import ConfigError, StorageError

CONDITIONAL = """
id: when
title: Exchange
question: Does it help?
paper_ref: Table 8
base: base/{scale}.yaml
axes:
  exchange: {variants: {none: {method.structure: video_only, sync: null}, with: {}}}
  Nk: {key: sync.num_selected, values: [2, 10], when: {exchange: with}}
seeds: [0, 1]
metrics: [AP]
table: {rows: [exchange, Nk], columns: metrics}
curve: {x: Nk, series: exchange}
"""


def test_failed_and_nan_cells_are_counted_not_averaged(nk_book: Any, read: Any) -> None:
    table = read(nk_book, "nk")
    two, ten = table.of_metric("AP").to_dict("records")
    assert (two["axis.Nk"], two["mean"], two["n"], two["planned"], two["invalid"]) == (2, 15.0, 2, 3, 1)
    assert two["spread"] == pytest.approx(math.sqrt(50))
    assert (ten["axis.Nk"], ten["mean"], ten["n"], ten["planned"], ten["invalid"]) == (10, 35.0, 2, 3, 0)
    assert (table.states, table.invalid) == ({"done": 5, "gave_up": 1}, 1)


def test_planned_and_running_cells_are_unfinished(book: Any, read: Any) -> None:
    book.add("x", {"a": 1}, 0, {"AP": 5.0})
    book.add("x", {"a": 1}, 1, None)
    book.add("x", {"a": 2}, 0, None, state="running")
    table = read(book, "x")
    assert table.states == {"done": 1, "planned": 1, "running": 1}
    assert [(r["n"], r["planned"]) for r in table.of_metric().to_dict("records")] == [(1, 2), (0, 1)]


def test_only_finished_cells_of_full_length_enter(book: Any, read: Any) -> None:
    book.add("x", {"a": 1}, 0, {"AP": 5.0})
    book.add("x", {"a": 1}, 1, {"AP": 50.0}, result={"steps": 9})
    book.add("x", {"a": 1}, 2, {"AP": 60.0}, state="pruned", reports=[60.0])
    book.add("x", {"a": 1}, 3, {"AP": 70.0}, state="planned")
    table = read(book, "x")
    assert table.states == {"done": 1, "planned": 1, "pruned": 1, "short": 1}
    assert list(table.of_metric("AP")["mean"]) == [5.0]
    assert table.seeds(table.ranked()[0]) == {0: 5.0}
    assert mean_text(table.ranked()[0]) == "5.0 (n=1/4†)"
    counts = "1 of 4 cells finished; not in the numbers: 1 planned, 1 pruned, 1 with fewer steps than planned."
    assert counts_text(table) == counts


def test_an_axis_that_exists_at_some_points_only(book: Any, read: Any) -> None:
    book.describe(CONDITIONAL)
    for seed in (0, 1):
        book.add("when", {"exchange": "none"}, seed, {"AP": 1.0 + seed})
        book.add("when", {"exchange": "with", "Nk": 2}, seed, {"AP": 3.0 + seed})
        book.add("when", {"exchange": "with", "Nk": 10}, seed, {"AP": 5.0 + seed})
    table = read(book, "when")
    text = markdown(sheet(table))
    assert "None" not in text
    assert "| none | – | 1.5 ± 0.7 (n=2/2) |" in text
    assert "| with | 10 (default) | **5.5 ± 0.7 (n=2/2)** |" in text
    assert verdict(table).startswith("Best mean AP at exchange = with, Nk = 10, 5.5 (n=2/2); its lead over")
    numbers = curve(table)
    assert numbers.series == ("with",)
    assert list(numbers.lines["x"]) == [2, 10]
    book.do("DELETE FROM members WHERE axes LIKE '%Nk%'")
    assert "| none | – | 1.5" in markdown(sheet(read(book, "when")))


def test_a_null_label_is_a_label(book: Any, read: Any) -> None:
    book.add("x", {"a": None}, 0, {"AP": 5.0})
    book.add("x", {}, 0, {"AP": 6.0})
    assert [row.split(" | ")[0] for row in markdown(sheet(read(book, "x"))).splitlines()[4:6]] == ["| null", "| –"]


def test_default_best_and_paired_difference(nk_book: Any, read: Any) -> None:
    two, ten = read(nk_book, "nk").of_metric("AP").to_dict("records")
    assert (two["default"], ten["default"]) == (False, True)
    assert (two["best"], ten["best"]) == (False, True)
    assert (two["difference"], two["difference_n"]) == (
        -20.0,
        2,
    )  # 10 - 30 and 20 - 40; the third pair has no value
    assert math.isnan(ten["difference"])


def test_no_default_mark_with_a_base_that_is_not_valid_any_more(nk_book: Any, read: Any) -> None:
    nk_book.do("""UPDATE studies SET definition = replace(definition, '"num_selected"', '"gone"')""")
    assert not read(nk_book, "nk").frame["default"].any()


def test_the_ledger_says_all_but_the_layout_without_any_file(nk_book: Any, read: Any) -> None:
    with_file = read(nk_book, "nk")
    for file in nk_book.experiments.rglob("*.yaml"):
        file.unlink()
    table = read(nk_book, "nk")
    assert table.axes == ("Nk",)
    assert list(table.of_metric("AP")["mean"]) == [15.0, 35.0]
    assert list(table.frame["default"][:2]) == [False, True]
    assert table.experiment.study == with_file.experiment.study
    assert table.experiment.title == "Number of selected embeddings Nk"


def test_a_file_that_was_changed_after_planning_changes_the_layout_only(nk_book: Any, read: Any) -> None:
    file = nk_book.experiments / "nk.yaml"
    file.write_text(file.read_text().replace("title: Number", "title: Other").replace("[AP, AP50]", "[AP50]"))
    table = read(nk_book, "nk")
    assert table.experiment.title == "Number of selected embeddings Nk"
    assert table.metric == "AP50"


def test_no_axis_is_averaged_away(frames_book: Any, read: Any) -> None:
    file = frames_book.experiments / "frames.yaml"
    file.write_text(file.read_text().replace("{rows: [method], columns: T}", "{rows: [T], columns: metrics}"))
    table = read(frames_book, "frames")
    assert table.rows == ("T", "method")
    assert len(table.of_metric()) == 6


def test_published_values_only_where_the_list_has_them(book: Any, read: Any) -> None:
    book.describe(book.components)
    for parts in ("baseline", "+SVFM", "other"):
        book.add("components", {"parts": parts}, 0, {"AP": 1.0, "AP50": 2.0})
    table = read(book, "components")
    ap, ap50 = (list(table.of_metric(metric)["published"]) for metric in ("AP", "AP50"))
    assert ap[:2] == [45.1, 50.3]  # official README, Mask2Former-VIS rows
    assert math.isnan(ap[2])
    assert all(math.isnan(value) for value in ap50)
    assert "rkzheng99/SyncVIS README.md" in table.published


def test_no_value_published_means_none_shown(nk_book: Any, read: Any) -> None:
    table = read(nk_book, "nk")
    assert table.frame["published"].isna().all()
    assert table.published == ""


def test_two_runs_of_one_seed_are_refused(book: Any, read: Any) -> None:
    book.add("x", {"a": 1}, 0, {"AP": 5.0})
    book.add("x", {"a": 1}, 0, {"AP": 6.0})
    with pytest.raises(StorageError, match="two different runs claim seed 0 of a=1"):
        read(book, "x")


def test_scale_is_the_largest_with_results(book: Any) -> None:
    book.add("x", {"a": 1}, 0, {"AP": 5.0}, scale="smoke")
    book.add("x", {"a": 1}, 0, {"AP": 6.0}, scale="small")
    book.add("x", {"a": 1}, 0, None, scale="paper")
    trials = load_trials(book.ledger)
    assert pick_scale(trials, "x") == "small"
    (smoke,) = find_experiments(trials, book.experiments, ["x"], "smoke")
    assert ablation_table(trials, smoke).frame["mean"].iloc[0] == 5.0
    with pytest.raises(ConfigError, match="--scale smoke or small or paper"):
        pick_scale(trials, "x", "large")


def test_unknown_names_come_with_the_nearest(nk_book: Any) -> None:
    trials = load_trials(nk_book.ledger)
    with pytest.raises(ConfigError, match="did you mean 'nk'"):
        find_experiments(trials, nk_book.experiments, ["nkk"])
    file = nk_book.experiments / "nk.yaml"
    file.write_text(file.read_text().replace("rows: [Nk]", "rows: [NK]"))
    with pytest.raises(ConfigError, match=r"nk\.yaml: .*'NK' is not an axis; the axes are Nk"):
        find_experiments(trials, nk_book.experiments)


def test_curve_numbers_and_slopes(frames_book: Any, read: Any) -> None:
    numbers = curve(read(frames_book, "frames"))
    assert numbers.series == ("SyncVIS", "Mask2Former-VIS")
    ours = numbers.lines[numbers.lines["series"] == "SyncVIS"]
    assert list(ours["x"]) == [2, 4, 6]
    assert list(ours["mean"]) == [33.0, 36.0, 39.0]  # 30 + 1.5 T
    assert list(ours["spread"]) == pytest.approx([math.sqrt(2), math.sqrt(8), math.sqrt(18)])
    assert len(numbers.points) == 12
    assert numbers.slopes("SyncVIS") == pytest.approx({0: 1.0, 1: 2.0})
    assert numbers.slopes("Mask2Former-VIS") == pytest.approx({0: -1.0, 1: -1.5})


def test_a_seed_that_lacks_a_point_has_no_slope(frames_book: Any, read: Any) -> None:
    frames_book.add("frames", {"method": "SyncVIS", "T": 2}, 2, {"AP": 99.0})
    numbers = curve(read(frames_book, "frames"))
    assert numbers.slopes("SyncVIS") == pytest.approx({0: 1.0, 1: 2.0})
    assert numbers.lines[numbers.lines["series"] == "SyncVIS"]["n"].iloc[0] == 3  # but it is in the mean


def test_a_point_of_a_line_says_how_many_seeds_it_lacks(frames_book: Any, read: Any) -> None:
    frames_book.add("frames", {"method": "SyncVIS", "T": 4}, 2, None, state="gave_up")
    lines = curve(read(frames_book, "frames")).lines
    assert list(lines["planned"] - lines["n"]) == [0, 0, 1, 0, 0, 0]
    assert list(lines["x"]) == [2, 2, 4, 4, 6, 6]


def test_curve_verdict_decides_only_beyond_the_spread(frames_book: Any, read: Any) -> None:
    text = curve_verdict(curve(read(frames_book, "frames")))
    assert "SyncVIS: +1.50 AP per unit of T" in text  # 1 and 2: interval -4.9 to 7.9
    assert text.count("undecided") == 2


@pytest.mark.parametrize(
    ("other", "expected"), [([29.0, 39.1, 49.0], "beyond the seed spread"), ([29.0, 45.0, 30.0], "undecided")]
)
def test_verdict(book: Any, read: Any, other: list[float], expected: str) -> None:
    for seed, (best, second) in enumerate(zip([30.0, 40.0, 50.0], other, strict=True)):
        book.add("x", {"a": 0.05}, seed, {"AP": best})
        book.add("x", {"a": 0}, seed, {"AP": second})
    text = verdict(read(book, "x"))
    assert text.startswith("Best mean AP at a = 0.05, 40.0 (n=3/3); its lead over the second, a = 0, is")
    assert expected in text


def test_verdict_of_one_seed_is_undecided(book: Any, read: Any) -> None:
    for value in (1, 2):
        book.add("x", {"a": value}, 0, {"AP": float(value)})
    assert "(1 common seed, no spread): undecided" in verdict(read(book, "x"))


RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"
PUBLISHED = f"""
id: components
title: Components
question: Which part helps?
base: {{paper: "{RECIPES}/syncvis_{{on}}.yaml"}}
recipes: [ytvis_2019_r50]
axes: {{parts: {{variants: {{baseline: {{sync: null, subclips: null}}, +both: {{}}}}, note: two of four}}}}
seeds: {{paper: [0]}}
reference: readme_components
table: {{rows: [parts], columns: metrics}}
"""


def on_recipes(book: Any, *recipes: str) -> None:
    for recipe in recipes:
        book.describe(PUBLISHED, "paper", recipe)
        for label in ("baseline", "+both"):
            study = book.studies[f"components@{recipe}"]
            steps = {"steps": study.base_config().train.steps}
            book.add(study.experiment, {"parts": label}, 0, {"AP": 40.0}, scale="paper", result=steps)


def test_at_the_scale_of_the_paper_published_values_are_of_the_same_data_and_backbone(book: Any, read: Any) -> None:
    recipes = ["ytvis_2019_r50", "vita_ytvis_2019_r50", "ovis_r50", "ytvis_2019_swin_l", "ytvis_2021_r50"]
    on_recipes(book, *recipes)
    found = {recipe: list(read(book, f"components@{recipe}").of_metric()["published"]) for recipe in recipes}
    assert found.pop("ytvis_2019_r50") == [45.1, 51.5]
    assert found.pop("vita_ytvis_2019_r50") == [49.5, 54.2]
    assert all(math.isnan(value) for values in found.values() for value in values)


def test_a_table_on_a_recipe_says_what_is_unlike_and_why_its_values(book: Any, read: Any) -> None:
    on_recipes(book, "ytvis_2019_r50")
    table = read(book, "components@ytvis_2019_r50")
    text = caption(table)
    assert "on the official validation videos, ours on a part of the training videos" in text
    assert "parts: two of four." in text
    assert "on ytvis_2019/train (" in text
    assert title_text(table) == "Components, ytvis_2019_r50"


def test_an_experiment_is_reported_on_every_recipe_or_on_one(book: Any) -> None:
    on_recipes(book, "ytvis_2019_r50", "ovis_r50")
    trials = load_trials(book.ledger)
    both = find_experiments(trials, book.experiments, ["components"], "paper")
    assert [one.id for one in both] == ["components@ovis_r50", "components@ytvis_2019_r50"]
    assert [one.layout.reference for one in both] == ["readme_components"] * 2
    (one,) = find_experiments(trials, book.experiments, ["components@ovis_r50"])
    assert (one.id, one.scale, one.source) == ("components@ovis_r50", "paper", book.experiments / "components.yaml")
