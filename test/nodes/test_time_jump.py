# SPDX-License-Identifier: Apache-2.0
"""What the nodes remember of stamps, when a bag begins again or a simulation is reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from lednet_ros.nodes.ground.ground_node import GroundNode
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.segment.segment_node import SegmentNode
from lednet_ros.nodes.shared.latency import TOTAL
from lednet_ros.nodes.shared.time_jump import call_on_jump_back


@pytest.fixture
def make(graph) -> Iterator[Callable[[type[Node]], Node]]:
    """Make a node on simulated time in this process."""
    nodes: list[Node] = []

    def make_one(type_: type[Node]) -> Node:
        nodes.append(type_())
        return nodes[-1]

    rclpy.init(args=['--ros-args', '-p', 'use_sim_time:=true', '-p', 'pose_source:=parameters'],
               signal_handler_options=SignalHandlerOptions.NO)
    yield make_one
    for node in nodes:
        if isinstance(node, SegmentNode):
            node.stop()
        node.destroy_node()
    rclpy.try_shutdown()


def set_time(node: Node, second: float) -> None:
    node.get_clock().set_ros_time_override(
        Time(nanoseconds=int(second * 1e9), clock_type=ClockType.ROS_TIME))


def stamped(message_type: type, second: int) -> Image | CameraInfo:
    header = Header()
    header.stamp.sec = second
    return message_type(header=header)


def test_only_a_jump_back_counts(make) -> None:
    node = make(lambda: rclpy.create_node('test'))
    set_time(node, 100)
    jumps: list[float] = []
    clock = node.get_clock()
    handle = call_on_jump_back(node, lambda: jumps.append(clock.now().nanoseconds / 1e9))
    for second in (100, 100.025, 160, 160):
        set_time(node, second)
    assert jumps == []
    set_time(node, 100)
    assert jumps == [100]
    handle.unregister()


def test_segment_node_compares_no_stamps_across_a_jump_back(make) -> None:
    """Neither is a bag's second pass odd, nor an image that came before its clock 30 s late."""
    node = make(SegmentNode)
    set_time(node, 130)
    camera = Camera(node, 'front', 'raw')
    node._cameras = [camera]
    now_s = 50.0

    def judge(second: int) -> None:
        camera.receive(stamped(Image, second), 0.0)  # rejected later, for it has no pixels

    judge(130)
    node._latency.add(now_s, {'transport': 30e3, TOTAL: 30e3})
    set_time(node, 131)
    judge(131)
    assert node._latency.quantiles(now_s)[TOTAL].max == 30e3
    set_time(node, 100)
    judge(100)
    assert camera.stats.counts.odd_stamps == 0
    assert node._latency.quantiles(now_s) == {}
    judge(99)
    assert camera.stats.counts.odd_stamps == 1  # two publish, or the driver's clock jumped
    node._cameras = []


def test_ground_node_forgets_what_waits_and_what_it_saw_when_time_jumps_back(make) -> None:
    node = make(GroundNode)
    set_time(node, 130)
    [camera] = node._cameras
    node._on_input(camera, 'label', stamped(Image, 130))  # waits for its camera_info
    camera.waiting.put({'label': stamped(Image, 129)}, 5.0)
    node._latency.add(1.0, {TOTAL: 30e3})
    node._ground._grid._evidence._planes[:] = 1.0
    set_time(node, 100)
    assert not camera.waiting
    assert node._rounds.outcomes()['dropped_no_tf'] == 1
    assert node._rounds.outcomes()['dropped_unmatched'] == 1
    assert node._latency.quantiles(1.0) == {}
    assert not node._ground._grid._evidence._planes.any()
