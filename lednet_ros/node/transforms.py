# SPDX-License-Identifier: Apache-2.0
"""Poses from TF, where tf2_ros is installed."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from lednet_ros.errors import LednetRosError, first_line
from lednet_ros.planning import Pose

try:
    from tf2_ros import Buffer, TransformException, TransformListener
except ImportError:  # on no machine without apt's ROS
    Buffer = None

__all__ = ['Buffer', 'NoPose', 'Transforms']


class NoPose(LednetRosError):
    """TF does not know where a frame is; the text names both."""


class Transforms:
    """Listens to TF from when it is made."""

    def __init__(self, node: Node) -> None:
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)

    def pose(self, frame: str, in_frame: str, stamp: Any, remedy: str) -> Pose:
        """Give where a frame is in another at a builtin_interfaces/Time. Raises NoPose."""
        try:
            found = self._buffer.lookup_transform(in_frame, frame, Time.from_msg(stamp)).transform
        except TransformException as error:
            raise NoPose(f'no TF from {in_frame!r} to {frame!r}: {first_line(error)}: '
                         f'{remedy}') from error
        t, q = found.translation, found.rotation
        return Pose.from_quaternion((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))
