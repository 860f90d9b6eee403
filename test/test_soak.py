# SPDX-License-Identifier: Apache-2.0
"""`make soak` is only as good as its judgement: here of records made by hand."""
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


@pytest.fixture(scope='module')
def soak():
    spec = importlib.util.spec_from_file_location('soak', BENCHMARKS / 'soak.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['soak'] = module  # where dataclasses look for it
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def record(soak, **more):
    """A sample each minute; `more` gives a field's value by the minute."""
    plain = soak.Sample(
        minutes=0.0, memory_mb=400.0, private_mb=380.0, shared_mb=20.0, descriptors=26, threads=24,
        cpu_s=0.0, inference_p50_ms=5.0, total_p95_ms=9.0, received=0, segmented=0, dropped=0,
        rejected=0)
    for minute in range(31):
        changed = {name: value(minute) for name, value in more.items()}
        yield replace(plain, minutes=minute, cpu_s=3.0 * minute, received=300 * minute,
                      segmented=300 * minute, **changed)


def test_what_stays_as_it_is_passes(soak) -> None:
    assert soak.verdict(list(record(soak)), 30) == []


@pytest.mark.parametrize(('field', 'value', 'words'), [
    ('memory_mb', lambda minute: 400 + 0.08 * minute, 'memory grew by'),
    ('descriptors', lambda minute: 26 + minute // 5, 'descriptors grew from'),
    ('threads', lambda minute: 24 + minute // 5, 'threads grew from'),
    ('rejected', lambda minute: 3 * (minute == 20), 'at 20 min -3 frames have no outcome, or two'),
], ids=['memory', 'descriptors', 'threads', 'outcomes'])
def test_growth_and_frames_without_an_outcome_are_named(soak, field, value, words) -> None:
    [problem] = soak.verdict(list(record(soak, **{field: value})), 30)
    assert words in problem


def test_what_the_warm_up_takes_is_not_growth(soak) -> None:
    assert soak.verdict(list(record(soak, memory_mb=lambda m: 400 + 10 * min(m, 3))), 30) == []


def test_a_run_cut_off_in_its_warm_up_is_no_success(soak) -> None:
    [problem] = soak.verdict(list(record(soak))[:5], 30)
    assert 'before there was anything to judge' in problem


def test_slower_is_a_problem_only_if_it_takes_more_work(soak) -> None:
    busy = list(record(soak, inference_p50_ms=lambda minute: 5.0 + minute))
    assert soak.verdict(busy, 30) == []  # by whatever else ran on the machine
    with_late_labels = list(record(soak, total_p95_ms=lambda minute: 9.0 + minute))
    assert soak.verdict(with_late_labels, 30) == []
    slow = [replace(s, cpu_s=0.1 * s.minutes ** 2) for s in busy]
    [problem] = soak.verdict(slow, 30)
    assert 'inference_p50_ms grew from' in problem
    slow = [replace(s, cpu_s=0.1 * s.minutes ** 2) for s in with_late_labels]
    [problem] = soak.verdict(slow, 30)
    assert 'total_p95_ms grew from' in problem


def test_a_node_that_segments_no_more_is_no_success(soak) -> None:
    dead = [replace(s, segmented=min(s.segmented, 3000), rejected=max(0, s.received - 3000),
                    inference_p50_ms=5.0 if s.minutes < 10 else None) for s in record(soak)]
    [problem] = soak.verdict(dead, 30)
    assert 'nothing was segmented' in problem
