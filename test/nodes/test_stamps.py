# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lednet_ros.nodes.shared.stamps import age_of, going_back

NOW = 1_700_000_000 * 10**9


def test_a_stamp_of_this_clock_tells_the_age() -> None:
    assert age_of(NOW - 25_000_000, NOW) == (25.0, '')
    assert age_of(NOW, NOW) == (0.0, '')


def test_a_little_ahead_is_the_step_of_a_clock_and_no_age() -> None:
    assert age_of(NOW + 25_000_000, NOW) == (0.0, '')
    assert age_of(NOW + 49_000_000, NOW) == (0.0, '')
    assert age_of(NOW + 51_000_000, NOW).ms is None


def test_an_age_is_believed_up_to_a_minute() -> None:
    assert age_of(NOW - 59_900_000_000, NOW) == (59_900.0, '')
    assert age_of(NOW - 60_100_000_000, NOW).ms is None


@pytest.mark.parametrize(('stamp_ns', 'now_ns', 'words'), [
    (0, NOW, 'is zero'),
    (NOW + 2_500_000_000, NOW, 'is 2.5 s in the future'),
    (NOW, 0, 'no /clock has come'),  # simulated time that has not begun
    (NOW - 86_400 * 10**9, NOW, 'is 1.0 days old: .* use_sim_time'),
], ids=['zero', 'future', 'no clock yet', 'a bag'])
def test_a_stamp_that_tells_no_age_is_named(stamp_ns, now_ns, words) -> None:
    ms, problem = age_of(stamp_ns, now_ns)
    assert ms is None
    assert re.search(words, problem)


def test_a_stamp_that_goes_back_is_named() -> None:
    assert 'is 100 ms before the last' in going_back(NOW - 10**8, NOW)
    assert going_back(NOW, NOW) == going_back(NOW + 1, NOW) == going_back(NOW, 0) == ''
    assert going_back(0, NOW) == ''  # zero is named as such


@given(stamp_ns=st.integers(0, 2**62), now_ns=st.integers(0, 2**62))
def test_no_age_is_negative_or_absurd(stamp_ns, now_ns) -> None:
    ms, problem = age_of(stamp_ns, now_ns)
    assert (ms is None) == bool(problem)
    assert ms is None or 0 <= ms <= 60_000
