# SPDX-License-Identifier: Apache-2.0
"""The ground node: labels and camera_info in; ground points, an occupancy grid and a scan out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, LednetRosError
from lednet_ros.nodes.ground.camera_input import CameraInput, Seen, absent, forgets, live
from lednet_ros.nodes.ground.diagnostics import GroundView, latency_status, view_status
from lednet_ros.nodes.ground.messages import GridMessage, PointsMessage, make_scan
from lednet_ros.nodes.ground.parameters import PARAMETERS, camera_parameters
from lednet_ros.nodes.shared.camera_info import BadCameraInfo, camera_of
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.image_messages import BadImage, decode_mono8
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, mismatch
from lednet_ros.nodes.shared.latency import TOTAL, Latency
from lednet_ros.nodes.shared.parameters import Param, declare, value_of
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.qos import make_publisher, unread_overrides
from lednet_ros.nodes.shared.stamps import age_of
from lednet_ros.nodes.shared.tf import Buffer, NoPose, Transforms
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.projection import Belief, Ground, GroundConfig, Pose, Traversability

OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}

EXPECTED = (LednetRosError, BadImage, BadCameraInfo)  # their texts say all
WATCH_S = 0.2  # who listens
POLL_S = 0.02    # while a label image waits for its transforms, or for other cameras
GATHER_S = 0.03  # that one camera's frame waits for those of the others


@dataclass(frozen=True)
class Poses:
    """Where things were when an image was taken."""

    camera: Pose               # in the robot's frame
    robot: Pose | None = None  # in the grid's; None: no grid goes out
    no_grid: str = ''          # why; '': nobody listens to it


class GroundNode(Node):
    """Parameters in, one frame's way from its last part to publish, out. All in one thread."""

    def __init__(self) -> None:
        super().__init__('ground')
        declare(self, PARAMETERS)
        names = camera_names(value_of(self, _row(PARAMETERS, 'cameras')))
        more = [row for name in names if name for row in camera_parameters(name)]
        if more:
            declare(self, more)
        self._rows = {row.name: row for row in (*PARAMETERS, *more)}
        self.done = Future()  # never by itself
        self._ground = Ground(Traversability.load(self._parameter('traversability')),
                              self._config())
        self._transforms = self._make_transforms()
        self._outputs: dict[str, Publisher] = {
            output: make_publisher(self, type_, f'~/{output}', QoSProfile(depth=1))
            for output, type_ in OUTPUTS.items()}
        self._cameras = [CameraInput(self, name) for name in names]
        self._round_since_s: float | None = None  # with frames that have not gone out yet
        self._points: PointsMessage | None = None
        self._grid = GridMessage(self._ground.config.grid_cells,
                                 self._ground.config.grid_resolution)
        self._listening_since_s: float | None = None
        self._projected_s: float | None = None
        self._remark = ''
        self._counts = {'received': 0, 'projected': 0, 'rejected': 0, 'dropped_unheard': 0,
                        'dropped_no_tf': 0}
        self._figures: dict[str, object] = {}
        self._mismatch = ''  # of the labels' meaning
        if LabelInfo is not None:
            self.create_subscription(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self._latency = Latency()
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
        if unread := unread_overrides(self):
            self.get_logger().info(unread)

    def stop(self) -> bool:
        """End nothing: there is no thread but the executor's."""
        return True

    def _parameter(self, name: str) -> Any:
        return value_of(self, self._rows[name])

    def _config(self) -> GroundConfig:
        return GroundConfig(
            min_range=self._parameter('min_range'), max_range=self._parameter('max_range'),
            grid_resolution=self._parameter('grid.resolution'),
            grid_size=self._parameter('grid.size'),
            # In the robot's own frame what was seen moves as the robot does, nobody knows where.
            grid_decay_s=(self._parameter('grid.decay_s') if self._parameter('grid.frame')
                          else 0.0),
            grid_belief=Belief(**{name: self._parameter(f'grid.{name}') for name in (
                'hit', 'miss', 'occupied_above', 'free_below')}),
            grid_weighs=self._weighs(),
            angle_increment=self._parameter('free_space.angle_increment'))

    def _weighs(self) -> bool:
        """Whether confidences weigh in a grid: only one that remembers has use for them."""
        return bool(self._parameter('grid.frame') and self._parameter('grid.weigh_confidence'))

    def _make_transforms(self) -> Transforms | None:
        source = self._parameter('pose_source')
        frame = self._parameter('grid.frame')
        if source == 'parameters' or (source == 'auto' and Buffer is None):
            if frame and frame != self._parameter('robot_frame'):
                raise ConfigError(f'grid.frame is {frame!r} but there is no TF to follow the '
                                  'robot in it: install tf2_ros and let pose_source be tf, or '
                                  'leave it empty')
            return None
        if Buffer is None:
            raise ConfigError('pose_source is tf but tf2_ros is not installed: install it, or '
                              'choose parameters')
        return Transforms(self)

    def _forget_stamps(self) -> None:
        """Forget what is of another time: it waits in vain, and tells nothing of how old it is."""
        self._forget_waiting()
        self._ground.forget()
        self._latency.clear()

    def _forget_waiting(self) -> None:
        """Drop what waits for partners or transforms."""
        self._counts['dropped_no_tf'] += sum(camera.forget() for camera in self._cameras)
        self._round_since_s = None

    # Who listens, and to what.

    def _wanted(self) -> list[str]:
        return [output for output, publisher in self._outputs.items()
                if publisher.get_subscription_count()]

    def _inputs(self) -> list[str]:
        needs_confidence = self._parameter('min_confidence') > 0 or self._weighs()
        return ['label', 'camera_info', *(['confidence'] if needs_confidence else [])]

    def _watch(self) -> None:
        """Listen to the inputs while someone listens to an output."""
        inputs = self._inputs() if self._wanted() else []
        if inputs and self._listening_since_s is None:
            self._listening_since_s = time.monotonic()
            self._forget_waiting()
            for camera in self._cameras:
                camera.begin()
            self._remark = ''
            self._projected_s = None
        if not inputs:
            self._listening_since_s = None
        for camera in self._cameras:
            camera.listen(inputs, self._on_input)

    # One frame's way.

    def _on_label_info(self, message: Any) -> None:
        self._mismatch = mismatch(message, self._ground.traversability.labels)

    def _on_input(self, camera: CameraInput, input_: str, message: Any) -> None:
        self._counts['received'] += input_ == 'label'
        parts = camera.put(input_, _stamp_ns(message.header), message, self._inputs())
        if parts is not None:
            camera.waiting.put(parts, self._parameter('tf_timeout_s'))
            self._work()

    def _work(self) -> None:
        """Project what has its partners and transforms; look again soon if something waits."""
        for camera in self._cameras:
            camera.waiting.work(partial(self._handle, camera))
        since_s = self._round_since_s
        if since_s is not None and time.monotonic() - since_s >= GATHER_S:
            self._end_round()
        if self._round_since_s is not None or any(camera.waiting for camera in self._cameras):
            self._poll.reset()
        else:
            self._poll.cancel()

    def _handle(self, camera: CameraInput, parts: dict[str, Any], may_wait: bool) -> bool:
        """Project a label image whose partners have come and count it; False where it waits."""
        outcome = self._outcome(camera, parts, may_wait)
        if outcome:
            self._counts[outcome] += 1
        return bool(outcome)

    def _outcome(self, camera: CameraInput, parts: dict[str, Any], may_wait: bool) -> str:
        """Project a label image; return which of the counts it is, '' where it waits for TF."""
        wanted = self._wanted()
        if not wanted:
            return 'dropped_unheard'
        try:
            poses = self._poses(camera, parts['label'].header, wanted, may_wait)
            if poses is None:
                return ''
            if camera.is_new:
                self._end_round()  # which waits for others; this camera's next one is here
            self._look(camera, parts, poses)
            if all(one.is_new for one in self._live()):
                self._publish(wanted)
        except Exception as error:
            if not self.context.ok():  # publishing while the node ends
                return 'dropped_unheard'
            self._complain(camera, error)
            return 'dropped_no_tf' if isinstance(error, NoPose) else 'rejected'
        return 'projected'

    def _complain(self, camera: CameraInput, error: Exception) -> None:
        """Report what is wrong with a frame, which must not end the node."""
        camera.problem = camera.words + (str(error) if isinstance(error, EXPECTED)
                                         else f'{type(error).__name__}: {error}')
        self.get_logger().warning(
            f'nothing {"of it " if camera.name else ""}goes out: {camera.problem}',
            throttle_duration_sec=5.0)

    def _end_round(self) -> None:
        """Publish what there is of the cameras' newest frames."""
        wanted, waiting = self._wanted(), next((c for c in self._cameras if c.is_new), None)
        if waiting is None or not wanted:
            self._round_since_s = None
            return
        try:
            self._publish(wanted)
        except Exception as error:
            if self.context.ok():
                self._complain(waiting, error)

    def _live(self) -> list[CameraInput]:
        return live(self._cameras, self._parameter('stale_after_s'))

    def _poses(
        self, camera: CameraInput, header: Header, wanted: Sequence[str], may_wait: bool,
    ) -> Poses | None:
        """Return the poses at a stamp, None where one may still come; raise NoPose."""
        try:
            pose = self._camera_pose(camera, header)
            if 'grid' not in wanted:
                return Poses(pose)
            try:
                return Poses(pose, self._robot_pose(header))
            except NoPose as error:
                if len(wanted) == 1 or (may_wait and error.may_come):
                    raise
                return Poses(pose, no_grid=f'no grid goes out: {error}')  # the others do without
        except NoPose as error:
            if may_wait and error.may_come:
                return None
            raise

    def _look(self, camera: CameraInput, parts: dict[str, Any], poses: Poses) -> None:
        """Let a camera's newest frame be seen; raise, and leave none, for what does not hold."""
        before, camera.seen = camera.seen, None
        camera.is_new = False
        if self._mismatch:
            raise ConfigError(self._mismatch)
        began_s = time.monotonic()
        message = parts['label']
        stamp_ns = _stamp_ns(message.header)
        transport_ms = self._age_ms(stamp_ns)
        if before is not None and stamp_ns < before.stamp_ns:  # as when a bag begins again
            for other in self._cameras:
                other.seen, other.is_new = None, False
        labels = _decode('label', message)
        height, width = labels.shape
        confidence = _decode('confidence', parts['confidence']) if 'confidence' in parts else None
        if confidence is not None and confidence.shape != labels.shape:
            raise BadImage(f'confidence is {_size(confidence)} and label {_size(labels)}: '
                           'publish both of one size')
        try:
            lens = camera_of(parts['camera_info'], height, width, self._parameter('rectified'))
        except BadCameraInfo as error:
            raise BadCameraInfo(f'camera_info: {error}') from error
        view = self._ground.set_camera(lens, poses.camera, camera.name)
        says_something = self._ground.look(
            labels, confidence, self._parameter('min_confidence'), camera.name)
        robot = poses.robot
        camera.seen = Seen(
            stamp=message.header.stamp, stamp_ns=stamp_ns, shape=(height, width),
            place=None if robot is None else (
                float(robot.origin[0]), float(robot.origin[1]), robot.yaw),
            no_grid=poses.no_grid, says_something=says_something,
            figures={'camera_height_m': view.height, 'nearest_ground_m': view.nearest,
                     'farthest_ground_m': view.farthest, 'size': _size(labels)},
            transport_ms=transport_ms, run_s=time.monotonic() - began_s)
        camera.is_new = True
        camera.problem = ''
        if self._round_since_s is None:
            self._round_since_s = time.monotonic()

    def _publish(self, wanted: Sequence[str]) -> None:
        """Publish what is listened to, of all cameras that are live."""
        began_s = time.monotonic()
        self._round_since_s = None
        live = [(camera, camera.seen) for camera in self._live() if camera.seen is not None]
        new = [camera for camera in self._cameras if camera.is_new]
        for camera in self._cameras:
            camera.is_new = False
        newest = max((seen for _, seen in live), key=lambda seen: seen.stamp_ns)
        header = Header(stamp=newest.stamp, frame_id=self._parameter('robot_frame'))
        if 'points' in wanted:
            self._outputs['points'].publish(self._make_points(header, live))
        no_grid = self._publish_grid(header, live, new) if 'grid' in wanted else ''
        if 'free_space' in wanted:
            self._outputs['free_space'].publish(make_scan(
                header, *self._ground.free_space([camera.name for camera, _ in live])))
        self._projected_s = ended_s = time.monotonic()
        self._remark = absent(
            self._cameras, self._parameter('stale_after_s'), self._listens_for_long(),
        ) or no_grid or next((
            f'{camera.words}the label image says nothing of the ground: all of it is unlabelled, '
            'unsure or sky' for camera, seen in live if not seen.says_something), '')
        self._figures = {
            f'{camera.name}/{key}' if camera.name else key: value
            for camera, seen in live for key, value in seen.figures.items()}
        for camera, seen in live:
            if camera in new:
                self._note_latency(seen, ended_s, ended_s - began_s)

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
            _stamp_ns(header) / 1e9,
            [camera.name for camera in self._cameras
             if camera.seen is not None and camera.name not in names])
        self._outputs['grid'].publish(self._grid.fill(
            Header(stamp=header.stamp, frame_id=frame or header.frame_id), grid))
        return forgets(grid.apart_s)

    def _listens_for_long(self) -> bool:
        return (self._listening_since_s is not None and time.monotonic() - self._listening_since_s
                > self._parameter('diagnostics.stale_after_s'))

    def _note_latency(self, seen: Seen, now_s: float, publish_s: float) -> None:
        stages = {'run': (seen.run_s + publish_s) * 1e3}
        total_ms = self._age_ms(seen.stamp_ns)
        if seen.transport_ms is not None and total_ms is not None:
            stages.update({'transport': seen.transport_ms, TOTAL: total_ms})
        self._latency.add(now_s, stages)

    def _make_points(
        self, header: Header, live: Sequence[tuple[CameraInput, Seen]],
    ) -> PointCloud2:
        """Make one cloud: organised as the label image, or all cameras' points in a row."""
        stride = self._parameter('points.stride')
        shapes = [(-(-seen.shape[0] // stride), -(-seen.shape[1] // stride)) for _, seen in live]
        shape = shapes[0] if len(self._cameras) == 1 else (
            1, sum(height * width for height, width in shapes))
        if self._points is None or self._points.points.shape[:2] != shape:
            self._points = PointsMessage(*shape)
        points, begins = self._points.points.reshape(-1, 4), 0
        for (camera, seen), (height, width) in zip(live, shapes, strict=True):
            ends = begins + height * width
            out = points[begins:ends].reshape(height, width, 4)
            whole = out if stride == 1 else np.empty((*seen.shape, 4), np.float32)
            self._ground.points(whole, camera.name)
            if stride > 1:
                out[:] = whole[::stride, ::stride]
            begins = ends
        self._points.message.header = header
        return self._points.message

    def _camera_pose(self, camera: CameraInput, header: Header) -> Pose:
        if self._transforms:
            return self._transforms.pose(
                header.frame_id, self._parameter('robot_frame'), header.stamp,
                'publish it, or set pose_source to parameters')
        prefix = f'camera.{camera.name}' if camera.name else 'camera'
        pose = Pose.of_camera(**{name: self._parameter(f'{prefix}.{name}') for name in (
            'height', 'roll', 'pitch', 'yaw', 'x', 'y')})
        if pose != camera.given_pose:
            self._ground.forget()  # what it saw by another one is not where it seemed to be
        camera.given_pose = pose
        return pose

    def _robot_pose(self, header: Header) -> Pose:
        """Return where the robot is in the grid's frame."""
        frame, robot_frame = self._parameter('grid.frame'), self._parameter('robot_frame')
        if self._transforms and frame not in ('', robot_frame):
            return self._transforms.pose(
                robot_frame, frame, header.stamp,
                f'publish where {robot_frame} is in {frame}, at most tf_timeout_s later than '
                'labels come')
        return Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))

    def _age_ms(self, stamp_ns: int) -> float | None:
        return age_of(stamp_ns, self.get_clock().now().nanoseconds).ms

    def _outcomes(self) -> dict[str, int]:
        """Return what became of the label images; a few may wait for their partners."""
        dropped = {'dropped_unheard': self._counts['dropped_unheard'],
                   'dropped_unmatched': sum(c.join.unmatched for c in self._cameras),
                   'dropped_no_tf': self._counts['dropped_no_tf']}
        return {**{name: self._counts[name] for name in ('received', 'projected', 'rejected')},
                'dropped': sum(dropped.values()), **dropped}

    def _report(self) -> None:
        now_s = time.monotonic()
        view = GroundView(
            wanted=tuple(self._wanted()),
            inputs=tuple(view for camera in self._cameras
                         for view in camera.input_views(self._inputs())),
            listening_s=now_s - (self._listening_since_s or now_s),
            projected_ago_s=None if self._projected_s is None else now_s - self._projected_s,
            problem=next((camera.problem for camera in self._cameras if camera.problem), ''),
            remark=self._remark, cameras=len(self._cameras),
            counts=self._outcomes(), figures=self._figures,
            stale_after_s=self._parameter('diagnostics.stale_after_s'))
        self._diagnostics.publish({
            'view': view_status(view),
            'latency': latency_status(self._latency.quantiles(now_s))})


def _row(rows: Sequence[Param], name: str) -> Param:
    return next(row for row in rows if row.name == name)


def _decode(name: str, message: Image) -> Any:
    try:
        return decode_mono8(message)
    except BadImage as error:
        raise BadImage(f'{name}: {error}') from error


def _size(pixels: Any) -> str:
    return f'{pixels.shape[1]}x{pixels.shape[0]}'


def _stamp_ns(header: Header) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


@command('ground_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('ground', lambda stop: GroundNode(), args)


if __name__ == '__main__':
    sys.exit(main())
