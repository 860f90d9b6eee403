# SPDX-License-Identifier: Apache-2.0
"""The ground node with several cameras, in this process: what it takes in, what goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from camera_rigs import GroundRig, road, starting
from test_cloud_node import HEIGHT, WIDTH

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared.camera_names import camera_names


@pytest.fixture
def start(monkeypatch) -> Iterator[Callable[..., GroundRig]]:
    with starting(GroundRig, monkeypatch) as start:
        yield start


def test_frames_of_all_cameras_go_out_as_one_cloud_one_grid_and_one_scan(start) -> None:
    rig = start()
    rig.send('left', 1.02)  # which cannot know of the other one
    rig.send('front', 1.1, road(car=True))
    assert [len(messages) for messages in rig.out.values()] == [1, 1, 1]
    rig.send('left', 1.12)
    assert [len(messages) for messages in rig.out.values()] == [2, 2, 2]
    cells = rig.grid()
    assert rig.is_free(rig.aside)
    assert (cells[98:103, 148:153] == 100).any()
    assert not (cells[98:103, 153:175] == 0).any()
    cloud, scan = rig.out['points'][-1], rig.out['free_space'][-1]
    assert (cloud.height, cloud.width) == (1, 2 * HEIGHT * WIDTH)
    points = np.frombuffer(cloud.data, np.float32).reshape(2, HEIGHT, WIDTH, 4)
    assert points[0, 70, 80, 0] == pytest.approx(5.1, abs=0.2)  # the front's, to the car's foot
    assert points[1, 100, 80, :2] == pytest.approx((0.0, 2.5), abs=0.01)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    ahead, aside = (scan.ranges[int(np.abs(angles - a).argmin())] for a in (0.0, np.pi / 2))
    assert ahead == pytest.approx(5.0, abs=0.2)
    assert aside == np.inf
    assert {m.header.stamp.nanosec for m in (cloud, scan, rig.out['grid'][-1])} == {120_000_000}
    status = rig.status()
    assert status.message.endswith('projecting') or 'nobody publishes' in status.message
    assert status.values['left/size'] == '160x120'
    assert [str(status.values[key]) for key in ('received', 'projected')] == ['3', '3']


def test_each_camera_has_its_pose_by_parameters_of_its_name(start) -> None:
    rig = start()
    assert rig.node.get_parameter('camera.left.yaw').value == 1.5708
    assert rig.node.describe_parameter('camera.front.pitch').description.startswith('Pitch')
    with pytest.raises(ConfigError, match="camera 'left' is named twice"):
        camera_names(['left', 'front', 'left'])
