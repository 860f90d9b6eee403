# SPDX-License-Identifier: Apache-2.0
from lednet_ros.nodes.shared.stamp_join import HELD, StampJoin

BOTH = ('label', 'info')


def test_equal_stamps_meet_in_any_order() -> None:
    join = StampJoin()
    assert join.put('label', 1, 'a', BOTH) is None
    assert join.put('info', 1, 'A', BOTH) == {'label': 'a', 'info': 'A'}
    assert join.put('info', 2, 'B', BOTH) is None
    assert join.put('label', 2, 'b', BOTH) == {'label': 'b', 'info': 'B'}
    assert join.unmatched == 0


def test_other_stamps_never_meet_and_what_is_older_goes() -> None:
    join = StampJoin()
    join.put('label', 1, 'a', BOTH)
    join.put('info', 2, 'B', BOTH)
    assert join.put('label', 2, 'b', BOTH) == {'label': 'b', 'info': 'B'}
    assert join.unmatched == 1
    assert join.put('info', 1, 'A', BOTH) is None


def test_what_never_meets_is_held_within_bounds_and_counted() -> None:
    join = StampJoin()
    for i in range(100):
        join.put('label', i, i, BOTH)
    assert join.unmatched == 100 - HELD
    assert join.put('info', 99, 'Z', BOTH) == {'label': 99, 'info': 'Z'}
    assert join.put('info', 0, 'A', BOTH) is None


def test_what_comes_long_before_its_partner_is_still_there() -> None:
    join = StampJoin()
    for i in range(50):  # a CameraInfo at 30 Hz, and a network that takes 1.5 s
        join.put('info', i, i, BOTH)
    assert join.put('label', 3, 'd', BOTH) == {'label': 'd', 'info': 3}
    assert join.put('label', 4, 'e', BOTH) == {'label': 'e', 'info': 4}
    assert join.unmatched == 0


def test_after_time_jumps_back_new_ones_meet() -> None:
    join = StampJoin()
    for i in range(1000, 1000 + HELD):
        join.put('label', i, i, BOTH)
    for i in range(3):
        join.put('label', i, i, BOTH)
        assert join.put('info', i, i, BOTH) == {'label': i, 'info': i}


def test_each_label_image_is_matched_or_unmatched_or_waits() -> None:
    join = StampJoin()
    join.put('label', 1, 'a', BOTH)
    join.put('label', 1, 'b', BOTH)  # as of a driver whose stamps stand still
    assert join.unmatched == 1
    assert join.put('info', 1, 'A', BOTH) == {'label': 'b', 'info': 'A'}
    join.put('info', 2, 'B', BOTH)
    join.put('info', 2, 'B', BOTH)  # no label image
    join.put('label', 3, 'c', BOTH)
    join.clear()
    assert join.unmatched == 2
    join.clear()
    assert join.unmatched == 2
