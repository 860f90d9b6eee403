# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from lednet_ros.images import annotate as panels
from lednet_ros.images.annotate import (
    GAP,
    Share,
    captioned_grid,
    legend,
    overlay,
    shares,
    side_by_side,
)
from lednet_ros.model.labels import LabelClass, LabelSet, builtin_label_set

THREE = LabelSet('three', (
    LabelClass('road', (128, 64, 128), 'flat'), LabelClass('car', (0, 0, 142), 'vehicle'),
    LabelClass('nothing', (0, 0, 0), 'void', void=True), LabelClass('sky', (9, 9, 9), 'sky')))
LABELS = np.array([[0, 0, 1, 1],
                   [1, 1, 1, 255]], np.uint8)


def test_shares_come_largest_first_with_what_is_unlabelled_and_without_void() -> None:
    assert shares(LABELS, THREE) == [
        Share('car', (0, 0, 142), 5 / 8), Share('road', (128, 64, 128), 2 / 8),
        Share('unlabelled', (0, 0, 0), 1 / 8), Share('sky', (9, 9, 9), 0.0)]


def test_overlay_is_half_and_half() -> None:
    camera, colors = (np.full((2, 3, 3), value, np.uint8) for value in (100, 200))
    assert (overlay(camera, colors) == 150).all()


def test_side_by_side_puts_each_panel_in_its_place() -> None:
    camera = np.full((272, 640, 3), (10, 20, 30), np.uint8)
    colors = np.full((272, 640, 3), (200, 100, 50), np.uint8)
    picture = side_by_side(camera, colors, shares(LABELS, THREE))
    assert picture.shape == (2 * 272 + 3 * GAP, 2 * 640 + 3 * GAP, 3)
    top, left, below, right = GAP + 136, GAP + 320, 2 * GAP + 272 + 136, 2 * GAP + 640 + 320
    assert picture[top, left].tolist() == [10, 20, 30]
    assert picture[top, right].tolist() == [200, 100, 50]
    assert picture[below, left].tolist() == [105, 60, 40]


def test_the_ground_takes_the_place_of_the_colours_beside_the_camera() -> None:
    camera = np.full((272, 640, 3), (10, 20, 30), np.uint8)
    ground = np.full((272, 640, 3), (1, 2, 3), np.uint8)
    picture = side_by_side(camera, camera, [], ground=(ground, 'a caption ' * 20))
    assert picture[GAP + 136, 2 * GAP + 640 + 320].tolist() == [1, 2, 3]
    assert (picture[GAP:GAP + 40, -GAP - 8:-GAP] == [1, 2, 3]).all()  # a long caption is cut


@pytest.mark.parametrize('size', [(360, 480), (1080, 1920), (1281, 721), (32, 32), (60, 1200),
                                  (1200, 60), (1, 1)])
def test_any_camera_gives_a_picture_that_a_film_can_hold(size: tuple[int, int]) -> None:
    camera = np.zeros((*size, 3), np.uint8)
    rows = shares(np.zeros(size, np.uint8), builtin_label_set('cityscapes'))
    picture = side_by_side(camera, camera, rows, 'title', [('frame 1', ''), ('5.0', 'FPS')])
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert max(picture.shape) < 1400


def test_the_camera_picture_is_left_as_it_is() -> None:
    camera = np.zeros((272, 640, 3), np.uint8)
    camera.setflags(write=False)
    side_by_side(camera, camera, [])
    assert not camera.any()


def test_a_legend_shows_each_colour_and_takes_any_name() -> None:
    rows = [Share('a name of forty characters and some more', (200, 10, 10), 0.7),
            Share('Straße', (10, 200, 10), 0.3)]
    card = legend(272, 640, rows, 'Überschrift')
    for row in rows:
        assert (card == row.color).all(axis=2).any()


def test_a_legend_without_room_counts_the_rest(monkeypatch) -> None:
    """With what they cover together, so that all shares still make up the picture."""
    rows = [Share(f'class {i}', (i, 255 - i, 77), share)
            for i, share in enumerate([0.5, *[0.3 / 36] * 36, 0.1, 0.06, 0.04])]
    drawn: list[Share] = []

    def draw(card, row, left, top, width, height) -> None:
        drawn.append(row)
        assert top + height <= card.shape[0]
        assert left + width <= card.shape[1]

    monkeypatch.setattr(panels, '_legend_row', draw)
    legend(208, 640, rows, 'title')
    count = len(drawn) - 1
    assert 0 < count < 39
    assert drawn[:-1] == rows[:count]
    assert drawn[-1].name == f'{40 - count} more'
    assert sum(row.share for row in drawn) == pytest.approx(1.0)
    drawn.clear()
    legend(640, 640, rows[:20], 'title')
    assert drawn == rows[:20]


def test_rows_that_are_shown_have_their_colour() -> None:
    rows = [Share(f'class {i}', (i, 255 - i, 77), 1 / 40) for i in range(40)]
    card = legend(208, 640, rows, 'title')
    shown = [row for row in rows if (card == row.color).all(axis=2).any()]
    assert 0 < len(shown) < 40
    assert shown == rows[:len(shown)]


def test_text_may_hold_what_no_font_has() -> None:
    """The name of a file that is no UTF-8, for one: OpenCV 5 crashes over it."""
    picture = captioned_grid([(np.zeros((240, 320, 3), np.uint8), 'caf\udce9 東京.png')])
    assert picture.any()
    assert legend(208, 640, [Share('caf\udce9', (1, 2, 3), 1.0)], 'caf\udce9').any()


def test_figures_without_room_are_shortened_each_to_its_own_place() -> None:
    card = legend(320, 320, [Share('road', (1, 2, 3), 1.0)], 'title',
                  [('123456 ms', 'from the camera'), ('123456 ms', 'of the network')] * 4)
    margin, step = 18, (320 - 2 * 18) // 8
    used = (card[-40:] != card[-1, -1]).any(axis=(0, 2))  # columns of the picture with text
    for left in range(margin, margin + 8 * step, step):
        assert used[left:left + step].any()
        assert not used[left - 4:left - 1].any()  # but for a pixel of smoothing
    assert not used[1 - margin:].any()
