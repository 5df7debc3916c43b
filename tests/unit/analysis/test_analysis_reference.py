from __future__ import annotations

from importlib.resources import files

import pytest

from analysis.reference import claims, published_row, reference_for
from syncvis.errors import ConfigError


def test_known_and_unpublished_values() -> None:
    rows = reference_for("baseline_vita")
    assert list(rows.loc[0, ["ap", "ap50", "ap75", "ar1", "ar10"]]) == [49.8, 72.6, 54.5, 49.4, 61.0]
    assert reference_for("paper_T11")["ap"].isna().all()


def test_every_row_has_a_source() -> None:
    for table in ("readme_components", "paper_T6", "baseline_dvis"):
        assert reference_for(table)["source"].str.len().min() > 10
    assert list(claims(["C05", "C01"])["id"]) == ["C05", "C01"]


@pytest.mark.parametrize(
    ("labels", "method", "ap"),
    [
        ({"parts": "+both"}, "mask2former_vis", 51.5),
        ({"method": "VITA", "parts": "+both"}, "mask2former_vis", None),  # two rows fit: none is shown
        ({"method": "VITA", "parts": "+both"}, "vita", 54.2),
        ({"parts": "+other"}, "vita", None),
    ],
)
def test_a_setting_gets_a_published_row_only_if_exactly_one_fits(
    labels: dict[str, object], method: str, ap: float | None
) -> None:
    row = published_row(reference_for("readme_components"), labels, method)
    assert (None if row is None else row["ap"]) == ap


def test_a_setting_can_be_named_by_its_value() -> None:
    rows = reference_for("paper_T11")
    assert published_row(rows, {"momentum": 0.05}, "mask2former_vis") is not None
    assert published_row(rows, {"momentum": 0.5}, "mask2former_vis") is None
    assert published_row(reference_for("paper_T7"), {"aggregation": "class_prediction"}, None) is not None


def test_unknown_ids() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paper_T11'"):
        reference_for("paper_T111")
    with pytest.raises(ConfigError, match="no published claim"):
        claims(["X99"])


def test_the_lists_name_no_local_copies() -> None:
    results, claims_ = (files("analysis") / "reference" / f"reference_{name}.csv" for name in ("results", "claims"))
    for path in (results, claims_, files("syncvis") / "data" / "reference" / "dataset_stats.csv"):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in (".txt", "find_string", "read_file", "stored", "/work"))
