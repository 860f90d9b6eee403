# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from lednet_ros.monitor.diagnostics_reader import dropped_words, read_reports, stage_quantiles


def status(name: str, level, **values) -> SimpleNamespace:
    return SimpleNamespace(name=name, level=level, message=f'{name} says so', values=[
        SimpleNamespace(key=key, value=value) for key, value in values.items()])


def array(*statuses) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=12, nanosec=500_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), status=list(statuses))


def test_each_segmentation_node_of_an_array_is_found_and_others_are_not() -> None:
    reports = read_reports(array(
        status('front_lens: engine', b'\x00', backend='torch'),
        status('front_lens: latency', b'\x01', total_p50_ms='12.5'),
        status('front_lens: camera left', 2, received='7', size=''),
        status('rear: engine', 0), status('rear: latency', 0),
        status('motor: engine', 0), status('battery', 0)))
    assert [r.node for r in reports] == ['front_lens', 'rear']
    front = reports[0]
    assert front.stamp_s == 12.5
    assert (front.engine.level, front.latency.level) == ('OK', 'WARN')
    assert front.cameras['left'].level == 'ERROR'
    assert front.cameras['left'].number('received') == 7.0
    assert front.cameras['left'].number('size') is None
    assert front.to_dict()['cameras']['left']['values']['received'] == '7'


def test_quantiles_of_a_stage_that_was_not_measured_are_none() -> None:
    values = {'inference_p50_ms': '3.0', 'inference_p95_ms': '4.0', 'inference_p99_ms': '5.0',
              'inference_max_ms': '6.0'}
    assert stage_quantiles(values, 'inference') == {'p50': 3.0, 'p95': 4.0, 'p99': 5.0, 'max': 6.0}
    assert stage_quantiles(values, 'total') == {}


def test_nothing_that_a_terminal_would_obey_gets_through() -> None:
    clear = '\x1b[2J'
    report, = read_reports(array(
        status(f'a{clear}: engine', 0, **{f'back{clear}': f'torch{clear} 5 µs °\n'}),
        status(f'a{clear}: latency', 0), status(f'a{clear}: camera b{clear}', 0)))
    assert report.node == 'a�[2J'
    assert report.engine.message == 'a�[2J: engine says so'
    assert report.engine.values == {'back�[2J': 'torch�[2J 5 µs °�'}
    assert list(report.cameras) == ['b�[2J']


def test_why_images_were_dropped_is_told_where_they_were() -> None:
    assert dropped_words({'dropped': '5', 'dropped_newer': '3', 'dropped_rate_limit': '2',
                          'dropped_abandoned': '0', 'dropped_deactivated': 'nan'}) == [
        '2 dropped: sooner than max_rate_hz allows', '3 dropped: a newer one came before its turn']
    assert dropped_words({'dropped': '5'}) == []  # by a node of before


def test_what_is_no_finite_number_is_none() -> None:
    report, = read_reports(array(
        status('a: engine', 0, x='nan', y='-inf', z='1e999', w='1'), status('a: latency', 0)))
    assert [report.engine.number(name) for name in 'xyzw'] == [None, None, None, 1.0]
