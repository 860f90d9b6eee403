# SPDX-License-Identifier: Apache-2.0
"""What is said of a camera, of all that may be the case."""
from dataclasses import replace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from lednet_ros.nodes.segment.camera_tally import CameraCounts
from lednet_ros.nodes.segment.diagnostics import (
    ERROR,
    OK,
    WARN,
    CameraView,
    Status,
    camera_state,
    camera_values,
    make_status,
)
from lednet_ros.nodes.segment.reports import Snapshot, latency_status
from lednet_ros.nodes.shared.latency import Quantiles

SEEN = CameraCounts(received=30, segmented=28, dropped_newer=2, last_received_s=99.9,
                    size='640x480', encoding='bgr8')
GOOD = CameraView('/image', SEEN, CameraCounts(), elapsed_s=1.0, idle_because='', info_problem='',
                  endpoint_problem='', publishers=1, image_age_s=0.1, silent_s=0.1)
NEW = replace(GOOD, counts=CameraCounts(), image_age_s=None)
QOS = '/driver publishes /image with a QoS that cannot match'


def bad(rejected: int, segmented: int = 28, dropped: int = 2, **more) -> CameraView:
    return replace(GOOD, counts=replace(
        SEEN, segmented=segmented, dropped_newer=dropped, rejected=rejected,
        last_rejection='size 0x0', ends_in_rejection=not segmented), **more)


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
    said = camera_state(view, stale_after_s=5.0)
    assert said[:2] == (state, level)
    assert words in said[2]


def test_figures_have_units_and_rates_are_those_since_the_last_report() -> None:
    view = replace(GOOD, before=replace(SEEN, received=10, segmented=10), elapsed_s=2.0)
    status = make_status('a camera', Status(OK, 'fine', camera_values(view, 'active')))
    values = {v.key: v.value for v in status.values}
    assert values['received_hz'] == '10.0'
    assert values['segmented_hz'] == '9.0'
    assert values['image_age_ms'] == '100.0'
    assert (values['received'], values['size'], values['encoding']) == ('30', '640x480', 'bgr8')
    assert 'image_age_ms' not in camera_values(NEW, 'waiting')


def test_images_that_were_dropped_are_counted_by_cause_and_all_together() -> None:
    counts = replace(SEEN, dropped_rate_limit=1, dropped_newer=20, dropped_deactivated=300,
                     dropped_abandoned=4000)
    values = camera_values(replace(GOOD, counts=counts), 'active')
    assert {name: value for name, value in values.items() if 'dropped' in name} == {
        'dropped': 4321, 'dropped_rate_limit': 1, 'dropped_newer': 20,
        'dropped_deactivated': 300, 'dropped_abandoned': 4000}


NOW = Snapshot(now_s=1000.0, engine=Status(OK, '', {}), cameras=(), active_since_s=100.0,
               segmented_s=999.9, patience_s=5.0, latency={'total': Quantiles(40, 60, 70, 80)},
               max_latency_ms=0.0, stale_after_s=5.0)


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
