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

from lednet_ros.nodes.cloud.cloud_node import CloudNode
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
