# SPDX-License-Identifier: Apache-2.0
"""Transitions as a lifecycle manager asks for them, by plain calls of the service's function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.cloud.cloud_node import CloudNode
from lednet_ros.nodes.ground.ground_node import GroundNode
from lednet_ros.nodes.segment.segment_node import SegmentNode
from lednet_ros.nodes.shared.ros_start import init


@pytest.fixture(params=[CloudNode, SegmentNode], ids=['semantic_cloud', 'segment'])
def node(request) -> Iterator[LifecycleNode]:
    init(['--ros-args', '-p', 'autostart:=false'])
    node = request.param()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def succeeds(node: LifecycleNode, transition: int) -> bool:
    request = ChangeState.Request()
    request.transition.id = transition
    answer = node._service_change_state.callback(request, ChangeState.Response())
    return bool((asyncio.run(answer) if inspect.isawaitable(answer) else answer).success)


@pytest.mark.parametrize('transition', [
    Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ACTIVE_SHUTDOWN, 200])
def test_a_transition_that_is_not_possible_is_refused_and_answered(node, transition) -> None:
    assert not succeeds(node, transition)
    assert succeeds(node, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert not succeeds(node, transition)


@pytest.mark.parametrize('make', [CloudNode, SegmentNode, GroundNode])
@pytest.mark.parametrize(('cameras', 'words'), [
    ('["left eye"]', "camera 'left eye' is no ROS name"), ('[a, a]', "camera 'a' is named twice")])
def test_cameras_that_cannot_be_end_a_node_as_it_starts(make, cameras, words) -> None:
    """It could not be configured, ever."""
    init(['--ros-args', '-p', f'cameras:={cameras}', '-p', 'pose_source:=parameters'])
    try:
        with pytest.raises(ConfigError, match=words):
            make()
    finally:
        rclpy.try_shutdown()
