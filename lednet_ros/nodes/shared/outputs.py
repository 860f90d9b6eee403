# SPDX-License-Identifier: Apache-2.0
"""The topics that a node, or one of its cameras, publishes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from lednet_ros.nodes.shared.endpoints import unmatched_listener
from lednet_ros.nodes.shared.qos import make_publisher


class Outputs:
    """Publishers by output, while they are open; `types` are the outputs' messages."""

    def __init__(self, node: Node, types: Mapping[str, type], prefix: str = '~') -> None:
        self._node = node
        self._types = types
        # By the names as they are asked for: ROS remaps any name that it is given.
        self._names = {output: f'{prefix}/{output}' for output in types}
        self._publishers: dict[str, Publisher] = {}

    def open(self) -> None:
        """Offer all of them. Raise ConfigError over qos_overrides that make no sense."""
        for output, type_ in self._types.items():  # one by one: `close` closes what there is
            # Reliable, which any subscriber matches, and only the newest. In a group of its own:
            # rclpy's groups keep a trace of each member they ever had.
            self._publishers[output] = make_publisher(
                self._node, type_, self._names[output], QoSProfile(depth=1),
                callback_group=MutuallyExclusiveCallbackGroup())

    def close(self) -> None:
        """Take them back."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}

    def wanted(self) -> list[str]:
        """Return the outputs that someone listens to."""
        return [output for output, publisher in self._publishers.items()
                if publisher.get_subscription_count()]

    def publish(self, output: str, message: Any) -> None:
        """Publish on one of them."""
        self._publishers[output].publish(message)

    def unheard(self) -> str:
        """Name a listener of another type, or with a QoS that cannot match; '' if none is."""
        return unmatched_listener(
            self._node, {self._names[output]: type_ for output, type_ in self._types.items()},
            {self._names[output]: publisher for output, publisher in self._publishers.items()})
