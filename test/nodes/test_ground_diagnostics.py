# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from lednet_ros.nodes.ground.diagnostics import GroundView, latency_status, view_status
from lednet_ros.nodes.shared.latency import Quantiles
from lednet_ros.nodes.shared.status import OK, WARN, InputView, RoundsState

LABEL, INFO = InputView('/label', 1, 0.1), InputView('/camera_info', 1, 0.1)
ROUNDS = RoundsState(
    inputs=(LABEL, INFO), listening_s=60.0, projected_ago_s=0.1, problem='',
    counts={'received': 9}, stale_after_s=5.0)
GOOD = GroundView(ROUNDS, wanted=('points', 'grid'), remark='', figures={'size': '64x48'})


@pytest.mark.parametrize(('change', 'level', 'words'), [
    ({}, OK, 'projecting'),
    ({'wanted': ()}, OK, 'idle: nobody listens'),
    ({'listening_s': 0.5, 'projected_ago_s': None,
      'inputs': (InputView('/label', 0, None), INFO)}, OK, 'waiting for the first label'),
    ({'inputs': (InputView('/label', 0, None), INFO)}, WARN, 'nobody publishes /label'),
    ({'inputs': (InputView('/label', 1, 9.0), InputView('/camera_info', 0, None))}, WARN,
     'nobody publishes /camera_info'),
    ({'inputs': (LABEL, InputView('/camera_info', 1, None))}, WARN,
     'nothing goes out: /camera_info has a publisher but nothing came for 60 s'),
    ({'inputs': (InputView('/label', 1, 7.0), INFO)}, WARN, 'nothing came for 7 s'),
    ({'inputs': (LABEL, InputView('/camera_info', 1, None, '/camera_info carries Image'))}, WARN,
     'nothing goes out: /camera_info carries Image'),
    ({'inputs': (InputView('/label', 1, 4.0), INFO)}, OK, 'projecting'),
    ({'problem': 'no TF'}, WARN, 'nothing goes out: no TF'),
    ({'projected_ago_s': None}, WARN, '/label and /camera_info come with different stamps'),
    ({'projected_ago_s': 9.0}, WARN, 'come with different stamps'),
    ({'projected_ago_s': None, 'waiting': 3}, WARN,
     'nothing goes out: 3 label images wait for the transforms of their stamps'),
    ({'remark': 'all unlabelled'}, WARN, 'all unlabelled'),
    ({'unheard': '/map listens in vain'}, WARN, '/map listens in vain'),
    ({'unheard': '/map listens in vain', 'wanted': ()}, WARN, '/map listens in vain'),
])
def test_the_message_names_the_cause(change, level, words) -> None:
    of_rounds = {name: value for name, value in change.items() if hasattr(ROUNDS, name)}
    of_node = {name: value for name, value in change.items() if name not in of_rounds}
    status = view_status(replace(GOOD, rounds=replace(ROUNDS, **of_rounds), **of_node))
    assert words in status.message
    assert status.level == level
    assert status.values['received'] == 9


def test_latency_is_told_where_it_was_measured() -> None:
    status = latency_status({'total': Quantiles(1.0, 2.4, 3.0, 4.0)})
    assert status.message == 'p95 2 ms from stamp to output'
    assert status.values['total_p95_ms'] == 2.4
    assert 'no latency' in latency_status({}).message
