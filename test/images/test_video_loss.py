# SPDX-License-Identifier: Apache-2.0
"""How many frames a video lacks, by the times of those that it has: mostly at 10 Hz, of 100."""

from __future__ import annotations

import pytest

from lednet_ros.images.video_loss import FrameTimes


def missing(numbers, count: int = 100, suffix: str = '.mkv', faults=(), rate_hz: float = 10.0,
            times_s=None) -> int:
    """Ask for a video of these frames; faults are the numbers before which decoding failed."""
    times = FrameTimes()
    for number in numbers:
        times.note(times_s(number) if times_s else number / rate_hz, number in faults)
    return times.missing(count, rate_hz, suffix)


ALL = ['.avi', '.mp4', '.mov', '.mkv', '.webm', '']


@pytest.mark.parametrize('suffix', ALL)
def test_a_whole_video_lacks_nothing(suffix) -> None:
    assert missing(range(100), suffix=suffix) == 0
    assert missing(range(100), 0, suffix) == 0  # it says no count
    assert missing([], 0, suffix) == 0


@pytest.mark.parametrize('suffix', ALL)
@pytest.mark.parametrize('faults', [(), (60,)], ids=['passed over', 'failed'])
def test_frames_between_others_are_counted_though_it_plays_to_its_end(suffix, faults) -> None:
    """AVI's times are made by counting."""
    numbers = range(80) if suffix == '.avi' else [*range(40), *range(60, 100)]
    assert missing(numbers, suffix=suffix, faults=faults) == 20


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_the_end_and_a_gap_are_added(suffix) -> None:
    assert missing([*range(20), *range(30, 50)], suffix=suffix) == 50 + 10


@pytest.mark.parametrize(('suffix', 'expected'), [('.avi', 2), ('.mp4', 2), ('.mkv', 0)])
def test_single_frames_count_where_the_container_counts_them(suffix, expected) -> None:
    """Elsewhere they may never have been recorded."""
    numbers = range(98) if suffix == '.avi' else [n for n in range(100) if n not in (30, 70)]
    assert missing(numbers, suffix=suffix) == expected
    assert missing(numbers, suffix=suffix, faults=(31, 71)) == 2


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_a_rate_that_varies_is_no_loss(suffix) -> None:
    """As of a screen, recorded where it changes."""
    assert missing(range(40), 100 if suffix == '.mkv' else 40, suffix,
                   times_s=lambda n: n * n * 10.0 / 39**2) == 0


def test_what_was_not_recorded_is_no_loss_where_frames_are_counted() -> None:
    assert missing([*range(40), *range(50, 100)], 90, '.mp4') == 0


def test_a_trimmed_film_is_whole() -> None:
    """Its container counts frames that are not meant to be shown."""
    assert missing(range(93), 100, '.mp4') == 0


@pytest.mark.parametrize(('count', 'rate_hz', 'tolerated'), [
    (100, 2.0, 6), (1000, 2.0, 15), (100, 30.0, 31), (3000, 30.0, 60)])
def test_an_estimated_end_may_be_off_by_a_second_and_a_hundredth(
    count: int, rate_hz: float, tolerated: int,
) -> None:
    for lost in (tolerated, tolerated + 1):
        times = FrameTimes()
        for n in range(count - lost):
            times.note(n / rate_hz, False)
        assert times.missing(count, rate_hz, '.mkv') == (lost if lost > tolerated else 0)
