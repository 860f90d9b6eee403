# SPDX-License-Identifier: Apache-2.0
"""Where camera, points and robot were, with a TF that this test makes up: tf2_ros has no wheel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from std_msgs.msg import Header

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared.poses import PoseFinder
from lednet_ros.nodes.shared.tf import NoPose, Transforms
from lednet_ros.projection import Pose

SPEED = 2.0  # m/s along odom's x


class MovingRobot:
    """Answers as TF would of a robot that drives straight ahead; `missing` frames are unknown."""

    def __init__(self, missing: tuple[str, ...] = (), may_come: bool = False) -> None:
        self.missing, self.may_come = missing, may_come

    def pose(self, frame: str, in_frame: str, stamp: Any, remedy: str) -> Pose:
        if {frame, in_frame} & set(self.missing):
            error = NoPose(f'no TF from {in_frame!r} to {frame!r}: {remedy}')
            error.may_come = self.may_come
            raise error
        return shifted(SPEED * stamp.sec if in_frame == 'odom' else 0.0)

    def moved(self, frame: str, stamp: Any, in_frame: str, in_stamp: Any, fixed_frame: str,
              remedy: str) -> Pose:
        assert fixed_frame == 'odom'
        return shifted(SPEED * (stamp.sec - in_stamp.sec))


def shifted(x: float) -> Pose:
    return Pose(np.eye(3), np.array([x, 0.0, 0.0]))


def finder(transforms: Any, **given: Any) -> PoseFinder:
    values = {'output_frame': 'base_link', 'fixed_frame': '', 'grid.frame': '',
              'camera.height': 1.0, **{f'camera.{name}': 0.0 for name in (
                  'roll', 'pitch', 'yaw', 'x', 'y')}, **given}
    return PoseFinder(transforms, values.__getitem__, lambda: None, values['output_frame'],
                      values['fixed_frame'])


def header(second: int, frame: str) -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec = second
    return result


LABEL, SCAN = header(10, 'eye'), header(9, 'lidar')


def test_the_robots_motion_between_scan_and_labels_is_taken_out() -> None:
    """A second before the labels the LiDAR was 2 m behind where it is now."""
    still = finder(MovingRobot()).find(LABEL, SCAN, ['points'], False)
    moved = finder(MovingRobot(), fixed_frame='odom').find(LABEL, SCAN, ['points'], False)
    assert still is not None
    assert moved is not None
    assert still.sensor.origin[0] == 0.0
    assert moved.sensor.origin[0] == -2.0
    assert moved.camera.origin[0] == 0.0


def test_the_grid_is_where_the_robot_was_at_the_labels_stamp() -> None:
    poses = finder(MovingRobot(), **{'grid.frame': 'odom'}).find(LABEL, SCAN, ['grid'], False)
    assert poses is not None
    assert poses.robot is not None
    assert poses.robot.origin[0] == 20.0


def test_a_robot_that_is_not_found_costs_the_grid_alone() -> None:
    found = finder(MovingRobot(('odom',)), **{'grid.frame': 'odom'})
    poses = found.find(LABEL, SCAN, ['points', 'grid'], False)
    assert poses is not None
    assert poses.robot is None
    assert "no TF from 'odom' to 'base_link'" in poses.no_grid
    with pytest.raises(NoPose):
        found.find(LABEL, SCAN, ['grid'], False)


def test_labels_wait_for_what_may_come_and_not_for_what_is_past() -> None:
    may, past = (finder(MovingRobot(('eye',), may_come=m)) for m in (True, False))
    assert may.find(LABEL, SCAN, ['points'], True) is None
    with pytest.raises(NoPose, match="to 'eye': publish it"):
        may.find(LABEL, SCAN, ['points'], False)
    with pytest.raises(NoPose):
        past.find(LABEL, SCAN, ['points'], True)


def test_without_tf_no_frame_can_be_followed() -> None:
    for name in ('grid.frame', 'fixed_frame'):
        with pytest.raises(ConfigError, match=f"{name} is 'odom' but there is no TF"):
            finder(None, **{name: 'odom'})


def test_points_without_a_frame_are_not_taken_for_the_cameras() -> None:
    with pytest.raises(NoPose, match="points are in frame '' and there is no TF"):
        finder(None).find(LABEL, header(9, ''), ['points'], False)


@pytest.mark.parametrize('odd', [{'x': float('inf')}, {'y': float('nan')}, {'w': 0.0}], ids=str)
def test_a_transform_that_is_none_is_no_pose(odd) -> None:
    """A grid would lie at some cell far away, and a cloud nowhere."""
    numbers = {'x': 1.0, 'y': 2.0, 'w': 1.0, **odd}
    found = SimpleNamespace(transform=SimpleNamespace(
        translation=SimpleNamespace(x=numbers['x'], y=numbers['y'], z=0.0),
        rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=numbers['w'])))
    transforms = object.__new__(Transforms)
    with pytest.raises(NoPose, match="TF from 'odom' to 'base_link' holds NaN or infinity"):
        transforms._found('base_link', 'odom', SimpleNamespace(), '', lambda: found)
