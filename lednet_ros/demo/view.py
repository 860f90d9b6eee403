# SPDX-License-Identifier: Apache-2.0
"""What the demo sees of the nodes: images, and the ground's grid and scan, of one frame each."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, LaserScan

from lednet_ros.demo.table import Pace
from lednet_ros.monitor.diagnostics_reader import dropped_words
from lednet_ros.nodes.shared.image_messages import BadImage, decode

HELD_BYTES = 256 * 2**20  # of camera images that wait for their labels
HELD_IMAGES = 100


@dataclass(frozen=True)
class SeenGround:
    """The ground of one frame, in the robot's frame."""

    cells: np.ndarray            # int8 (rows along y, columns along x)
    origin: tuple[float, float]  # the first cell's corner, m
    resolution: float            # m
    beams: np.ndarray            # float64 (N, 2): where free ground ends, m

    @classmethod
    def of(cls, grid: OccupancyGrid, scan: LaserScan) -> SeenGround:
        """Read the ground node's messages."""
        ranges = np.array(scan.ranges)
        ranges[~np.isfinite(ranges)] = np.nan
        bearings = scan.angle_min + np.arange(len(ranges)) * scan.angle_increment
        corner = grid.info.origin.position
        return cls(
            np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width),
            (corner.x, corner.y), grid.info.resolution,
            np.column_stack([ranges * np.cos(bearings), ranges * np.sin(bearings)]))


@dataclass(frozen=True)
class Triple:
    """One frame and what became of it. Arrays are read only and share the messages' memory."""

    stamp_ns: int
    camera: np.ndarray   # uint8 (H, W, 3) RGB
    labels: np.ndarray   # uint8 (H, W)
    colors: np.ndarray   # uint8 (H, W, 3) RGB
    latency_ms: float    # from the stamp to its last part's arrival here
    ground: SeenGround | None  # None unless it was asked for


@dataclass(frozen=True)
class NodeReport:
    """What the node said of itself in /diagnostics; texts as they came, '' if never."""

    received: str = ''
    segmented: str = ''
    dropped: str = ''
    dropped_because: tuple[str, ...] = ()
    rejected: str = ''
    p50_ms: str = ''
    p95_ms: str = ''
    backend: str = ''
    camera: str = ''     # the camera status's message
    problem: str = ''    # why the node cannot segment at all


class DemoView(Node):
    """
    Listens to `image`, the segment node's outputs and /diagnostics; queues what matches.

    What finds the queue full is counted and left out: drawing is slower than a good network.
    """

    def __init__(self, seen: queue.Queue[Triple], ground: bool) -> None:
        super().__init__('lednet_demo')
        self._seen = seen
        self._parts: dict[int, dict[str, Any]] = {}
        self.camera_size: tuple[int, int] | None = None  # height, width
        self.pace = Pace()
        self.report = NodeReport()
        self.reports = 0
        self.unmatched = 0  # labels whose camera image did not arrive here
        camera = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
        every = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        topics = [('camera', Image, 'image', camera), ('labels', Image, 'segment/label', every),
                  ('colors', Image, 'segment/color', every)]
        if ground:
            topics += [('grid', OccupancyGrid, 'ground/grid', every),
                       ('scan', LaserScan, 'ground/free_space', every)]
        self._complete = len(topics)
        for part, type_, topic, qos in topics:
            self.create_subscription(
                type_, topic, lambda message, part=part: self._on_part(part, message), qos)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_part(self, part: str, message: Any) -> None:
        if part == 'camera':
            self.camera_size = message.height, message.width
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        parts = self._parts.setdefault(stamp_ns, {})
        parts[part] = message
        if len(parts) == self._complete:
            latency_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
            # The node answers in order, so what is older waits in vain.
            for older in [s for s in self._parts if s <= stamp_ns]:
                self.unmatched += 'camera' not in self._parts.pop(older)
            self.pace.tick(time.monotonic())
            try:
                camera, colors = (decode(parts[p]) for p in ('camera', 'colors'))
            except BadImage:
                return  # the node rejects it too, and says so
            labels = np.frombuffer(parts['labels'].data, np.uint8).reshape(
                parts['labels'].height, parts['labels'].width)
            with suppress(queue.Full):
                self._seen.put_nowait(Triple(
                    stamp_ns, camera.pixels if camera.rgb else camera.pixels[..., ::-1], labels,
                    colors.pixels, latency_ms,
                    SeenGround.of(parts['grid'], parts['scan']) if 'grid' in parts else None))
        elif part == 'camera':
            self._forget(len(message.data))

    def _forget(self, image_bytes: int) -> None:
        """Keep what waits within bounds: an image that the node dropped never gets labels."""
        limit = min(HELD_IMAGES, max(2, HELD_BYTES // max(image_bytes, 1)))
        while len(self._parts) > limit:
            self._parts.pop(min(self._parts))

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        statuses = {status.name: status for status in array.status}
        if 'segment: engine' not in statuses:
            return
        engine = statuses['segment: engine']
        camera = statuses.get('segment: camera image', DiagnosticStatus())
        counts = {v.key: v.value for v in camera.values}
        latency = {v.key: v.value for v in statuses.get(
            'segment: latency', DiagnosticStatus()).values}
        self.reports += 1
        self.report = NodeReport(
            received=counts.get('received', ''),
            segmented=counts.get('segmented', ''),
            dropped=counts.get('dropped', ''),
            dropped_because=tuple(dropped_words(counts)),
            rejected=counts.get('rejected', ''),
            p50_ms=latency.get('total_p50_ms', '').split('.')[0],
            p95_ms=latency.get('total_p95_ms', '').split('.')[0],
            backend=engine.message,
            camera=camera.message,
            problem=engine.message if engine.level == DiagnosticStatus.ERROR else '')
