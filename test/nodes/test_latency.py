# SPDX-License-Identifier: Apache-2.0
import pytest

from lednet_ros.nodes.shared.latency import Latency


def test_quantiles_are_of_the_last_seconds() -> None:
    latency = Latency(window_s=10.0)
    latency.add(0.0, {'inference': 1e6})
    for i in range(101):
        latency.add(5.0, {'inference': float(i)})
    assert latency.quantiles(9.0)['inference'].max == 1e6
    run = latency.quantiles(12.0)['inference']
    assert (run.p50, run.p95, run.p99, run.max) == pytest.approx((50, 95, 99, 100))
    assert latency.quantiles(20.0) == {}


def test_memory_is_constant_the_newest_stay() -> None:
    latency = Latency(most=100)
    for ms in range(1000):
        latency.add(0.0, {'inference': float(ms)})
    assert latency.quantiles(0.0)['inference'].p50 == pytest.approx(949.5)


def test_a_stage_that_was_never_measured_is_left_out() -> None:
    latency = Latency()
    assert latency.quantiles(0.0) == {}
    latency.add(0.0, {'inference': 3.0})
    latency.add(0.0, {'inference': 5.0, 'total': 9.0})
    assert set(latency.quantiles(0.0)) == {'inference', 'total'}
    assert latency.quantiles(0.0)['total'].p50 == 9.0
