# SPDX-License-Identifier: Apache-2.0
"""With the real tf2_ros, where it is installed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros, which has no wheel')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter

from lednet_ros.node.transforms import NoPose, Transforms


@pytest.fixture
def rig():
    """A node on simulated time, its transforms, and how often time jumped back."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('test', context=context, parameter_overrides=[
        Parameter('use_sim_time', value=True)])
    jumps: list[int] = []
    yield SimpleNamespace(node=node, jumps=jumps,
                          transforms=Transforms(node, lambda: jumps.append(1)))
    node.destroy_node()
    context.try_shutdown()


def at(second: int) -> Time:
    return Time(sec=second)


def tell(rig, second: int, x: float) -> None:
    """Say where base_link is in odom, as TF's listener would."""
    transform = TransformStamped(child_frame_id='base_link')
    transform.header.frame_id, transform.header.stamp = 'odom', at(second)
    transform.transform.translation.x = x
    transform.transform.rotation.w = 1.0
    rig.transforms._buffer.set_transform(transform, 'test')


def set_time(rig, second: int) -> None:
    rig.node.get_clock().set_ros_time_override(
        rclpy.time.Time(seconds=second, clock_type=rclpy.clock.ClockType.ROS_TIME))


def test_a_moment_that_is_not_there_yet_may_come_and_an_unknown_frame_may_not(rig) -> None:
    tell(rig, 10, 1.0)
    tell(rig, 11, 2.0)
    assert rig.transforms.pose('base_link', 'odom', at(11), '').origin[0] == 2.0
    with pytest.raises(NoPose) as later:
        rig.transforms.pose('base_link', 'odom', at(12), 'publish it')
    assert later.value.may_come
    with pytest.raises(NoPose) as unknown:
        rig.transforms.pose('base_link', 'map', at(11), 'publish it')
    assert not unknown.value.may_come


def test_what_comes_after_time_has_jumped_back_is_heard(rig) -> None:
    set_time(rig, 1000)
    tell(rig, 1000, 1.0)
    set_time(rig, 1030)
    tell(rig, 1030, 2.0)
    assert rig.jumps == []
    set_time(rig, 1000)
    assert rig.jumps == [1]
    tell(rig, 1001, 3.0)
    tell(rig, 1002, 4.0)
    assert rig.transforms.pose('base_link', 'odom', at(1001), '').origin[0] == 3.0
