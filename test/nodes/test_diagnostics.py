# SPDX-License-Identifier: Apache-2.0
"""What is said of a camera, of all that may be the case."""
from dataclasses import dataclass, field, replace

import pytest

from lednet_ros.nodes.segment.diagnostics import (
    CAUSES,
    CameraCounts,
    CameraStats,
    CameraView,
    NodeState,
    Reports,
    camera_status,
    latency_status,
    loading_status,
    unconfigured_status,
)
from lednet_ros.nodes.shared.latency import Quantiles
from lednet_ros.nodes.shared.status import ERROR, OK, WARN, Status
from lednet_ros.segmentation.engine_build import BuildState


def dropped(**causes: int) -> dict[str, int]:
    return {**dict.fromkeys(CAUSES, 0), **causes}


SEEN = CameraCounts(received=30, segmented=28, dropped_by_cause=dropped(newer=2),
                    last_received_s=99.9,
                    size='640x480', encoding='bgr8')
GOOD = CameraView('/image', SEEN, CameraCounts(), elapsed_s=1.0, idle_because='', info_problem='',
                  endpoint_problem='', publishers=1, image_age_s=0.1, silent_s=0.1)
NEW = replace(GOOD, counts=CameraCounts(), image_age_s=None)
QOS = '/driver publishes /image with a QoS that cannot match'


def bad(rejected: int, segmented: int = 28, newer: int = 2, **more) -> CameraView:
    return replace(GOOD, counts=replace(
        SEEN, segmented=segmented, dropped_by_cause=dropped(newer=newer), rejected=rejected,
        last_rejection='size 0x0', last_rejected=not segmented), **more)


@pytest.mark.parametrize(('view', 'state', 'level', 'words'), [
    (GOOD, 'active', OK, 'segmenting'),
    (replace(GOOD, idle_because='nobody listens'), 'idle', OK, 'idle: nobody listens'),
    (replace(GOOD, idle_because='nobody listens', endpoint_problem=QOS), 'idle', WARN, QOS),
    (bad(30, 0, 0), 'rejected', ERROR, 'all images are rejected: size 0x0'),
    (bad(2, 0, 28), 'rejected', ERROR, 'all images are rejected: size 0x0'),
    (bad(30, 0, 0, before=bad(30, 0, 0).counts), 'rejected', ERROR, 'all images are rejected'),
    (bad(1), 'active', WARN, 'some images are rejected: size 0x0'),
    (bad(1, before=replace(SEEN, received=20, rejected=1)), 'active', OK, 'segmenting'),
    (replace(GOOD, info_problem='/camera_info: it holds NaN'), 'active', WARN,
     'no camera_info goes out: /camera_info: it holds NaN'),
    (replace(GOOD, endpoint_problem=QOS), 'active', WARN, QOS),
    (replace(GOOD, counts=replace(SEEN, odd_stamps=2, last_odd_stamp='is zero')), 'active', WARN,
     'stamps tell no age: the last is zero'),
    (NEW, 'waiting', OK, 'waiting for an image on /image'),
    (replace(NEW, publishers=0), 'waiting', WARN, 'nobody publishes /image: start the camera'),
    (replace(NEW, endpoint_problem=QOS), 'waiting', WARN, QOS),
    (replace(NEW, silent_s=7.0), 'stale', WARN, 'no image came for 7 s: with Fast DDS'),
    (replace(GOOD, image_age_s=7.0, silent_s=7.0), 'stale', WARN,
     'no image came for 7 s: look at the camera'),
    (replace(GOOD, image_age_s=7.0, silent_s=7.0, publishers=0), 'stale', WARN,
     'nobody publishes /image'),
    (replace(GOOD, image_age_s=70.0), 'waiting', OK, 'waiting for an image'),
], ids=['good', 'unheard', 'unheard, unmatched', 'all bad', 'all bad, some dropped',
        'all bad, none lately', 'some bad', 'bad before',
        'no camera_info', 'unmatched', 'odd stamps', 'new', 'nobody', 'new, unmatched', 'deaf',
        'silent', 'gone', 'taken up again'])
