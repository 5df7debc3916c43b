from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from syncvis.errors import StorageError
from syncvis.visualization import contact_sheet, outline, overlay, save_png, track_colour

FRAME = np.full((12, 16, 3), 100, np.uint8)


def _box() -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[3:8, 4:10] = True
    return mask


def test_overlay_tints_inside_draws_the_outline_and_leaves_the_rest() -> None:
    mask, colour = _box(), np.array(track_colour(3))
    picture = overlay(FRAME, mask[None], [3], opacity=0.5)
    edge = outline(mask)
    assert (picture.dtype, picture.shape) == (np.uint8, FRAME.shape)
    np.testing.assert_array_equal(picture[~mask], FRAME[~mask])
    assert (picture[edge] == colour).all()
    assert (abs(picture[mask & ~edge] - (100 + colour) / 2) <= 0.5).all()
    assert (FRAME == 100).all()


def test_no_masks_leave_the_frame_as_it_is() -> None:
    np.testing.assert_array_equal(overlay(FRAME, np.zeros((0, 12, 16), bool), []), FRAME)


def test_colour_follows_the_id_not_the_place() -> None:
    masks = np.stack([_box(), np.roll(_box(), 4, 0)])
    forward, backward = overlay(FRAME, masks[:1], [7]), overlay(FRAME, masks[:1], [8])
    assert (forward != backward).any()
    np.testing.assert_array_equal(overlay(FRAME, masks[1:], [7])[7:12], forward[3:8])
    assert len({track_colour(i) for i in range(30)}) == 30


def test_neighbouring_ids_have_distant_colours() -> None:
    for i in range(20):
        assert np.abs(np.subtract(track_colour(i), track_colour(i + 1))).sum() > 100


def test_outline_is_the_inner_rim_and_closes_at_the_border() -> None:
    rim = outline(_box())
    assert rim.sum() == 2 * (5 + 6) - 4
    assert outline(np.ones((4, 5), bool)).sum() == 2 * (4 + 5) - 4


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not go with"):
        overlay(FRAME, _box()[None], [1, 2])
    with pytest.raises(ValueError, match="do not go with"):
        overlay(FRAME, np.zeros((1, 5, 5), bool), [1])


def test_contact_sheet_holds_every_picture_enlarged() -> None:
    shades = [[np.full((12, 16, 3), 20 * r + c, np.uint8) for c in range(3 - r)] for r in range(2)]
    sheet = np.array(contact_sheet(shades, min_height=24))
    for row in shades:
        for picture in row:
            assert (sheet == picture[0, 0]).all(-1).sum() == 24 * 32
    assert sheet.shape[1] >= 3 * 32


def test_labels_add_room_and_ink() -> None:
    bare = contact_sheet([[FRAME]], min_height=12)
    labelled = contact_sheet([[FRAME]], ["row"], ["column"], "a title that is longer than the picture", 12)
    assert labelled.height > bare.height
    assert labelled.width > bare.width
    assert (np.array(labelled) < 90).any()


def test_contact_sheet_refuses_nothing_and_wrong_labels() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([[]])
    with pytest.raises(ValueError, match="2 labels for 1 rows"):
        contact_sheet([[FRAME]], ["a", "b"])


def test_save_png_makes_folders_and_keeps_pixels(tmp_path: Path) -> None:
    picture = overlay(FRAME, _box()[None], [1])
    path = save_png(picture, tmp_path / "deep" / "er" / "picture.png")
    with Image.open(path) as saved:
        np.testing.assert_array_equal(np.array(saved), picture)


def test_save_png_into_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"picture\.png: the picture cannot be written"):
        save_png(FRAME, tmp_path / "file" / "picture.png")
