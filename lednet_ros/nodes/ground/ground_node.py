# SPDX-License-Identifier: Apache-2.0
"""The ground node: labels and camera_info in; ground points, an occupancy grid and a scan out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, LednetRosError
from lednet_ros.nodes.ground.diagnostics import GroundView, InputView, latency_status, view_status
from lednet_ros.nodes.ground.messages import GridMessage, PointsMessage, make_scan
from lednet_ros.nodes.ground.parameters import PARAMETERS
from lednet_ros.nodes.shared.camera_info import BadCameraInfo, camera_of
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.endpoints import type_name, wrong_publisher
from lednet_ros.nodes.shared.image_messages import BadImage, decode_mono8
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, mismatch
from lednet_ros.nodes.shared.latency import TOTAL, Latency
from lednet_ros.nodes.shared.parameters import declare, value_of
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.qos import make_publisher, subscription_qos, unread_overrides
from lednet_ros.nodes.shared.stamp_join import StampJoin
from lednet_ros.nodes.shared.stamps import age_of
from lednet_ros.nodes.shared.tf import Buffer, NoPose, Transforms
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.nodes.shared.waiting import WaitingLine
from lednet_ros.projection import Belief, Ground, GroundConfig, Pose, Traversability

OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}
INPUTS = {'label': Image, 'camera_info': CameraInfo, 'confidence': Image}

EXPECTED = (LednetRosError, BadImage, BadCameraInfo)  # their texts say all
WATCH_S = 0.2  # who listens
TF_POLL_S = 0.02  # while a label image waits for its transforms


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
        self.done = Future()  # never by itself
        self._ground = Ground(Traversability.load(self._parameter('traversability')),
                              self._config())
        self._transforms = self._make_transforms()
        self._outputs: dict[str, Publisher] = {
            output: make_publisher(self, type_, f'~/{output}', QoSProfile(depth=1))
            for output, type_ in OUTPUTS.items()}
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._qos = {name: subscription_qos(self, type_, name, best_effort)
                     for name, type_ in INPUTS.items()}
        self._listened: dict[str, Subscription] = {}
        self._join = StampJoin()
        self._points: PointsMessage | None = None
        self._grid = GridMessage(self._ground.config.grid_cells,
                                 self._ground.config.grid_resolution)
        self._listening_since_s = time.monotonic()
        self._came_s: dict[str, float] = {}  # the last of each input, monotonic
        self._projected_s: float | None = None
        self._problem = self._remark = ''
        self._counts = {'received': 0, 'projected': 0, 'rejected': 0, 'dropped_unheard': 0,
                        'dropped_no_tf': 0}
        self._waiting: WaitingLine[dict[str, Any]] = WaitingLine(  # sets, for their transforms
            lambda: (time.monotonic(), self.get_clock().now().nanoseconds / 1e9))
        self._figures: dict[str, object] = {}
        self._mismatch = ''  # of the labels' meaning
        self._given_pose: Pose | None = None  # by parameters
        if LabelInfo is not None:
            self.create_subscription(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self._latency = Latency()
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._diagnostics = DiagnosticsPublisher(self)

    def start(self) -> None:
        """Begin to look who listens, and to report, by a clock that simulation cannot stop."""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_S, self._watch, clock=steady)
        self._tf_poll = self.create_timer(TF_POLL_S, self._work, clock=steady)
        self._tf_poll.cancel()  # until one waits
        self.create_timer(self._parameter('diagnostics.period_s'), self._report, clock=steady)
        self.get_logger().info(
            f'ready: {self.resolve_topic_name("label")}, '
            f'{self._ground.traversability.labels.name}, camera pose from '
            f'{"TF" if self._transforms else "parameters"}')
        if unread := unread_overrides(self):
            self.get_logger().info(unread)

    def stop(self) -> bool:
        """End nothing: there is no thread but the executor's."""
        return True

    def _parameter(self, name: str) -> Any:
        return value_of(self, next(row for row in PARAMETERS if row.name == name))

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
        self._counts['dropped_no_tf'] += self._waiting.clear()
        self._join.clear()

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
        if inputs and not self._listened:
            self._listening_since_s = time.monotonic()
            self._came_s.clear()
            self._forget_waiting()
            self._problem = self._remark = ''
            self._projected_s = None
        for name in set(self._listened) - set(inputs):
            self.destroy_subscription(self._listened.pop(name))
        for name in inputs:
            if name not in self._listened:
                self._listened[name] = self.create_subscription(
                    INPUTS[name], name, partial(self._on_input, name), self._qos[name])

    # One frame's way.

    def _on_label_info(self, message: Any) -> None:
        self._mismatch = mismatch(message, self._ground.traversability.labels)

    def _on_input(self, name: str, message: Any) -> None:
        self._came_s[name] = time.monotonic()
        self._counts['received'] += name == 'label'
        parts = self._join.put(name, _stamp_ns(message.header), message, self._inputs())
        if parts is not None:
            self._waiting.put(parts, self._parameter('tf_timeout_s'))
            self._work()

    def _work(self) -> None:
        """Project what has its partners and transforms; look again soon if one waits."""
        self._waiting.work(self._handle)
        if self._waiting:
            self._tf_poll.reset()
        else:
            self._tf_poll.cancel()

    def _handle(self, parts: dict[str, Any], may_wait: bool) -> bool:
        """Project a label image whose partners have come and count it; False where it waits."""
        outcome = self._outcome(parts, may_wait)
        if outcome:
            self._counts[outcome] += 1
        return bool(outcome)

    def _outcome(self, parts: dict[str, Any], may_wait: bool) -> str:
        """Project a label image; return which of the counts it is, '' where it waits for TF."""
        wanted = self._wanted()
        if not wanted:
            return 'dropped_unheard'
        try:
            poses = self._poses(parts['label'].header, wanted, may_wait)
            if poses is None:
                return ''
            self._project(parts, wanted, poses)
        except Exception as error:
            if not self.context.ok():  # publishing while the node ends
                return 'dropped_unheard'
            # A frame must not end the node: say what is wrong with it and go on.
            self._problem = (str(error) if isinstance(error, EXPECTED)
                             else f'{type(error).__name__}: {error}')
            self.get_logger().warning(f'nothing goes out: {self._problem}',
                                      throttle_duration_sec=5.0)
            return 'dropped_no_tf' if isinstance(error, NoPose) else 'rejected'
        return 'projected'

    def _poses(self, header: Header, wanted: Sequence[str], may_wait: bool) -> Poses | None:
        """Return the poses at a stamp, None where one may still come; raise NoPose."""
        try:
            camera = self._camera_pose(header)
            if 'grid' not in wanted:
                return Poses(camera)
            try:
                return Poses(camera, self._robot_pose(header))
            except NoPose as error:
                if len(wanted) == 1 or (may_wait and error.may_come):
                    raise
                return Poses(camera, no_grid=f'no grid goes out: {error}')  # the others do without
        except NoPose as error:
            if may_wait and error.may_come:
                return None
            raise

    def _project(
        self, parts: dict[str, Any], wanted: Sequence[str], poses: Poses
    ) -> None:
        """Publish what is listened to; raise, and publish nothing, for what does not hold."""
        if self._mismatch:
            raise ConfigError(self._mismatch)
        began_s = time.monotonic()
        message = parts['label']
        transport_ms = self._age_ms(message.header)
        labels = _decode('label', message)
        height, width = labels.shape
        confidence = _decode('confidence', parts['confidence']) if 'confidence' in parts else None
        if confidence is not None and confidence.shape != labels.shape:
            raise BadImage(f'confidence is {_size(confidence)} and label {_size(labels)}: '
                           'publish both of one size')
        try:
            camera = camera_of(parts['camera_info'], height, width, self._parameter('rectified'))
        except BadCameraInfo as error:
            raise BadCameraInfo(f'camera_info: {error}') from error
        view = self._ground.set_camera(camera, poses.camera)
        says_something = self._ground.look(labels, confidence, self._parameter('min_confidence'))

        header = Header(stamp=message.header.stamp, frame_id=self._parameter('robot_frame'))
        forgets = ''
        if 'points' in wanted:
            self._outputs['points'].publish(self._make_points(header, height, width))
        if poses.robot is not None:
            x, y, _ = poses.robot.origin
            grid = self._ground.grid(_stamp_ns(header) / 1e9, x, y, poses.robot.yaw)
            grid_header = Header(stamp=header.stamp, frame_id=(
                self._parameter('grid.frame') or header.frame_id))
            self._outputs['grid'].publish(self._grid.fill(grid_header, grid))
            if grid.apart_s:
                forgets = (f'label images come {grid.apart_s:.1f} s apart: what the grid has seen '
                           'is forgotten before it is seen again, and no ground becomes free: '
                           'make grid.decay_s larger')
        if 'free_space' in wanted:
            self._outputs['free_space'].publish(
                make_scan(header, *self._ground.free_space()))
        self._projected_s = ended_s = time.monotonic()
        self._problem = ''
        self._remark = poses.no_grid or forgets if says_something else (
            'the label image says nothing of the ground: all of it is unlabelled, unsure or sky')
        self._figures = {
            'camera_height_m': view.height, 'nearest_ground_m': view.nearest,
            'farthest_ground_m': view.farthest, 'size': _size(labels)}
        stages = {'run': (ended_s - began_s) * 1e3}
        total_ms = self._age_ms(message.header)
        if transport_ms is not None and total_ms is not None:
            stages.update({'transport': transport_ms, TOTAL: total_ms})
        self._latency.add(ended_s, stages)

    def _make_points(self, header: Header, height: int, width: int) -> PointCloud2:
        if self._points is None or self._points.points.shape[:2] != (height, width):
            self._points = PointsMessage(height, width)
        self._ground.points(self._points.points)
        self._points.message.header = header
        return self._points.message

    def _camera_pose(self, header: Header) -> Pose:
        if self._transforms:
            return self._transforms.pose(
                header.frame_id, self._parameter('robot_frame'), header.stamp,
                'publish it, or set pose_source to parameters')
        pose = Pose.of_camera(**{name: self._parameter(f'camera.{name}') for name in (
            'height', 'roll', 'pitch', 'yaw', 'x', 'y')})
        if pose != self._given_pose:
            self._ground.forget()  # what it saw by another one is not where it seemed to be
        self._given_pose = pose
        return pose

    def _robot_pose(self, header: Header) -> Pose:
        """Give where the robot is in the grid's frame."""
        frame, robot_frame = self._parameter('grid.frame'), self._parameter('robot_frame')
        if self._transforms and frame not in ('', robot_frame):
            return self._transforms.pose(
                robot_frame, frame, header.stamp,
                f'publish where {robot_frame} is in {frame}, at most tf_timeout_s later than '
                'labels come')
        return Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))

    def _age_ms(self, header: Header) -> float | None:
        return age_of(_stamp_ns(header), self.get_clock().now().nanoseconds).ms

    def _outcomes(self) -> dict[str, int]:
        """Return what became of the label images; a few may wait for their partners."""
        dropped = {'dropped_unheard': self._counts['dropped_unheard'],
                   'dropped_unmatched': self._join.unmatched,
                   'dropped_no_tf': self._counts['dropped_no_tf']}
        return {**{name: self._counts[name] for name in ('received', 'projected', 'rejected')},
                'dropped': sum(dropped.values()), **dropped}

    def _report(self) -> None:
        now_s = time.monotonic()
        view = GroundView(
            wanted=tuple(self._wanted()),
            inputs=tuple(
                InputView(topic, self.count_publishers(topic),
                          now_s - self._came_s[name] if name in self._came_s else None,
                          wrong_publisher(topic, type_name(INPUTS[name]), name,
                                          self.get_publishers_info_by_topic(topic)))
                for name in self._inputs() for topic in [self.resolve_topic_name(name)]),
            listening_s=now_s - self._listening_since_s,
            projected_ago_s=None if self._projected_s is None else now_s - self._projected_s,
            problem=self._problem, remark=self._remark,
            counts=self._outcomes(), figures=self._figures,
            stale_after_s=self._parameter('diagnostics.stale_after_s'))
        self._diagnostics.publish({
            'view': view_status(view),
            'latency': latency_status(self._latency.quantiles(now_s))})


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
