# SPDX-License-Identifier: Apache-2.0
"""Whether confidence is true, and what a min_confidence does to the ground."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.labels import LabelSet, builtin_label_set
from lednet_ros.projection.traversability import Traversability
from lednet_ros.training.reliability import (
    ConfidenceCounts,
    Reliability,
    draw_ground,
    draw_reliability,
    find_traversability,
    ground_rows,
    ground_table,
)

LABELS = LabelSet.from_dict({'name': 'yard', 'classes': [
    {'name': 'road', 'color': [9, 9, 9]}, {'name': 'wall', 'color': [1, 1, 1]},
    {'name': 'pavement', 'color': [2, 2, 2]}]})
YARD = Traversability(LABELS, ('free', 'obstacle', 'blocked'))


def counted(*pixels: tuple[int, int, int]) -> np.ndarray:
    """Count pixels of (true class, seen class, confidence)."""
    counts = ConfidenceCounts(3)
    columns = np.array(pixels, np.uint8).T
    counts.add(*(column[None] for column in columns))
    return counts.counts


def test_pixels_are_counted_by_truth_sight_and_confidence_and_255_is_not() -> None:
    counts = counted((0, 1, 200), (0, 1, 200), (2, 2, 255), (255, 1, 9), (1, 255, 9))
    assert counts.sum() == 3
    assert (counts[0, 1, 200], counts[2, 2, 255]) == (2, 1)


def test_the_calibration_error_is_the_mean_distance() -> None:
    """Two pixels said to be sure of which one is right, and two of 51/255 = 0.2, both wrong."""
    found = Reliability.of(counted((0, 0, 255), (1, 0, 255), (0, 1, 51), (0, 2, 51)))
    assert found.error == pytest.approx(0.5 * 0.5 + 0.5 * 0.2)
    last = found.bins[-1]
    assert last is not None
    assert (last.share, last.confidence, last.accuracy) == (0.5, 1.0, 0.5)
    assert found.to_dict()['expected_calibration_error'] == pytest.approx(0.35)
    assert len(found.to_dict()['bins']) == 2


def test_a_row_says_what_of_the_ground_is_lost_and_what_is_false() -> None:
    counts = counted(
        (0, 0, 250), (0, 0, 250), (0, 0, 100), (0, 1, 250),  # road: three seen, one of them unsure
        (1, 0, 250), (1, 0, 100), (1, 1, 250), (1, 1, 250),  # wall: two seen as road
        (2, 2, 250))
    all_, sure = ground_rows(counts, YARD, (0.0, 0.5))
    assert (all_.lost, all_.false) == (pytest.approx(1 / 4), pytest.approx(2 / 5))
    assert (sure.lost, sure.false) == (pytest.approx(2 / 4), pytest.approx(1 / 3))
    assert all_.seen_as_free == {'wall': 0.5, 'pavement': 0.0}
    assert sure.seen_as_free == {'wall': 0.25, 'pavement': 0.0}


def test_a_pixel_at_the_threshold_is_kept_as_the_segmenter_keeps_it() -> None:
    counts = counted((0, 0, 128), (0, 0, 127))
    assert ground_rows(counts, YARD, (128 / 255,))[0].lost == pytest.approx(0.5)


def test_the_table_names_the_classes_most_often_seen_as_free_first() -> None:
    counts = counted((0, 0, 250), (1, 0, 250), (1, 1, 250), (2, 0, 250))
    table = list(ground_table(ground_rows(counts, YARD, (0.0,))))
    assert table[1].split() == ['pavement', 'wall']
    assert table[2].split() == ['0.00', '0.00', '66.67', '100.00', '50.00']


def test_labels_of_the_package_have_their_traversability_and_others_need_a_file() -> None:
    found = find_traversability('', builtin_label_set('camvid'))
    assert found is not None
    assert found.words[3] == 'free'  # road
    assert find_traversability('', LABELS) is None
    with pytest.raises(ConfigError, match='traversability camvid: is of camvid, but the images '
                                          'are labelled by yard'):
        find_traversability('camvid', LABELS)


def test_both_are_drawn(tmp_path) -> None:
    counts = counted((0, 0, 250), (1, 0, 100), (2, 2, 30))
    draw_reliability(Reliability.of(counts), 'net', tmp_path / 'reliability.png')
    draw_ground(ground_rows(counts, YARD), tmp_path / 'ground.png')
    for name in ('reliability.png', 'ground.png'):
        assert cv2.imread(str(tmp_path / name)) is not None


@pytest.mark.filterwarnings('error')
def test_where_nothing_was_seen_it_is_drawn_without_a_remark(tmp_path) -> None:
    """All void, as of a network that has learnt nothing."""
    draw_reliability(Reliability.of(ConfidenceCounts(3).counts), 'net', tmp_path / 'none.png')
    assert cv2.imread(str(tmp_path / 'none.png')) is not None
