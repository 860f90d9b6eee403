# SPDX-License-Identifier: Apache-2.0
"""
The /diagnostics of a node: one array a report, each status named `<node>: <task>`.

Which values there are is said by the diagnostics.py of each node.
"""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from lednet_ros.nodes.shared.status import Status


class DiagnosticsPublisher:
    """Publishes a node's statuses."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def publish(self, statuses: Mapping[str, Status]) -> None:
        """Publish the statuses of tasks, by their names, with the node's time."""
        # The node's name is with its namespace, if that is not /.
        name = f'{self._node.get_namespace()}/{self._node.get_name()}'.lstrip('/')
        array = DiagnosticArray(status=[
            make_status(f'{name}: {task}', status) for task, status in statuses.items()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def make_status(name: str, status: Status) -> DiagnosticStatus:
    """Build the message; floats with one decimal are enough for people and scripts."""
    return DiagnosticStatus(
        name=name, level=status.level, message=status.message, hardware_id=status.hardware_id,
        values=[KeyValue(key=k, value=f'{v:.1f}' if isinstance(v, float) else str(v))
                for k, v in status.values.items()])
