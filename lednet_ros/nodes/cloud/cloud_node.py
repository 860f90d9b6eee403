# SPDX-License-Identifier: Apache-2.0
"""The cloud node: labels and depth or points in; a labelled cloud, a grid and a scan out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, LednetRosError
from lednet_ros.nodes.cloud.diagnostics import CloudView, latency_status, view_status
from lednet_ros.nodes.cloud.parameters import PARAMETERS
from lednet_ros.nodes.cloud.poses import PoseFinder
from lednet_ros.nodes.cloud.projector import Projector, check_frame
from lednet_ros.nodes.ground.diagnostics import InputView
from lednet_ros.nodes.shared.camera_info import BadCameraInfo
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.endpoints import type_name, wrong_publisher
from lednet_ros.nodes.shared.image_messages import BadImage
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, mismatch
from lednet_ros.nodes.shared.latency import TOTAL, Latency
from lednet_ros.nodes.shared.nearest_join import NearestJoin, Pair
from lednet_ros.nodes.shared.parameters import declare, value_of
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.qos import make_publisher, subscription_qos, unread_overrides
from lednet_ros.nodes.shared.stamp_join import StampJoin
from lednet_ros.nodes.shared.stamps import age_of
from lednet_ros.nodes.shared.tf import Buffer, NoPose, Transforms
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.nodes.shared.waiting import WaitingLine
from lednet_ros.projection import Traversability
from lednet_ros.projection.cloud import CloudConfig
from lednet_ros.projection.heights import HeightsConfig

OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}
INPUTS = {'label': Image, 'camera_info': CameraInfo, 'confidence': Image, 'depth': Image}

EXPECTED = (LednetRosError, BadImage, BadCameraInfo)  # their texts say all
WATCH_S = 0.2  # who listens
TF_POLL_S = 0.02  # while labels wait for their transforms


class CloudNode(LifecycleNode):
    """Parameters in, one frame's way from its last part to publish, out. All in one thread."""

    def __init__(self) -> None:
        super().__init__('semantic_cloud')
        declare(self, PARAMETERS)
        self.done = Future()  # never by itself
        self._projector: Projector | None = None
        self._poses: PoseFinder | None = None
        self._transforms: Transforms | None = None
        self._outputs: dict[str, Publisher] = {}
        self._qos: dict[str, QoSProfile] = {}
        self._listened: dict[str, Subscription] = {}
        self._is_active = False
        self._join, self._pairs = StampJoin(), NearestJoin()
        self._waiting: WaitingLine[Pair] = WaitingLine(  # for their transforms
            lambda: (time.monotonic(), self.get_clock().now().nanoseconds / 1e9))
        self._listening_since_s = time.monotonic()
        self._came_s: dict[str, float] = {}  # the last of each input, monotonic
        self._projected_s: float | None = None
        self._problem = self._remark = ''
        self._counts = {'received': 0, 'projected': 0, 'rejected': 0, 'dropped_unheard': 0,
                        'dropped_no_tf': 0}
        self._figures: dict[str, object] = {}
        self._mismatch = ''  # of the labels' meaning
        self._latency = Latency()
        if LabelInfo is not None:
            self.create_subscription(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._diagnostics = DiagnosticsPublisher(self)
        # By a clock that simulation cannot stop.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watching = self.create_timer(WATCH_S, self._watch, clock=steady)
        self._watching.cancel()  # until it is active
        self._tf_poll = self.create_timer(TF_POLL_S, self._work, clock=steady)
        self._tf_poll.cancel()  # until one waits
        self.create_timer(self._parameter('diagnostics.period_s'), self._report, clock=steady)

    def _parameter(self, name: str) -> Any:
        return value_of(self, next(row for row in PARAMETERS if row.name == name))

    # Lifecycle: each transition undoes its opposite.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read what does not change, and open the outputs."""
        try:
            traversability = Traversability.load(self._parameter('traversability'))
            self._projector = Projector(
                traversability, self._config(), self._parameter('output_frame'),
                self._parameter('grid.frame'))
            self._transforms = self._transforms or self._make_transforms()
            self._poses = PoseFinder(self._transforms, self._parameter)
            best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._qos = {name: subscription_qos(self, self._type_of(name), name, best_effort)
                         for name in ('label', 'camera_info', 'confidence', self._source())}
            self._outputs = {
                output: make_publisher(self, type_, f'~/{output}', QoSProfile(depth=1))
                for output, type_ in OUTPUTS.items()}
        except Exception as error:  # rclpy would drop it without a word
            self.on_cleanup(state)
            self._problem = _words(error)
            self.get_logger().error(f'not configured: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
        if unread := unread_overrides(self):
            self.get_logger().info(unread)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to look who listens."""
        assert self._projector is not None
        self._is_active = True
        self._watching.reset()
        self.get_logger().info(
            f'ready: {self.resolve_topic_name("label")} on '
            f'{self.resolve_topic_name(self._source())}, '
            f'{self._projector.cloud.traversability.labels.name}, camera pose from '
            f'{"TF" if self._transforms else "parameters"}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening."""
        self._is_active = False
        self._watching.cancel()
        self._tf_poll.cancel()
        self._forget_waiting()
        for name in list(self._listened):
            self.destroy_subscription(self._listened.pop(name))
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the outputs, and forget the grid."""
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        self._outputs.clear()
        self._projector = self._poses = None
        self._problem = ''
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do so."""
        if (self._parameter('autostart')
                and self.trigger_configure() == TransitionCallbackReturn.SUCCESS):
            self.trigger_activate()

    def stop(self) -> bool:
        """End nothing: there is no thread but the executor's."""
        return True

    def destroy_node(self) -> None:
        """Leave the graph, whole."""
        super().destroy_node()
        self.__dict__.pop('_state_machine', None)  # rclpy's: it keeps the participant alive

    def _config(self) -> CloudConfig:
        return CloudConfig(
            min_range=self._parameter('min_range'), max_range=self._parameter('max_range'),
            edge_jump=self._parameter('edge_jump'), label_border=self._parameter('label_border'),
            grid_resolution=self._parameter('grid.resolution'),
            grid_size=self._parameter('grid.size'),
            # In the robot's own frame what was seen moves as the robot does, nobody knows where.
            grid_decay_s=(self._parameter('grid.decay_s') if self._parameter('grid.frame')
                          else 0.0),
            angle_increment=self._parameter('free_space.angle_increment'),
            heights=HeightsConfig(**{name: self._parameter(name) for name in (
                'obstacle_height', 'max_step', 'max_slope', 'max_clearance')}))

    def _make_transforms(self) -> Transforms | None:
        source = self._parameter('pose_source')
        if source == 'parameters' or (source == 'auto' and Buffer is None):
            return None
        if Buffer is None:
            raise ConfigError('pose_source is tf but tf2_ros is not installed: install it, or '
                              'choose parameters')
        return Transforms(self)

    def _source(self) -> str:
        return str(self._parameter('source'))

    def _type_of(self, name: str) -> type:
        return PointCloud2 if name == 'points' else INPUTS[name]

    def _forget_stamps(self) -> None:
        """Forget what is of another time: it waits in vain, and tells nothing of how old it is."""
        self._forget_waiting()
        if self._projector is not None:
            self._projector.cloud.forget()
        self._latency.clear()

    def _forget_waiting(self) -> None:
        """Drop what waits for partners or transforms."""
        self._counts['dropped_no_tf'] += self._waiting.clear()
        self._join.clear()
        self._pairs.clear()

    # Who listens, and to what.

    def _wanted(self) -> list[str]:
        return [output for output, publisher in self._outputs.items()
                if publisher.get_subscription_count()]

    def _of_camera(self) -> list[str]:
        return ['label', 'camera_info',
                *(['confidence'] if self._parameter('min_confidence') > 0 else [])]

    def _watch(self) -> None:
        """Listen to the inputs while someone listens to an output."""
        inputs = [*self._of_camera(), self._source()] if self._wanted() else []
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
                    self._type_of(name), name, partial(self._on_input, name), self._qos[name])

    # One frame's way.

    def _on_label_info(self, message: Any) -> None:
        if self._projector is not None:
            self._mismatch = mismatch(message, self._projector.cloud.traversability.labels)

    def _on_input(self, name: str, message: Any) -> None:
        self._came_s[name] = time.monotonic()
        self._counts['received'] += name == 'label'
        stamp_ns, tolerance_ms = _stamp_ns(message.header), self._parameter('sync_tolerance_ms')
        if name == self._source():
            pair = self._pairs.put_second(stamp_ns, message, tolerance_ms)
        else:
            parts = self._join.put(name, stamp_ns, message, self._of_camera())
            pair = self._pairs.put_first(stamp_ns, parts, tolerance_ms) if parts else None
        if pair is not None:
            self._waiting.put(pair, self._parameter('tf_timeout_s'))
            self._work()

    def _work(self) -> None:
        """Project what has its partners and transforms; look again soon if one waits."""
        self._waiting.work(self._handle)
        if self._waiting:
            self._tf_poll.reset()
        else:
            self._tf_poll.cancel()

    def _handle(self, pair: Pair, may_wait: bool) -> bool:
        """Project labels whose partners have come and count them; False where they wait."""
        outcome = self._outcome(pair, may_wait)
        if outcome:
            self._counts[outcome] += 1
        return bool(outcome)

    def _outcome(self, pair: Pair, may_wait: bool) -> str:
        """Project labels; return which of the counts they are, '' where they wait for TF."""
        wanted = self._wanted()
        if not wanted or self._poses is None:
            return 'dropped_unheard'
        try:
            if not self._project({**pair.first, self._source(): pair.second}, wanted, may_wait):
                return ''
        except Exception as error:
            if not self.context.ok():  # publishing while the node ends
                return 'dropped_unheard'
            # A frame must not end the node: say what is wrong with it and go on.
            self._problem = _words(error)
            self.get_logger().warning(f'nothing goes out: {self._problem}',
                                      throttle_duration_sec=5.0)
            return 'dropped_no_tf' if isinstance(error, NoPose) else 'rejected'
        return 'projected'

    def _project(self, parts: dict[str, Any], wanted: Sequence[str], may_wait: bool) -> bool:
        """Publish what is listened to, or nothing: raise for what does not hold.

        False: labels wait for TF.
        """
        assert self._projector is not None
        assert self._poses is not None
        label, other = parts['label'].header, parts[self._source()].header
        if self._source() == 'depth':
            check_frame(label, other)
        poses = self._poses.find(label, other, list(wanted), may_wait)
        if poses is None:
            return False
        if self._mismatch:
            raise ConfigError(self._mismatch)
        began_s, transport_ms = time.monotonic(), self._age_ms(label)
        self._projector.cloud.config = self._config()
        frame = self._projector.look(
            parts, poses, self._parameter('rectified'), self._parameter('min_confidence'),
            'grid' in wanted or 'free_space' in wanted)
        makes = {'points': self._projector.make_points, 'grid': self._projector.make_grid,
                 'free_space': self._projector.make_scan}
        for output in wanted:
            if output == 'grid' and poses.robot is None:
                continue
            message = makes[output](frame)
            if message is not None:
                self._outputs[output].publish(message)
        self._note(began_s, transport_ms, label)
        self._problem, self._remark = '', poses.no_grid or frame.remark or (
            f'no scan goes out: {frame.no_view}' if frame.no_view else '')
        self._figures = {'camera_height_m': float(poses.camera.origin[2]),
                         'ground_height_m': self._projector.cloud.ground_z,
                         'size': f'{parts["label"].width}x{parts["label"].height}'}
        return True

    def _note(self, began_s: float, transport_ms: float | None, label: Header) -> None:
        """Take down how long it took, and how old labels are now."""
        self._projected_s = ended_s = time.monotonic()
        stages = {'run': (ended_s - began_s) * 1e3}
        total_ms = self._age_ms(label)
        if transport_ms is not None and total_ms is not None:
            stages.update({'transport': transport_ms, TOTAL: total_ms})
        self._latency.add(ended_s, stages)

    def _age_ms(self, header: Header) -> float | None:
        return age_of(_stamp_ns(header), self.get_clock().now().nanoseconds).ms

    def _outcomes(self) -> dict[str, int]:
        """Return what became of the label images; a few may wait for their partners."""
        dropped = {'dropped_unheard': self._counts['dropped_unheard'],
                   'dropped_unmatched': self._join.unmatched + self._pairs.unmatched,
                   'dropped_no_tf': self._counts['dropped_no_tf']}
        return {**{name: self._counts[name] for name in ('received', 'projected', 'rejected')},
                'dropped': sum(dropped.values()), **dropped}

    def _report(self) -> None:
        now_s = time.monotonic()
        inputs = [*self._of_camera(), self._source()]
        view = CloudView(
            wanted=tuple(self._wanted()), inputs=tuple(map(self._input_view, inputs)),
            listening_s=now_s - self._listening_since_s,
            projected_ago_s=None if self._projected_s is None else now_s - self._projected_s,
            problem=self._problem, remark=self._remark, counts=self._outcomes(),
            figures=self._figures, stale_after_s=self._parameter('diagnostics.stale_after_s'),
            is_active=self._is_active, apart_ms=self._pairs.apart_ms,
            tolerance_ms=self._parameter('sync_tolerance_ms'))
        limit_ms = self._parameter('diagnostics.max_latency_ms')
        self._diagnostics.publish({
            'view': view_status(view),
            'latency': latency_status(self._latency.quantiles(now_s), limit_ms)})

    def _input_view(self, name: str) -> InputView:
        topic, came_s = self.resolve_topic_name(name), self._came_s.get(name)
        return InputView(
            topic, self.count_publishers(topic),
            None if came_s is None else time.monotonic() - came_s,
            wrong_publisher(topic, type_name(self._type_of(name)), name,
                            self.get_publishers_info_by_topic(topic)))


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, EXPECTED) else f'{type(error).__name__}: {error}'


def _stamp_ns(header: Header) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


@command('semantic_cloud_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('semantic_cloud', lambda stop: CloudNode(), args)


if __name__ == '__main__':
    sys.exit(main())
