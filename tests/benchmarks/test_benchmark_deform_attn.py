"""The comparison of a GPU, carried out small on the CPU with the paths that run there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deform_attn import Case, Row, compare, main, recipe_cases, table

from syncvis.ops.deform_attn import deformable_attention, sample_by_level

SMALL = Case("small", 2, [(2, 3), (4, 6)], heads=2, dim=4, points=2)
PATHS: dict[str, Any] = {"kernels": deformable_attention, "grid_sample": sample_by_level}


def test_both_paths_are_timed_both_ways() -> None:
    rows = compare(SMALL, torch.device("cpu"), PATHS, rounds=1)
    assert [row.path for row in rows] == ["kernels", "grid_sample"]
    assert all(row.both > 0 and row.forward > 0 for row in rows)


def test_a_wrong_path_is_not_timed() -> None:
    def wrong(*arguments: Any) -> torch.Tensor:
        return deformable_attention(*arguments) * 1.001

    with pytest.raises(AssertionError, match=r"small: output differs by 1\.0e-03 of its norm"):
        compare(SMALL, torch.device("cpu"), PATHS | {"grid_sample": wrong}, rounds=1)


def test_sizes_are_those_of_the_recipes() -> None:
    """448 x 768 pixels and eight frames, as the dry run says."""
    cases = list(recipe_cases(["syncvis_ytvis_2019_r50"]))
    assert [(case.frames, case.dtype) for case in cases] == [(8, torch.float32), (8, torch.bfloat16)]
    assert cases[0].shapes == [(14, 24), (28, 48), (56, 96)]


def test_the_table() -> None:
    rows = [Row(SMALL, "kernels", 1.0, 2.0, 10.0), Row(SMALL, "grid_sample", 5.0, 8.0, 25.0)]
    line = table(rows).splitlines()[-1]
    assert line == "| small | 2, 4×6 | float32 | 1.00, 5.00, 5.0× | 2.00, 8.00, 4.0× | 10.00, 25.00, 2.5× |"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["deform_attn.py"])
    assert main() == 1
    assert capsys.readouterr().err == "no GPU here: the kernels are for one\n"
