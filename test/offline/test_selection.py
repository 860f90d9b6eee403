# SPDX-License-Identifier: Apache-2.0
"""Which frames are chosen to be labelled."""

from __future__ import annotations

import numpy as np
import pytest

from lednet_ros.offline import selection
from lednet_ros.offline.selection import (
    Scored,
    look_of,
    most_uncertain,
    most_various,
    uncertainty,
)


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
    chosen = most_uncertain(scored(values), 3)
    assert [frame.place for frame in chosen[:2]] == [12, 25]
    assert len(chosen) == 3
    assert all(abs(chosen[2].place - place) > 4 for place in (12, 25))


def test_frames_of_other_recordings_are_no_neighbours() -> None:
    chosen = most_uncertain(scored([0.9, 0.1, 0.1, 0.1], [0.8, 0.1, 0.1, 0.1]), 2)
    assert [(frame.recording, frame.place) for frame in chosen] == [(0, 0), (1, 0)]


@pytest.mark.parametrize('choose', [most_uncertain, most_various])
@pytest.mark.parametrize('count', [1, 2, 3, 7, 10, 49, 50, 99, 100, 101])
def test_as_many_as_asked_for_are_chosen_however_they_lie(choose, count) -> None:
    random = np.random.default_rng(count)
    frames = [frame._replace(look=random.bytes(9)) for frame in scored(
        random.random(61), random.random(2), random.random(1), random.random(36))]
    chosen = choose(frames, count)
    assert len(set(chosen)) == len(chosen) == min(count, 100)


def test_equal_frames_are_taken_in_order() -> None:
    assert [frame.place for frame in most_uncertain(scored([0.5] * 9), 3)] == [0, 2, 4]


def alike(*kinds: int) -> list[Scored]:
    """Return frames of one recording that look as their numbers say, all but a little noise."""
    random = np.random.default_rng(0)
    return [Scored(0, place, 0.5, bytes((np.uint8([100 * kind, 40]) + random.integers(0, 9, 2))
                                        .astype(np.uint8)))
            for place, kind in enumerate(kinds)]


def test_each_kind_of_frame_gets_one_that_stands_for_it_however_rare_it_is() -> None:
    frames = alike(*[0] * 60, *[1] * 6, *[0] * 30, *[2] * 4)
    chosen = most_various(frames, 3)
    assert sorted(frame.look[0] // 95 for frame in chosen) == [0, 1, 2]


def test_more_frames_of_a_kind_that_fills_the_recording_come_from_all_over_it() -> None:
    places = sorted(frame.place for frame in most_various(alike(*[0] * 90), 5))
    assert min(np.diff(places)) > 4
    assert places[0] < 25
    assert places[-1] > 65


def test_of_equal_frames_none_is_near_another() -> None:
    frames = [Scored(track, place, 0.0, b'same') for track in (0, 1) for place in range(50)]
    places = [(frame.recording, frame.place) for frame in most_various(frames, 10)]
    assert len(set(places)) == 10
    assert {recording for recording, _ in places} == {0, 1}
    for track in (0, 1):
        assert min(np.diff(sorted(place for one, place in places if one == track))) > 2


def test_of_very_many_frames_some_are_compared_from_all_over(monkeypatch) -> None:
    monkeypatch.setattr(selection, '_COMPARED', 50)
    frames = alike(*[0] * 300, *[1] * 300)
    assert sorted(frame.place // 300 for frame in most_various(frames, 2)) == [0, 1]
    assert len({frame.place for frame in most_various(frames, 200)}) == 200


def test_the_gains_are_as_counted_anew_each_time() -> None:
    random = np.random.default_rng(5)
    frames = [Scored(0, place, 0.0, random.bytes(6)) for place in range(40)]
    distance = selection._distances(frames)
    chosen = [frame.place for frame in most_various(frames, 8)]
    nearest = distance.max(1)
    for number, place in enumerate(chosen):
        gain = np.maximum(nearest[:, None] - distance, 0).sum(0)
        free = [other for other in range(40)
                if all(abs(other - before) > 1 for before in chosen[:number])]
        assert gain[place] == pytest.approx(max(gain[free]))
        nearest = np.minimum(nearest, distance[:, place])


def test_a_look_tells_what_is_seen_where_and_in_which_light() -> None:
    labels = np.zeros((480, 640), np.uint8)
    labels[240:] = 1
    pixels = np.full((480, 640, 3), 90, np.uint8)
    look = look_of(pixels, labels, 3)
    assert len(look) == 4 * 6 * (3 + 3)
    assert look[:12] == bytes([255] * 12)  # class 0: all of the upper rows
    assert look[12:24] == bytes(12)
    assert look_of(pixels[::2, ::2], labels[::2, ::2], 3) == look
    assert look_of(pixels + 50, labels, 3) != look
    assert look_of(pixels, labels[::-1], 3) != look
    labels[:] = 255
    assert look_of(pixels, labels, 3)[:72] == bytes(72)
