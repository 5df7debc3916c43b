"""Published parameter counts come out of the recipes, and the modules of SyncVIS add what they are to add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncvis.config import load_config
from syncvis.training.cost import count_parameters, shape_model

RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"
CLASSES = 40

# R50, K = 40: the official models, counted (Mask2Former-VIS 9b0651c, MinVIS d039c54, CTVIS c1ed15c, VITA 59c24ad).
# TMT-VIS' own cannot be built: Mask2Former-VIS, a text MLP 1024-256-256-256, two attentions of four 256 x 256 layers.
PUBLISHED = {
    "ctvis": 44_157_353,
    "mask2former_vis": 43_959_977,
    "minvis": 43_959_977,
    "tmt_vis": 44_880_297,
    "vita": 57_135_058,
}
BACKBONE, PIXEL_DECODER, QUERIES, EXCHANGE, FFNS = 23_454_912, 6_035_904, 51_200, 526_336, 2_102_784


def _counts(method: str, overrides: list[str]) -> dict[str, int]:
    structure = ["method.structure=auto"] if method == "mask2former_vis" else []
    config = load_config(RECIPES / f"{method}_ytvis_2019_r50.yaml", [*structure, *overrides])
    return {part: n.total for part, n in count_parameters(shape_model(config, CLASSES)).items()}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_base_has_the_published_parameters(method: str) -> None:
    counts = _counts(method, ["sync=null", "subclips=null"])
    assert sum(counts.values()) == PUBLISHED[method]
    assert (counts["backbone"], counts["pixel decoder"]) == (BACKBONE, PIXEL_DECODER)


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_modules_add_an_exchange_and_queries(method: str) -> None:
    base = _counts(method, ["sync=null", "subclips=null"])

    def added(overrides: list[str]) -> Any:
        return sum(_counts(method, overrides).values()) - sum(base.values())

    assert added(["sync.query_ffn=false", "subclips=null"]) == EXCHANGE + QUERIES
    assert added(["sync.query_ffn=true", "subclips=null"]) == EXCHANGE + QUERIES + FFNS
    assert added(["sync.query_ffn=true", "subclips.size=2"]) == EXCHANGE + QUERIES + FFNS
