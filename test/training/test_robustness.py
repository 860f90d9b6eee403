# SPDX-License-Identifier: Apache-2.0
"""The family of changes, and what is made of the scores under them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from orchard import COLORS, draw, make_orchard

from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.training.robustness import (
    FAMILY,
    STRENGTHS,
    Robustness,
    change,
    measure_robustness,
)

LIGHT = [name for name, one in FAMILY.items() if one.light]
VIEW = [name for name, one in FAMILY.items() if one.view]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Something smooth, something sharp, something of each channel."""
    image, labels = draw(3, 360, 128)
    image[..., 2] = np.arange(128, dtype=np.uint8)
    return image, labels


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def test_the_family_is_light_or_view_at_five_rising_strengths() -> None:
    assert len(FAMILY) == 11
    assert STRENGTHS == 5
    for one in FAMILY.values():
        assert (one.light is None) != (one.view is None)
        assert list(one.amounts) in (sorted(one.amounts), sorted(one.amounts, reverse=True))


@pytest.mark.parametrize('name', FAMILY)
def test_a_change_is_the_same_each_time_and_not_for_each_image(name) -> None:
    image, labels = scene()
    before = image.copy()
    for strength in (1, 5):
        once, again = (change(image, labels, name, strength, 7) for _ in range(2))
        assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert (image == before).all()
    if name not in ('contrast', 'blur', 'JPEG', 'fog'):
        views = [change(image, labels, name, 3, index)[0] for index in range(12)]
        assert any((view != views[0]).any() for view in views)


@pytest.mark.parametrize('name', LIGHT)
def test_light_changes_more_with_strength_and_leaves_labels(name) -> None:
    image, labels = scene()
    changed = [change(image, labels, name, strength, 1) for strength in range(1, 6)]
    assert all((seen == labels).all() for _, seen in changed)
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view, _ in changed)
    distances = [distance(view, image) for view, _ in changed]
    assert distances[0] > 0.2
    # The lines that motion draws out are of whole pixels, some fuller than others.
    assert all(more > 0.9 * less for less, more in itertools.pairwise(distances))
    assert distances[-1] > 1.3 * distances[0]


@pytest.mark.parametrize('name', VIEW)
@pytest.mark.parametrize('index', range(4))
def test_another_view_moves_labels_with_their_pixels(name, index) -> None:
    labels = np.repeat(np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8), 16, 0), 16, 1)
    image = np.stack([labels * 5] * 3, 2)
    known = []
    for strength in range(1, 6):
        view, moved = change(image, labels, name, strength, index)
        there = moved != 255
        same = np.abs(view[there][:, 0].astype(int) - moved[there].astype(int) * 5) <= 3
        assert same.mean() > 0.75
        known.append(there.mean())
    assert known == sorted(known, reverse=True)
    assert known[-1] >= 0.24


def test_the_horizon_moves_by_a_share_of_the_height_either_way() -> None:
    labels = np.repeat(np.arange(100, dtype=np.uint8)[:, None], 20, 1)
    image = np.stack([labels] * 3, 2)
    moves = {int(change(image, labels, 'horizon', 2, index)[1][50, 0]) for index in range(12)}
    assert moves == {40, 60}


def test_fog_hides_the_sky_and_not_the_ground_before_the_wheels() -> None:
    image, labels = np.zeros((90, 60, 3), np.uint8), np.zeros((90, 60), np.uint8)
    view, _ = change(image, labels, 'fog', 5, 0)
    rows = view[:, 0, 0].astype(int)
    assert (np.diff(rows) <= 0).all()
    assert rows[0] > 150
    assert rows[-1] < 60


def test_a_lens_out_of_focus_is_so_at_any_size_of_the_image() -> None:
    """Twice the pixels, twice the blur."""
    image, labels = np.zeros((180, 240, 3), np.uint8), np.zeros((180, 240), np.uint8)
    image[:, 120:] = 255
    small, _ = change(image, labels, 'blur', 4, 0)
    large, _ = change(image.repeat(2, 0).repeat(2, 1), labels.repeat(2, 0).repeat(2, 1),
                      'blur', 4, 0)
    assert distance(large[::2, ::2], small) < 1.0


class ByColor:
    """In place of a Segmenter: sees the class whose colour is nearest."""

    def segment(self, images, rgb):
        assert rgb
        distances = np.abs(images[0][:, :, None].astype(int) - COLORS).sum(3)
        return [type('Seen', (), {'labels': distances.argmin(2).astype(np.uint8)})]


def test_who_goes_by_colour_stands_noise_but_no_other_light(tmp_path: Path) -> None:
    frames = []
    robustness = measure_robustness(
        ByColor(), open_data_set(make_orchard(tmp_path / 'orchard', train=1), 'val'),
        lambda: frames.append(1))
    assert len(frames) == 3 * 56
    assert robustness.clean == 1.0
    assert robustness.changed['noise'][0] == 1.0
    assert robustness.changed['brightness'][4] < 0.7
    assert robustness.changed['fog'][4] < 0.8
    assert robustness.changed['horizon'][4] > 0.95  # the labels went with the view


def test_what_is_kept_is_the_mean_at_a_strength_over_the_clean_score() -> None:
    robustness = Robustness(0.8, {'fog': (0.8, 0.6, 0.4, 0.2, 0.0),
                                  'blur': (0.8, 0.7, 0.6, 0.5, float('nan'))})
    assert robustness.mean[:2] == pytest.approx((0.8, 0.65))
    assert robustness.kept[1] == pytest.approx(0.8125)
    record = robustness.to_dict()
    assert record['changes']['fog']['miou'] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert record['changes']['blur']['miou'][-1] is None
    assert record['kept'][1] == 0.8125
    lines = list(robustness.table())
    assert lines[1] == 'fog               80.0  60.0  40.0  20.0   0.0'
    assert lines[2].split()[-1] == '-'
    assert lines[-1] == 'at strength 2 the mean is 81.2 % of the clean 80.00'


def test_a_sheet_has_a_place_for_each_picture_of_whatever_shape(tmp_path: Path) -> None:
    import cv2

    from lednet_ros.datasets.sheet import write_sheet
    # Colours that the grey of smoothed text does not have.
    flat, tall = np.zeros((30, 60, 3), np.uint8), np.zeros((60, 30, 3), np.uint8)
    flat[:], tall[:] = (200, 90, 10), (10, 90, 200)
    write_sheet([(flat, 'flat'), (tall, 'tall'), (flat, 'again')], 2, tmp_path / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert (sheet[..., ::-1] == flat[0, 0]).all(2).sum() == 2 * 240 * 120
    assert (sheet[..., ::-1] == tall[0, 0]).all(2).sum() == 240 * 480
