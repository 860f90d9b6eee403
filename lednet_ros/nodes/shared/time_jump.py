# SPDX-License-Identifier: Apache-2.0
"""
Time that jumps back: a bag that is played again, a simulation that is reset.

What is then forgotten is said by `_forget_stamps` of each node, and by `tf.Transforms`.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node


def call_on_jump_back(node: Node, call: Callable[[], None]) -> JumpHandle:
    """
    Have `call` called when the node's time jumps back, or its clock is another.

    As long as the handle is kept.
    """
    return node.get_clock().create_jump_callback(
        JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)),
        post_callback=lambda jump: call())
