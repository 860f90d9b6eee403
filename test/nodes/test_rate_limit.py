# SPDX-License-Identifier: Apache-2.0
import pytest

from lednet_ros.nodes.segment.rate_limit import RateLimit


@pytest.mark.parametrize(('camera_hz', 'max_hz', 'expected_hz'), [
    (30, 0, 30), (30, 10, 10), (30, 7, 7), (30, 25, 25), (10, 30, 10)])
def test_so_many_pass_a_second_whatever_the_camera_s_rate(camera_hz, max_hz, expected_hz) -> None:
    limit = RateLimit()
    passed = sum(limit.allows(i / camera_hz, max_hz) for i in range(10 * camera_hz))
    assert passed == pytest.approx(10 * expected_hz, abs=2)


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    limit = RateLimit()
    assert limit.allows(0.0, 10)
    burst = [limit.allows(60 + i / 1000, 10) for i in range(100)]
    assert sum(burst) <= 2


def test_a_raised_rate_takes_effect_at_once() -> None:
    limit = RateLimit()
    assert [limit.allows(t, 0.02) for t in (0.0, 0.1, 0.2)] == [True, True, False]
    passed = sum(limit.allows(0.3 + i / 30, 30) for i in range(30))
    assert passed == pytest.approx(30, abs=2)


def test_after_a_rate_of_almost_nothing_another_holds() -> None:
    limit = RateLimit()
    assert [limit.allows(float(t), 1e-320) for t in range(3)] == [True, True, False]
    assert [limit.allows(10 + t / 4, 2.0) for t in range(6)].count(True) <= 4