def test_a_camera_s_state_level_and_cause(view, state, level, words) -> None:
    said = camera_status(view, stale_after_s=5.0)
    assert (said.values['state'], said.level) == (state, level)
    assert words in said.message


def test_figures_have_units_and_rates_are_those_since_the_last_report() -> None:
    view = replace(GOOD, before=replace(SEEN, received=10, segmented=10), elapsed_s=2.0)
    values = camera_status(view, stale_after_s=5.0).values
    assert values['received_hz'] == 10.0
    assert values['segmented_hz'] == 9.0
    assert values['image_age_ms'] == pytest.approx(100.0)
    assert (values['received'], values['size'], values['encoding']) == (30, '640x480', 'bgr8')
    assert 'image_age_ms' not in camera_status(NEW, stale_after_s=5.0).values


def test_floats_have_one_decimal_on_the_wire() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2')
    from lednet_ros.nodes.shared.diagnostics import make_status
    status = make_status('a camera', Status(WARN, 'so so', {'hz': 9.97, 'count': 3}, 'robot'))
    assert {v.key: v.value for v in status.values} == {'hz': '10.0', 'count': '3'}
    assert (status.name, status.level, status.message, status.hardware_id) == (
        'a camera', WARN, 'so so', 'robot')


def test_images_that_were_dropped_are_counted_by_cause_and_all_together() -> None:
    counts = replace(SEEN, dropped_by_cause={
        'rate_limit': 1, 'newer': 20, 'deactivated': 300, 'abandoned': 4000})
    values = camera_status(replace(GOOD, counts=counts), stale_after_s=5.0).values
    assert {name: value for name, value in values.items() if 'dropped' in name} == {
        'dropped': 4321, 'dropped_rate_limit': 1, 'dropped_newer': 20,
        'dropped_deactivated': 300, 'dropped_abandoned': 4000}


NOW = NodeState(now_s=1000.0, engine=Status(OK, '', {}), cameras=(), active_since_s=100.0,
                segmented_s=999.9, label_timeout_s=5.0,
                latency={'total': Quantiles(40, 60, 70, 80)}, max_latency_ms=0.0,
                stale_after_s=5.0)


@pytest.mark.parametrize(('now', 'coming_since_s', 'level', 'words'), [
    (NOW, 110.0, OK, 'p95 60 ms'),
    (replace(NOW, max_latency_ms=50.0), 110.0, WARN, 'over the limit of 50 ms'),
    (replace(NOW, segmented_s=990.0), 110.0, ERROR, 'no labels for 10 s'),
    (replace(NOW, segmented_s=None), 110.0, ERROR, 'no labels for 890 s'),
    (replace(NOW, segmented_s=10.0, active_since_s=999.0), 110.0, OK, 'p95'),
    # After an hour without images, or listeners, labels are not late at once.
    (replace(NOW, segmented_s=110.0, latency={}), 999.9, OK, 'no latency within'),
    (replace(NOW, segmented_s=110.0, latency={}), None, OK, 'no latency within'),
], ids=['good', 'late', 'failing', 'never', 'new', 'images again', 'no images'])
def test_labels_that_do_not_come_though_images_do_are_an_error(
    now, coming_since_s, level, words
) -> None:
    said = latency_status(now, 0.0, coming_since_s)
    assert said.level == level
    assert words in said.message


@dataclass
class Camera:
    """Stands for a camera that the node listens to."""

    name: str = 'front'
    topic: str = '/image'
    stats: CameraStats = field(default_factory=CameraStats)
    info_problem: str = ''
    is_listening: bool = True
    is_listening_to_info: bool = False
    problem: str = ''

    def endpoint_problem(self) -> str:
        return self.problem


