# SPDX-License-Identifier: Apache-2.0
"""Messages of some topics as a queue, for commands that only look."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lednet_ros.nodes.shared.ros_start import check_middleware, init, make_node, spin

if TYPE_CHECKING:
    from rclpy.node import Node


class Arrival(NamedTuple):
    """A message and when it came."""

    topic: str
    message: Any
    received_ns: int  # by the system's clock


class Listener:
    """Collects what arrives on topics; they may be added at any time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.arrivals: queue.Queue[Arrival] = queue.Queue()

    def listen_to(self, topic: str, type_: type) -> None:
        """Collect a topic's messages from now on, whatever its publisher's QoS."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        self._node.create_subscription(
            type_, topic, lambda message: self.arrivals.put(
                Arrival(topic, message, time.time_ns())),
            QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))


@contextmanager
def listening(name: str) -> Iterator[Listener]:
    """
    Be a node as long as the block lasts. Raise ConfigError where ROS cannot start.

    Ctrl-C stays Python's.
    """
    check_middleware()  # before rclpy is imported
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    context = rclpy.Context()
    init([], context)
    node = make_node(lambda: rclpy.create_node(name, context=context))
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor,), name='listen', daemon=True)
    thread.start()
    try:
        yield Listener(node)
    finally:
        context.try_shutdown()
        thread.join()
        executor.shutdown()
        node.destroy_node()
