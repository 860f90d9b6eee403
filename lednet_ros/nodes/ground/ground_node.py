# SPDX-License-Identifier: Apache-2.0
"""The ground node: labels and camera_info in; ground points, an occupancy grid and a scan out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.nodes.ground.diagnostics import GroundView, latency_status, view_status
from lednet_ros.nodes.ground.messages import GridMessage, PointsMessage, make_scan
from lednet_ros.nodes.ground.parameters import PARAMETERS, camera_parameters
from lednet_ros.nodes.shared.area_parameters import area_of
from lednet_ros.nodes.shared.camera_input import (
    CameraInput,
    Seen,
    forgetting_warning,
    moving_grid_warning,
    stampless_warning,
)
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.camera_rounds import POLL_S, WATCH_S, CameraRounds, stamp_ns_of
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, mismatch
from lednet_ros.nodes.shared.label_parts import decode_parts, size_of
from lednet_ros.nodes.shared.outputs import Outputs
from lednet_ros.nodes.shared.parameters import Parameters, tell_unread
from lednet_ros.nodes.shared.poses import PoseFinder, Poses, height_rule
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.tf import find_transforms
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.projection import Ground, GroundConfig, Traversability

OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}


class GroundNode(Node):
    """Parameters in, one frame's way from its last part to publish, out. All in one thread."""

    def __init__(self) -> None:
        super().__init__('ground')
        self._parameter = Parameters(self, PARAMETERS)
        names = camera_names(self._parameter('cameras'))
        self._parameter.add([row for name in names if name for row in camera_parameters(name)],
                            [height_rule(name) for name in names])
        self.done = Future()  # never by itself
        self._ground = Ground(Traversability.load(self._parameter('traversability')),
                              GroundConfig(**area_of(self._parameter), grid_weighs=self._weighs()))
        self._transforms = find_transforms(self, self._parameter('pose_source'))
        self._poses = {name: PoseFinder(
            self._transforms, self._parameter, self._ground.forget,
            self._parameter('robot_frame'), camera=name) for name in names}
        self._outputs = Outputs(self, OUTPUTS)
        self._outputs.open()
        self._cameras = [CameraInput(self, name) for name in names]
        self._rounds = CameraRounds(
            self, self._cameras, self._parameter, self._prepare, self._publish)
        self._points = PointsMessage(1, 1)
        self._grid = GridMessage(self._ground.config.grid_cells,
                                 self._ground.config.grid_resolution)
        self._remark = ''
        self._figures: dict[str, object] = {}
        if LabelInfo is not None:
            self.create_subscription(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self._latency = self._rounds.latency
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._diagnostics = DiagnosticsPublisher(self)

    def start(self) -> None:
        """Begin to look who listens, and to report, by a clock that simulation cannot stop."""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_S, self._watch, clock=steady)
        self._poll = self.create_timer(POLL_S, self._work, clock=steady)
        self._poll.cancel()  # until one waits
        self.create_timer(self._parameter('diagnostics.period_s'), self._report, clock=steady)
        self.get_logger().info(
            f'ready: {", ".join(camera.topic for camera in self._cameras)}, '
            f'{self._ground.traversability.labels.name}, camera pose from '
            f'{"TF" if self._transforms else "parameters"}')
        if odd := moving_grid_warning(*map(self._parameter, (
                'grid.frame', 'robot_frame', 'grid.decay_s'))):
            self.get_logger().warning(odd)
        tell_unread(self)

    def stop(self) -> bool:
        """End nothing: there is no thread but the executor's."""
        return True

    def _weighs(self) -> bool:
        """Whether confidences weigh in a grid: only one that remembers has use for them."""
        return bool(self._parameter('grid.frame') and self._parameter('grid.weigh_confidence'))

    def _forget_stamps(self) -> None:
        """Forget what is of another time: it waits in vain, and tells nothing of how old it is."""
        self._rounds.forget()
        self._ground.forget()
        self._latency.clear()

    # Who listens, and to what.

    def _inputs(self) -> list[str]:
        needs_confidence = self._parameter('min_confidence') > 0 or self._weighs()
        return ['label', 'camera_info', *(['confidence'] if needs_confidence else [])]

    def _watch(self) -> None:
        """Listen to the inputs while someone listens to an output."""
        if self._rounds.listen(self._inputs() if self._outputs.wanted() else [], self._on_input):
            self._remark = ''

    # One frame's way.

    def _on_label_info(self, message: Any) -> None:
        self._rounds.mismatch = mismatch(message, self._ground.traversability.labels)

    def _on_input(self, camera: CameraInput, input_: str, message: Any) -> None:
        parts = camera.put(input_, stamp_ns_of(message.header), message, self._inputs())
        if self._rounds.put(camera, input_, parts):
            self._work()

    def _work(self) -> None:
        self._rounds.work(self._outputs.wanted, self._poll)

    def _prepare(
        self, camera: CameraInput, parts: dict[str, Any], wanted: Sequence[str], may_wait: bool,
    ) -> Callable[[], Seen] | None:
        poses = self._poses[camera.name].find(parts['label'].header, None, wanted, may_wait)
        return None if poses is None else partial(self._look, camera, parts, poses)

    def _look(self, camera: CameraInput, parts: dict[str, Any], poses: Poses) -> Seen:
        """Let a frame be seen; raise for what does not hold."""
        began_s = time.monotonic()
        message = parts['label']
        stamp_ns = stamp_ns_of(message.header)
        transport_ms = self._rounds.age_ms(stamp_ns)
        min_confidence = self._parameter('min_confidence')
        labels, confidence, lens = decode_parts(
            parts, min_confidence, self._parameter('rectified'))
        view = self._ground.set_camera(lens, poses.camera, camera.name)
        says_something = self._ground.look(labels, confidence, min_confidence, camera.name)
        robot = poses.robot
        return Seen(
            stamp=message.header.stamp, stamp_ns=stamp_ns, shape=labels.shape,
            place=None if robot is None else (
                float(robot.origin[0]), float(robot.origin[1]), robot.yaw),
            no_grid=poses.no_grid, says_something=says_something,
            figures={'camera_height_m': view.height, 'nearest_ground_m': view.nearest,
                     'farthest_ground_m': view.farthest, 'size': size_of(labels)},
            transport_ms=transport_ms, run_s=time.monotonic() - began_s)

    def _publish(
        self, wanted: Sequence[str], cameras: Sequence[CameraInput], new: Sequence[CameraInput],
    ) -> None:
        """Publish what is listened to, of these cameras."""
        began_s = time.monotonic()
        live = [(camera, camera.seen) for camera in cameras]
        newest = max((seen for _, seen in live), key=lambda seen: seen.stamp_ns)
        header = Header(stamp=newest.stamp, frame_id=self._parameter('robot_frame'))
        if 'points' in wanted:
            self._outputs.publish('points', self._make_points(header, live))
        no_grid = self._publish_grid(header, live, new) if 'grid' in wanted else ''
        if 'free_space' in wanted:
            self._outputs.publish('free_space', make_scan(
                header, *self._ground.free_space([camera.name for camera, _ in live])))
        publish_s = time.monotonic() - began_s
        for camera in new:
            seen = camera.seen
            self._rounds.note_latency(seen.stamp_ns, seen.transport_ms, seen.run_s + publish_s)
        says_nothing = next((
            f'{camera.words}the label image says nothing of the ground: all of it is unlabelled, '
            'unsure or sky' for camera, seen in live if not seen.says_something), '')
        self._remark = (self._rounds.absent() or stampless_warning(newest.stamp_ns) or no_grid
                        or says_nothing)
        self._figures = {
            f'{camera.name}/{key}' if camera.name else key: value
            for camera, seen in live for key, value in seen.figures.items()}

    def _publish_grid(
        self, header: Header, live: Sequence[tuple[CameraInput, Seen]],
        new: Sequence[CameraInput],
    ) -> str:
        """Publish the grid; return why none goes out, or what is odd about it, '' if nothing."""
        frame = self._parameter('grid.frame')
        # What a grid remembers is not seen a second time.
        taken = [(camera, seen) for camera, seen in live
                 if seen.place is not None and (camera in new or not frame)]
        taken.sort(key=lambda pair: pair[1].stamp_ns)
        if not taken:
            return next((seen.no_grid for _, seen in live if seen.no_grid), '')
        names = [camera.name for camera, _ in live]
        grid = self._ground.grid_of(
            {camera.name: seen.place for camera, seen in taken if seen.place is not None},
            stamp_ns_of(header) / 1e9,
            [camera.name for camera in self._cameras
             if camera.seen is not None and camera.name not in names])
        self._outputs.publish('grid', self._grid.fill(
            Header(stamp=header.stamp, frame_id=frame or header.frame_id), grid))
        if self._transforms and (odd := moving_grid_warning(
                frame, header.frame_id, self._parameter('grid.decay_s'), self._transforms)):
            self.get_logger().warning(odd, once=True)
        return forgetting_warning(grid.apart_s)

    def _make_points(
        self, header: Header, live: Sequence[tuple[CameraInput, Seen]],
    ) -> PointCloud2:
        """Make one cloud: organised as the label image, or all cameras' points in a row."""
        stride = self._parameter('points.stride')
        shapes = [(-(-seen.shape[0] // stride), -(-seen.shape[1] // stride)) for _, seen in live]
        outs = self._points.parts(shapes, len(self._cameras) == 1)
        for (camera, seen), out in zip(live, outs, strict=True):
            whole = out if stride == 1 else np.empty((*seen.shape, 4), np.float32)
            self._ground.points(whole, camera.name)
            if stride > 1:
                out[:] = whole[::stride, ::stride]
        return self._points.with_header(header)

    def _report(self) -> None:
        view = GroundView(
            self._rounds.state(self._inputs()), tuple(self._outputs.wanted()), self._remark,
            self._figures, self._outputs.unheard())
        self._diagnostics.publish({
            'view': view_status(view),
            'latency': latency_status(self._latency.quantiles(time.monotonic()))})


@command('ground_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('ground', lambda stop: GroundNode(), args)


if __name__ == '__main__':
    sys.exit(main())
