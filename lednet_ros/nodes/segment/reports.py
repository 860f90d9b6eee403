# SPDX-License-Identifier: Apache-2.0
"""The node's reports on /diagnostics: one array each time its timer asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.segment.diagnostics import (
    ERROR,
    OK,
    WARN,
    CameraView,
    Status,
    camera_state,
    camera_values,
    latency_values,
    make_status,
    reporter,
)
from lednet_ros.nodes.shared.latency import TOTAL, Quantiles


@dataclass(frozen=True)
class Snapshot:
    """The node at the moment of a report."""

    now_s: float  # monotonic
    engine: Status
    cameras: tuple[Camera, ...]
    active_since_s: float | None  # None: it is not
    segmented_s: float | None     # when labels were last published; None: never
    patience_s: float             # how long none may be while images come
    latency: Mapping[str, Quantiles]
    max_latency_ms: float
    stale_after_s: float


class Reports:
    """Publishes `<node>: engine`, `latency` and `camera <name>`; warns of silent cameras once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._last_s: float | None = None
        self._coming_since_s: float | None = None  # images, of any camera; None: they do not

    def publish(self, now: Snapshot) -> None:
        """Publish a report; rates are those since the last one."""
        elapsed_s = max(now.now_s - self._last_s, 1e-3) if self._last_s else 1.0
        self._last_s = now.now_s
        segmented = 0
        images_come = False
        cameras = {}
        for camera in now.cameras:
            view = self._view(camera, now, elapsed_s)
            segmented += view.counts.segmented - view.before.segmented
            images_come |= not view.idle_because and (
                view.image_age_s is not None and view.image_age_s < now.stale_after_s)
            camera.reported = view.counts
            state, level, message = camera_state(view, now.stale_after_s)
            cameras[f'camera {camera.name}'] = Status(
                level, message, camera_values(view, state), now.engine.hardware_id)
            # Not by the message, which counts the seconds.
            trouble = (state, view.publishers > 0, view.endpoint_problem)
            if trouble != camera.warned and (state == 'stale' or view.endpoint_problem):
                self._node.get_logger().warning(message)
            camera.warned = trouble
        if not images_come:
            self._coming_since_s = None
        elif self._coming_since_s is None:
            self._coming_since_s = now.now_s
        latency = latency_status(now, segmented / elapsed_s, self._coming_since_s)
        latency = replace(latency, hardware_id=now.engine.hardware_id)
        statuses = {'engine': now.engine, 'latency': latency, **cameras}
        array = DiagnosticArray(status=[
            make_status(f'{reporter(self._node)}: {task}', status)
            for task, status in statuses.items()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _view(self, camera: Camera, now: Snapshot, elapsed_s: float) -> CameraView:
        publishers = self._node.count_publishers(camera.topic)
        idle_because = ''
        if not camera.is_listening:
            idle_because = ('the node is not active' if now.active_since_s is None
                            else 'nobody listens to its outputs')
        if idle_because or not publishers:
            camera.listening_since_s = None
        elif camera.listening_since_s is None:
            camera.listening_since_s = now.now_s
        counts = camera.tally.counts
        ages_s = [now.now_s - t for t in (counts.last_received_s, camera.listening_since_s)
                  if t is not None]
        return CameraView(
            camera.topic, counts, camera.reported, elapsed_s, idle_because,
            camera.info_problem if camera.is_listening_to_info else '',
            camera.endpoint_problem(), publishers,
            image_age_s=None if counts.last_received_s is None else ages_s[0],
            silent_s=min(ages_s, default=0.0))


def latency_status(now: Snapshot, segmented_hz: float, coming_since_s: float | None) -> Status:
    """Judge how old labels are, and whether there are any though images come."""
    total = now.latency.get(TOTAL)
    values = {'segmented_hz': segmented_hz, 'max_latency_ms': now.max_latency_ms,
              **latency_values(now.latency)}
    if coming_since_s is not None:
        missing_s = now.now_s - max(
            t for t in (coming_since_s, now.segmented_s, now.active_since_s) if t is not None)
        if missing_s > now.patience_s:
            return Status(ERROR, f'images come but no labels for {missing_s:.0f} s: see the '
                          'engine and the cameras', values)
    if not total:
        return Status(OK, 'no latency within the last seconds', values)
    message = f'p95 {total.p95:.0f} ms from stamp to label'
    if 0 < now.max_latency_ms < total.p95:
        return Status(WARN, f'{message}, over the limit of {now.max_latency_ms:g} ms', values)
    return Status(OK, message, values)
