# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from lednet_ros.model.labels import LabelSet
from lednet_ros.training.comparison import Comparison, compare
from lednet_ros.training.evaluate import Evaluation, FrameScore
from lednet_ros.training.metrics import Confusion, iou_of

LABELS = LabelSet.from_dict({'name': 'yard', 'classes': [
    {'name': 'road', 'color': [9, 9, 9]}, {'name': 'wall', 'color': [1, 1, 1]}]})


def evaluation(right: list[int]) -> Evaluation:
    """Frames of 100 pixels of each class; of each so many of road are seen, and all of wall."""
    total, frames = Confusion(2), []
    for index, count in enumerate(right):
        counts = np.array([[count, 100 - count, 0], [0, 100, 0]])
        total.counts += counts
        frames.append(FrameScore(index, f'{index}.png', float(iou_of(counts).mean()), counts))
    return Evaluation(total.scores(LABELS), total.counts, tuple(frames), 'none',
                      np.zeros((2, 2, 256), np.int64))


def compared(first: list[int], second: list[int]) -> Comparison:
    return compare(evaluation(first), evaluation(second), LABELS, ('a', 'b'))


def test_classes_and_frames_are_compared_one_by_one() -> None:
    found = compared([90, 80, 50], [80, 80, 60])
    assert found.classes['road'] == (pytest.approx(220 / 300), pytest.approx(220 / 300))
    assert (found.won, found.lost) == (1, 1)
    assert found.to_dict()['frames_won'] == 1


def test_what_is_better_in_each_frame_is_no_chance() -> None:
    found = compared([90] * 40, [80] * 40)
    assert found.better == 1
    assert 0 < found.interval[0] <= found.miou[0] - found.miou[1] <= found.interval[1] + 1e-9
    assert list(found.table())[-1].endswith('no chance of these frames')


def test_a_single_lucky_frame_may_be_chance() -> None:
    found = compared([80] * 39 + [99], [80] * 40)
    assert found.miou[0] > found.miou[1]
    assert found.interval[0] <= 0
    assert list(found.table())[-1].endswith('may be chance of these frames')


def test_neighbours_are_drawn_together() -> None:
    """Runs of equal frames: drawn one by one the interval would be far narrower."""
    rng = np.random.default_rng(0)
    runs = np.repeat(rng.integers(60, 100, 20), 10).tolist()
    mixed = rng.permutation(runs).tolist()
    width = [c.interval[1] - c.interval[0] for c in (
        compared(runs, [80] * 200), compared(mixed, [80] * 200))]
    assert width[0] > 1.5 * width[1]


def test_the_table_names_both_and_each_class() -> None:
    lines = list(compared([90], [80]).table())
    assert lines[0].split() == ['a', '-', 'b']
    assert lines[1].split() == ['road', '90.00', '80.00', '+10.00']
