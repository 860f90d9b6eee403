# SPDX-License-Identifier: Apache-2.0
"""Poses from TF, where tf2_ros is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from lednet_ros.errors import LednetRosError, first_line
from lednet_ros.planning import Pose

try:
    from tf2_ros import (
        Buffer,
        ExtrapolationException,
        TransformException,
        TransformListener,
    )
except ImportError:  # on no machine without apt's ROS
    Buffer = None

__all__ = ['Buffer', 'NoPose', 'Transforms']


class NoPose(LednetRosError):
    """TF does not know where a frame is; the text names both."""

    may_come = False  # the frames are known, and only that moment is not


class Transforms:
    """Listens to TF from when it is made, and forgets it when the node's time jumps back.

    Else what was known of a later time, as of a bag's first pass, would have all that comes
    refused as old. tf2_ros does so itself from Jazzy on, where it is given the node.
    `on_jump_back` is called too.
    """

    def __init__(self, node: Node, on_jump_back: Callable[[], None]) -> None:
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)
        self._on_jump_back = on_jump_back
        self._handle = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)),
            post_callback=self._forget)

    def _forget(self, jump: TimeJump) -> None:
        self._buffer.clear()
        self._on_jump_back()

    def pose(self, frame: str, in_frame: str, stamp: Any, remedy: str) -> Pose:
        """Return where a frame is in another at a builtin_interfaces/Time. Raise NoPose."""
        try:
            found = self._buffer.lookup_transform(in_frame, frame, Time.from_msg(stamp)).transform
        except TransformException as error:
            missing = NoPose(f'no TF from {in_frame!r} to {frame!r}: {first_line(error)}: '
                             f'{remedy}')
            missing.may_come = isinstance(error, ExtrapolationException)
            raise missing from error
        t, q = found.translation, found.rotation
        return Pose.from_quaternion((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))
