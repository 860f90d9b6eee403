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
from tf2_msgs.msg import TFMessage

from lednet_ros.nodes.shared.tf import NoPose, Transforms


@pytest.fixture
def rig():
    """A node on simulated time, and its transforms."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('test', context=context, parameter_overrides=[
        Parameter('use_sim_time', value=True)])
    yield SimpleNamespace(node=node, transforms=Transforms(node))
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
    rig.transforms._listener.callback(TFMessage(transforms=[transform]))


def set_time(rig, second: int) -> None:
    rig.node.get_clock().set_ros_time_override(
        rclpy.time.Time(seconds=second, clock_type=rclpy.clock.ClockType.ROS_TIME))


def may_come(rig, frame: str, in_frame: str, second: int) -> bool:
    with pytest.raises(NoPose) as error:
        rig.transforms.pose(frame, in_frame, at(second), 'publish it')
    assert str(error.value).startswith(f'no TF from {in_frame!r} to {frame!r}: ')
    return error.value.may_come


def test_what_is_not_there_yet_may_come_and_what_is_past_may_not(rig) -> None:
    assert may_come(rig, 'base_link', 'odom', 10)  # its publisher may only just begin
    tell(rig, 10, 1.0)
    tell(rig, 11, 2.0)
    assert rig.transforms.pose('base_link', 'odom', at(11), '').origin[0] == 2.0
    assert may_come(rig, 'base_link', 'odom', 12)
    assert may_come(rig, 'base_link', 'map', 11)
    assert not may_come(rig, 'base_link', 'odom', 9)
    assert not may_come(rig, '', 'odom', 11)


def test_a_frame_that_static_transforms_lead_to_is_fixed_to_the_other(rig) -> None:
    foot = TransformStamped(child_frame_id='base_footprint')
    foot.header.frame_id, foot.transform.rotation.w = 'base_link', 1.0
    assert not rig.transforms.is_rigid('base_link', 'base_footprint')  # is not known yet
    rig.transforms._listener.static_callback(TFMessage(transforms=[foot]))
    tell(rig, 10, 1.0)
    assert rig.transforms.is_rigid('base_link', 'base_footprint')
    assert not rig.transforms.is_rigid('base_link', 'odom')
    assert not rig.transforms.is_rigid('base_footprint', 'odom')


def test_what_comes_after_time_has_jumped_back_is_heard(rig) -> None:
    set_time(rig, 1000)
    tell(rig, 1000, 1.0)
    set_time(rig, 1030)
    tell(rig, 1030, 2.0)
    set_time(rig, 1000)
    tell(rig, 1001, 3.0)
    tell(rig, 1002, 4.0)
    assert rig.transforms.pose('base_link', 'odom', at(1001), '').origin[0] == 3.0


def test_what_was_sent_before_time_jumped_back_and_is_read_after_it_is_left_out(rig) -> None:
    """Else it would have all that comes refused as old, or be looked up between both."""
    set_time(rig, 1030)
    tell(rig, 1030, 2.0)
    set_time(rig, 1000)
    tell(rig, 1030, 2.0)
    tell(rig, 1001, 3.0)
    assert rig.transforms.pose('base_link', 'odom', at(1001), '').origin[0] == 3.0
    assert may_come(rig, 'base_link', 'odom', 1002)


def test_static_transforms_outlive_a_jump(rig) -> None:
    transform = TransformStamped(child_frame_id='camera')
    transform.header.frame_id = 'base_link'
    transform.transform.rotation.w = 1.0
    rig.transforms._listener.static_callback(TFMessage(transforms=[transform]))
    set_time(rig, 1030)
    set_time(rig, 1000)
    assert not rig.transforms.pose('camera', 'base_link', at(1000), '').origin.any()


def test_a_localisation_that_stamps_a_second_ahead_is_heard_after_a_jump(rig) -> None:
    set_time(rig, 1030)
    set_time(rig, 1000)
    tell(rig, 1001, 3.0)
    assert rig.transforms.pose('base_link', 'odom', at(1001), '').origin[0] == 3.0
