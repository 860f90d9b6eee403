# SPDX-License-Identifier: Apache-2.0
import pytest

from lednet_ros.node.latency import Latency


def test_quantiles_are_of_the_newest_frames_only() -> None:
    latency = Latency(window=100)
    for _ in range(50):
        latency.add({'run': 1e6})
    for ms in range(1, 101):
        latency.add({'run': float(ms)})
    run = latency.quantiles()['run']
    assert run.p50 == pytest.approx(50.5)
    assert run.p95 == pytest.approx(95.05)
    assert run.max == 100


def test_a_stage_that_was_not_measured_has_no_figures() -> None:
    latency = Latency()
    assert latency.quantiles() == {}
    latency.add({'run': 3.0})
    latency.add({'run': 5.0, 'total': 9.0})
    assert set(latency.quantiles()) == {'run', 'total'}
    assert latency.quantiles()['total'].p50 == 9.0
