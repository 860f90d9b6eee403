# SPDX-License-Identifier: Apache-2.0
"""One of semantic_cloud_node's cameras: its topics, its depth or points, its newest frame."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from lednet_ros.nodes.shared.camera_input import CameraInput
from lednet_ros.nodes.shared.nearest_join import NearestJoin, Pair

OF_LABELS = {'label': Image, 'camera_info': CameraInfo, 'confidence': Image}
SOURCES = {'depth': Image, 'points': PointCloud2}


class CloudInput(CameraInput):
    """A camera, and what tells where its labels are: joined by the nearest stamp."""

    def __init__(self, node: Node, name: str, source: str) -> None:
        super().__init__(node, name, {**OF_LABELS, source: SOURCES[source]})
        self.source = source
        self.pairs = NearestJoin()
        self.transport_ms: float | None = None  # of the newest frame, as the next
        self.run_s = 0.0
        self.size = ''

    @property
    def source_topic(self) -> str:
        """The topic of depth or points."""
        return self._node.resolve_topic_name(self._topics[self.source])

    @property
    def unmatched(self) -> int:
        """How many label images were given up whose partners, depth or points too, never came."""
        return super().unmatched + self.pairs.unmatched

    def forget(self) -> int:
        """Drop what waits and what was seen; return how many label images waited for TF."""
        self.pairs.clear()
        return super().forget()

    def pair(
        self, input_: str, stamp_ns: int, message: Any, of_labels: Collection[str],
        tolerance_ms: float,
    ) -> Pair | None:
        """Take a message; return what belongs together, once it is complete."""
        if input_ == self.source:
            self.came(input_)
            return self.pairs.put_second(stamp_ns, message, tolerance_ms)
        parts = self.put(input_, stamp_ns, message, of_labels)
        return self.pairs.put_first(stamp_ns, parts, tolerance_ms) if parts else None
