# SPDX-License-Identifier: Apache-2.0
"""Which frames are chosen to be labelled."""

from __future__ import annotations

import numpy as np
import pytest

from lednet_ros.offline.selection import Scored, choose, uncertainty


def scored(*recordings) -> list[Scored]:
    return [Scored(number, place, value) for number, values in enumerate(recordings)
            for place, value in enumerate(values)]


def test_uncertainty_is_the_mean_of_what_the_network_is_not_sure_of() -> None:
    confidence = np.full((4, 5), 255, np.uint8)
    confidence[:2] = 51
    assert uncertainty(confidence) == pytest.approx(0.4)


def test_the_most_uncertain_come_first_and_no_neighbours_of_theirs() -> None:
    values = [0.1] * 30
    values[10:15] = [0.5, 0.8, 0.9, 0.7, 0.6]  # five neighbours, all above the rest
    values[25] = 0.4
    chosen = choose(scored(values), 3)
    assert [frame.place for frame in chosen[:2]] == [12, 25]
    assert len(chosen) == 3
    assert all(abs(chosen[2].place - place) > 4 for place in (12, 25))


def test_frames_of_other_recordings_are_no_neighbours() -> None:
    chosen = choose(scored([0.9, 0.1, 0.1, 0.1], [0.8, 0.1, 0.1, 0.1]), 2)
    assert [(frame.recording, frame.place) for frame in chosen] == [(0, 0), (1, 0)]


@pytest.mark.parametrize('count', [1, 2, 3, 7, 10, 49, 50, 99, 100, 101])
def test_as_many_as_asked_for_are_chosen_however_they_lie(count) -> None:
    random = np.random.default_rng(count)
    frames = scored(random.random(61), random.random(2), random.random(1), random.random(36))
    chosen = choose(frames, count)
    assert len(set(chosen)) == len(chosen) == min(count, 100)


def test_equal_frames_are_taken_in_order() -> None:
    assert [frame.place for frame in choose(scored([0.5] * 9), 3)] == [0, 2, 4]
