"""Two lists of classes: what a message says of their differences."""

from __future__ import annotations

import pytest

from syncvis.data.annotations import Category, category_differences

CAT, DOG, EEL = Category(1, "cat"), Category(2, "dog"), Category(3, "eel")


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((CAT, DOG), (CAT, DOG), ""),
        ((CAT, EEL), (DOG, EEL), "only in the run: 'cat'; only in the data: 'dog'; 1 alike"),
        ((CAT, DOG), (CAT, DOG, EEL), "only in the data: 'eel'; 2 alike"),
        ((CAT, DOG, EEL), (DOG, EEL), "only in the run: 'cat'; 2 alike"),
        ((CAT, DOG), (DOG, CAT), "the same 2 names and ids in another order: 'cat', 'dog' and 'dog', 'cat'"),
        (
            (CAT, DOG),
            (Category(0, "cat"), Category(2, "dog")),
            "the same 2 names with other ids in the run and in the data: 'cat' is 1 and 0",
        ),
        (
            (CAT, DOG),
            (Category(1, "dog"), Category(7, "cat")),
            "the same 2 names with other ids in the run and in the data, in another order: 'cat' is 1 and 7, "
            "'dog' is 2 and 1",
        ),
        ((CAT, Category(2, "cat")), (CAT, DOG), "only in the run: 'cat'; only in the data: 'dog'; 1 alike"),
    ],
)
def test_what_differs_is_named(ours: tuple[Category, ...], theirs: tuple[Category, ...], said: str) -> None:
    assert category_differences(ours, theirs) == said


def test_the_two_have_names_and_long_lists_are_cut() -> None:
    many = [Category(i, f"c{i}") for i in range(9)]
    said = category_differences(many, many[:1], "train.json", "valid.json")
    assert said == "only in train.json: 'c1', 'c2', 'c3', 'c4', 'c5', and 3 more; 1 alike"
