# SPDX-License-Identifier: Apache-2.0
"""What the node knows of itself, in words for /diagnostics. Plain functions of snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node

from lednet_ros.nodes.segment.camera_tally import CameraCounts
from lednet_ros.nodes.shared.latency import Quantiles

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

LOST_AT_SENDER = (
    'with Fast DDS a large image is lost at its sender unless the camera driver too runs with the '
    "large-image profile (README, 'No frames arrive')")


@dataclass(frozen=True)
class Status:
    """One task's report."""

    level: bytes  # OK, WARN or ERROR
    message: str
    values: Mapping[str, object]
    hardware_id: str = ''


@dataclass(frozen=True)
class CameraView:
    """A camera as the timer finds it."""

    topic: str
    counts: CameraCounts
    before: CameraCounts     # at the last report
    elapsed_s: float         # since then
    idle_because: str        # why the node does not listen to it; '': it does
    info_problem: str        # why no CameraInfo goes out although asked for; '': none
    endpoint_problem: str    # who on its topics cannot be matched, and why; '': none
    publishers: int
    image_age_s: float | None  # since the last image; None: there was none
    silent_s: float          # the same, or since listening to a publisher began if that is less


def reporter(node: Node) -> str:
    """Give the name that a node's tasks begin with: with its namespace, if that is not /."""
    return f'{node.get_namespace()}/{node.get_name()}'.lstrip('/')


def make_status(name: str, status: Status) -> DiagnosticStatus:
    """Build the message; floats with one decimal are enough for people and scripts."""
    return DiagnosticStatus(
        name=name, level=status.level, message=status.message, hardware_id=status.hardware_id,
        values=[KeyValue(key=k, value=f'{v:.1f}' if isinstance(v, float) else str(v))
                for k, v in status.values.items()])


def camera_state(view: CameraView, stale_after_s: float) -> tuple[str, bytes, str]:
    """Judge a camera: state, level, and a line that names the cause."""
    counts = view.counts
    if view.idle_because:
        if view.endpoint_problem:
            return 'idle', WARN, view.endpoint_problem
        return 'idle', OK, f'idle: {view.idle_because}'
    if view.image_age_s is not None and view.image_age_s < stale_after_s:
        # Others may be dropped meanwhile, unseen.
        if counts.ends_in_rejection and counts.segmented == view.before.segmented:
            return 'rejected', ERROR, f'all images are rejected: {counts.last_rejection}'
        if counts.rejected > view.before.rejected:
            return 'active', WARN, f'some images are rejected: {counts.last_rejection}'
        if view.info_problem:
            return 'active', WARN, f'no camera_info goes out: {view.info_problem}'
        if view.endpoint_problem:
            return 'active', WARN, view.endpoint_problem
        if counts.odd_stamps > view.before.odd_stamps:
            return 'active', WARN, f'stamps tell no age: the last {counts.last_odd_stamp}'
        return 'active', OK, 'segmenting'
    if view.endpoint_problem:
        return 'stale' if counts.received else 'waiting', WARN, view.endpoint_problem
    if not view.publishers:
        state = 'stale' if counts.received else 'waiting'
        return state, WARN, f'nobody publishes {view.topic}: start the camera or remap the topic'
    if view.silent_s < stale_after_s:
        return 'waiting', OK, f'waiting for an image on {view.topic}'
    silence = f'{view.topic} has a publisher but no image came for {view.silent_s:.0f} s'
    if counts.received:
        return 'stale', WARN, f'{silence}: look at the camera'
    return 'stale', WARN, f'{silence}: {LOST_AT_SENDER}'


def camera_values(view: CameraView, state: str) -> dict[str, object]:
    """Give the figures of a camera."""
    counts, before = view.counts, view.before
    values: dict[str, object] = {
        'state': state,
        'topic': view.topic,
        'publishers': view.publishers,
        'received': counts.received,
        'segmented': counts.segmented,
        'dropped': counts.dropped,
        **{f'dropped_{cause}': count for cause, count in counts.dropped_by_cause.items()},
        'rejected': counts.rejected,
        'last_rejection': counts.last_rejection,
        'odd_stamps': counts.odd_stamps,
        'last_odd_stamp': counts.last_odd_stamp,
        'received_hz': (counts.received - before.received) / view.elapsed_s,
        'segmented_hz': (counts.segmented - before.segmented) / view.elapsed_s,
        'size': counts.size,
        'encoding': counts.encoding,
    }
    if view.image_age_s is not None:
        values['image_age_ms'] = view.image_age_s * 1e3
    return values


def latency_values(quantiles: Mapping[str, Quantiles]) -> dict[str, object]:
    """Give each stage's quantiles, named '<stage>_p95_ms'."""
    return {f'{stage}_{name}_ms': value
            for stage, q in quantiles.items() for name, value in q._asdict().items()}
