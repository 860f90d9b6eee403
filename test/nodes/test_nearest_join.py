# SPDX-License-Identifier: Apache-2.0
"""Labels and depth that belong together."""

from __future__ import annotations

from lednet_ros.nodes.shared.nearest_join import HELD, NearestJoin

MS = 1_000_000


def test_equal_stamps_belong_together_whichever_comes_first() -> None:
    join = NearestJoin()
    assert join.put_first(5 * MS, 'label', 0) is None
    assert join.put_second(5 * MS, 'depth', 0) == ('label', 'depth')
    assert join.put_second(9 * MS, 'depth', 0) is None
    assert join.put_first(9 * MS, 'label', 0) == ('label', 'depth')
    assert join.unmatched == 0


def test_the_nearest_within_the_tolerance_is_taken() -> None:
    join = NearestJoin()
    for stamp in (0, 33, 66, 100):
        join.put_second(stamp * MS, stamp, 20)
    assert join.put_first(70 * MS, 'label', 20) == ('label', 66)
    assert join.put_first(115 * MS, 'later', 20) == ('later', 100)


def test_labels_wait_for_depth_that_may_come() -> None:
    join = NearestJoin()
    join.put_second(10 * MS, 'old', 5)
    assert join.put_first(50 * MS, 'label', 5) is None
    assert join.unmatched == 0
    assert join.put_second(52 * MS, 'depth', 5) == ('label', 'depth')


def test_labels_without_depth_near_by_are_given_up_and_it_is_said_how_far_it_was() -> None:
    join = NearestJoin()
    join.put_second(0, 'before', 5)
    join.put_first(40 * MS, 'label', 5)
    assert join.put_second(100 * MS, 'after', 5) is None
    assert join.unmatched == 1
    assert join.apart_ms == 40.0
    assert join.put_first(101 * MS, 'next', 5) == ('next', 'after')
    assert join.apart_ms is None


def test_the_newest_pair_wins_and_what_it_passes_by_is_counted() -> None:
    join = NearestJoin()
    for stamp in (0, 30, 60):
        join.put_first(stamp * MS, stamp, 10)
    assert join.put_second(60 * MS, 'depth', 10) == (60, 'depth')
    assert join.unmatched == 2


def test_what_never_gets_a_partner_does_not_pile_up() -> None:
    join = NearestJoin()
    for stamp in range(3 * HELD):
        join.put_first(stamp * MS, stamp, 0)
    assert join.unmatched == 2 * HELD
    join.clear()
    assert join.unmatched == 3 * HELD


def test_what_is_of_a_time_that_jumped_back_gives_up_no_label() -> None:
    """Else labels that come before their depth would get none for a second and more."""
    join = NearestJoin()
    for stamp in (29_800, 29_900):
        join.put_second(stamp * MS, 'before', 20)
    join.put_second(0, 'depth', 20)
    assert join.put_first(100 * MS, 'label', 20) is None
    assert join.put_second(100 * MS, 'its depth', 20) == ('label', 'its depth')
    assert join.unmatched == 0
