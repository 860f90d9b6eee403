# SPDX-License-Identifier: Apache-2.0
"""
Poses from TF, where tf2_ros is installed.

A lookup does not wait: `waiting.WaitingLine` keeps a label image for tf_timeout_s, and
`camera_rounds` counts what no transform came for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from lednet_ros.common.errors import ConfigError, LednetRosError, first_line
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.projection import Pose

try:
    from tf2_ros import (
        Buffer,
        InvalidArgumentException,
        TransformException,
        TransformListener,
    )
except ImportError:  # on no machine without apt's ROS
    Buffer = None

QUEUED_S = 5.0  # within which all that came before a jump of time has been read, by the wall clock
AHEAD_S = 2.0   # no transform is stamped that far ahead; localisation may do so by a second


class NoPose(LednetRosError):
    """TF does not know where a frame is; the text names both."""

    may_come = False  # as when it is not there yet, and not forgotten already


class Transforms:
    """
    Listens to TF from when it is made, and forgets it when the node's time jumps back.

    Else what was known of a later time, as of a bag's first pass, would have all that comes
    refused as old. tf2_ros does so itself from Jazzy on, where it is given the node, but not with
    what was sent before the jump and is read after it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = Buffer()
        self._jumped_s = float('-inf')  # monotonic, the last time
        self._handle = call_on_jump_back(node, self._forget)
        self._listener = TransformListener(self, node)  # of its buffer it calls the setters only

    def _forget(self) -> None:
        self._buffer.clear()  # of static ones nothing
        self._jumped_s = time.monotonic()

    def set_transform(self, transform: Any, authority: str) -> None:
        """Take what the listener hears on /tf."""
        if time.monotonic() - self._jumped_s < QUEUED_S:
            now_s = self._node.get_clock().now().nanoseconds / 1e9
            if Time.from_msg(transform.header.stamp).nanoseconds / 1e9 - now_s > AHEAD_S:
                return  # of before the jump
        self._buffer.set_transform(transform, authority)

    def set_transform_static(self, transform: Any, authority: str) -> None:
        """Take what the listener hears on /tf_static."""
        self._buffer.set_transform_static(transform, authority)

    def pose(self, frame: str, in_frame: str, stamp: Any, remedy: str) -> Pose:
        """Return where a frame is in another at a builtin_interfaces/Time. Raise NoPose."""
        time_ = Time.from_msg(stamp)
        return self._found(
            frame, in_frame, time_, remedy,
            lambda: self._buffer.lookup_transform(in_frame, frame, time_))

    def moved(
        self, frame: str, stamp: Any, in_frame: str, in_stamp: Any, fixed_frame: str, remedy: str,
    ) -> Pose:
        """
        Return where a frame was at one time in another at another time. Raise NoPose.

        What moves between is taken to stay in `fixed_frame`.
        """
        time_, in_time = Time.from_msg(stamp), Time.from_msg(in_stamp)
        return self._found(
            frame, in_frame, max(time_, in_time, key=lambda t: t.nanoseconds), remedy,
            lambda: self._buffer.lookup_transform_full(
                in_frame, in_time, frame, time_, fixed_frame))

    def _found(
        self, frame: str, in_frame: str, time_: Time, remedy: str, look_up: Callable[[], Any],
    ) -> Pose:
        try:
            found = look_up().transform
        except TransformException as error:
            missing = NoPose(f'no TF from {in_frame!r} to {frame!r}: {first_line(error)}: '
                             f'{remedy}')
            missing.may_come = not isinstance(error, InvalidArgumentException) and (
                not self._is_past(in_frame, frame, time_))
            raise missing from error
        t, q = found.translation, found.rotation
        pose = Pose.from_quaternion((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))
        if not (np.isfinite(pose.origin).all() and np.isfinite(pose.rotation).all()):
            raise NoPose(f'TF from {in_frame!r} to {frame!r} holds NaN or infinity: look at what '
                         'publishes it')
        return pose

    def is_rigid(self, frame: str, in_frame: str) -> bool:
        """Return whether only static transforms lead from a frame to another, so far."""
        try:
            newest = self._buffer.get_latest_common_time(in_frame, frame)
        except TransformException:
            return False
        return bool(newest.nanoseconds == 0)

    def _is_past(self, in_frame: str, frame: str, time_: Time) -> bool:
        """Whether TF has gone on since that moment, and so will not tell it any more."""
        try:
            newest = self._buffer.get_latest_common_time(in_frame, frame)
        except TransformException:  # a frame is not known, or not linked, yet
            return False
        return bool(newest.nanoseconds >= time_.nanoseconds)


def takes_tf(pose_source: str) -> bool:
    """Whether poses are to come from TF, and not from parameters."""
    return pose_source == 'tf' or (pose_source == 'auto' and Buffer is not None)


def find_transforms(node: Node, pose_source: str) -> Transforms | None:
    """Return TF, or None where poses are to come from parameters. Raise ConfigError."""
    if not takes_tf(pose_source):
        return None
    if Buffer is None:
        raise ConfigError('pose_source is tf but tf2_ros is not installed: install it, or choose '
                          'parameters')
    return Transforms(node)