def test_stats_count_each_outcome_once_and_dropped_by_cause() -> None:
    stats = CameraStats()
    for now_s in (1.0, 2.0, 3.0, 4.0):
        stats.received(now_s)
    stats.segmented()
    stats.dropped('newer')
    stats.rejected('size 0x0')
    stats.odd_stamp('is zero')
    stats.looks('640x480', 'bgr8')
    assert stats.counts == CameraCounts(
        4, 1, dropped(newer=1), 1, 1, 'size 0x0', 'is zero', True, 4.0, '640x480', 'bgr8')
    stats.segmented()
    assert not stats.counts.last_rejected
    with pytest.raises(KeyError):
        stats.dropped('boredom')


def test_rates_are_those_since_the_last_report() -> None:
    camera = Camera()
    reports = Reports(lambda topic: 1, lambda text: None)
    state = replace(NOW, cameras=[camera])
    reports.statuses(state)
    for _ in range(10):
        camera.stats.received(1001.0)
        camera.stats.segmented()
    statuses = reports.statuses(replace(state, now_s=1002.0))
    assert list(statuses) == ['engine', 'latency', 'camera front']
    assert statuses['camera front'].values['segmented_hz'] == 5.0
    assert statuses['latency'].values['segmented_hz'] == 5.0
    statuses = reports.statuses(replace(state, now_s=1003.0))
    assert statuses['camera front'].values['segmented_hz'] == 0.0


def test_a_camera_that_is_configured_anew_counts_from_zero() -> None:
    camera = Camera()
    reports = Reports(lambda topic: 1, lambda text: None)
    for _ in range(10):
        camera.stats.received(1000.0)
    reports.statuses(replace(NOW, cameras=[camera]))
    again = Camera()
    again.stats.received(1001.0)
    statuses = reports.statuses(replace(NOW, cameras=[again], now_s=NOW.now_s + 1.0))
    assert statuses['camera front'].values['received_hz'] == 1.0


def test_silence_counts_from_when_a_publisher_was_listened_to_and_is_logged_once() -> None:
    camera, logged, publishers = Camera(), [], [0]
    reports = Reports(lambda topic: publishers[0], logged.append)

    def state(now_s: float) -> object:
        return reports.statuses(replace(NOW, cameras=[camera], now_s=now_s))[
            'camera front'].values['state']

    assert state(1000.0) == 'waiting'
    publishers[0] = 1
    assert [state(1010.0), state(1014.0)] == ['waiting', 'waiting']
    assert logged == []
    assert [state(1016.0), state(1017.0)] == ['stale', 'stale']
    assert len(logged) == 1
    assert 'no image came for 6 s' in logged[0]
    camera.is_listening = False
    assert state(1018.0) == 'idle'
    camera.is_listening = True
    assert state(1020.0) == 'waiting'


def test_images_that_come_anew_give_labels_their_time() -> None:
    camera = Camera()
    reports = Reports(lambda topic: 1, lambda text: None)

    def level(now_s: float, received_s: float) -> bytes:
        camera.stats.received(received_s)
        return reports.statuses(replace(
            NOW, cameras=[camera], now_s=now_s, segmented_s=200.0, latency={}))['latency'].level

    assert level(1000.0, 1000.0) == OK
    assert level(1004.0, 1004.0) == OK
    assert level(1006.0, 1006.0) == ERROR
    assert level(1050.0, 1006.0) == OK  # none come
    assert level(1051.0, 1051.0) == OK


def test_all_statuses_are_of_the_hardware_that_runs_the_network() -> None:
    engine = Status(OK, '', {}, 'robot cuda:0')
    statuses = Reports(lambda topic: 1, print).statuses(
        replace(NOW, cameras=[Camera()], engine=engine))
    assert {status.hardware_id for status in statuses.values()} == {'robot cuda:0'}


def test_what_a_node_without_a_network_says() -> None:
    assert loading_status(None) == Status(WARN, 'configuring', {'state': 'configuring'})
    build = BuildState('building the engine', elapsed_s=7.5)
    assert loading_status(build) == Status(
        WARN, 'compiling: building the engine', {'state': 'compiling', 'elapsed_s': 7.5})
    assert unconfigured_status('') == Status(OK, 'not configured', {})
    assert unconfigured_status('no room') == Status(ERROR, 'no room', {})
