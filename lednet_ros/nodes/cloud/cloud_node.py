# SPDX-License-Identifier: Apache-2.0
"""The cloud node: labels and depth or points in; a labelled cloud, a grid and a scan out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import LaserScan, PointCloud2

from lednet_ros.common.command import command
from lednet_ros.nodes.cloud.cloud_input import CloudInput
from lednet_ros.nodes.cloud.diagnostics import CloudView, view_status
from lednet_ros.nodes.cloud.parameters import PARAMETERS
from lednet_ros.nodes.cloud.projector import Frame, Projector, check_frame
from lednet_ros.nodes.ground.diagnostics import latency_status
from lednet_ros.nodes.ground.parameters import camera_parameters
from lednet_ros.nodes.shared.area_parameters import area_of
from lednet_ros.nodes.shared.camera_input import (
    forgetting_warning,
    moving_grid_warning,
    stampless_warning,
)
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.camera_rounds import (
    POLL_S,
    WATCH_S,
    CameraRounds,
    stamp_ns_of,
    words_of,
)
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, mismatch
from lednet_ros.nodes.shared.lifecycle import answered, release_participant
from lednet_ros.nodes.shared.outputs import Outputs
from lednet_ros.nodes.shared.parameters import Parameters, Rule, tell_unread
from lednet_ros.nodes.shared.poses import PoseFinder, Poses, height_rule
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.tf import Transforms, find_transforms
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.projection import Traversability
from lednet_ros.projection.cloud import CloudConfig
from lednet_ros.projection.heights import HeightsConfig

OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}
HEIGHTS = tuple(field.name for field in fields(HeightsConfig))  # parameters, in its order


class CloudNode(LifecycleNode):
    """Parameters in, one frame's way from its last part to publish, out. All in one thread."""

    def __init__(self) -> None:
        super().__init__('semantic_cloud')
        self._service_change_state.callback = answered(self)
        self._parameter = Parameters(self, PARAMETERS, [Rule(HEIGHTS, HeightsConfig)])
        self._names = camera_names(self._parameter('cameras'))
        self._parameter.add(
            [row for name in self._names if name for row in camera_parameters(name)],
            [height_rule(name) for name in self._names])
        self.done = Future()  # never by itself
        self._projector: Projector | None = None
        self._cameras: list[CloudInput] = []  # from the first configuration on
        self._transforms: Transforms | None = None
        self._poses: dict[str, PoseFinder] = {}
        self._outputs = Outputs(self, OUTPUTS)
        self._is_active = False
        self._rounds = CameraRounds(
            self, self._cameras, self._parameter, self._prepare, self._publish)
        self._latency = self._rounds.latency
        self._problem = self._remark = ''
        self._figures: dict[str, object] = {}
        self._label_info: Any = None  # the newest
        if LabelInfo is not None:
            self.create_subscription(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._diagnostics = DiagnosticsPublisher(self)
        # By a clock that simulation cannot stop.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watching = self.create_timer(WATCH_S, self._watch, clock=steady)
        self._watching.cancel()  # until it is active
        self._poll = self.create_timer(POLL_S, self._work, clock=steady)
        self._poll.cancel()  # until one waits
        self.create_timer(self._parameter('diagnostics.period_s'), self._report, clock=steady)

    # Lifecycle: each transition undoes its opposite.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read what does not change, and open the outputs."""
        try:
            traversability = Traversability.load(self._parameter('traversability'))
            self._transforms = self._transforms or find_transforms(
                self, self._parameter('pose_source'))
            self._cameras += [] if self._cameras else [
                CloudInput(self, name, self._source()) for name in self._names]
            self._projector = Projector(
                traversability, self._config(), self._parameter('output_frame'),
                self._parameter('grid.frame'))
            self._poses = {name: PoseFinder(
                self._transforms, self._parameter, self._projector.cloud.forget,
                self._parameter('output_frame'), self._parameter('fixed_frame'), name)
                for name in self._names}
            self._outputs.open()
            self._judge_label_info()
        except Exception as error:  # rclpy would drop it without a word
            self.on_cleanup(state)
            self._problem = words_of(error)
            self.get_logger().error(f'not configured: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
        if odd := moving_grid_warning(*map(self._parameter, (
                'grid.frame', 'output_frame', 'grid.decay_s'))):
            self.get_logger().warning(odd)
        tell_unread(self)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to look who listens."""
        assert self._projector is not None
        self._is_active = True
        self._watching.reset()
        self.get_logger().info(
            f'ready: {", ".join(f"{c.topic} on {c.source_topic}" for c in self._cameras)}, '
            f'{self._projector.cloud.traversability.labels.name}, camera pose from '
            f'{"TF" if self._transforms else "parameters"}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening."""
        self._is_active = False
        self._watching.cancel()
        self._poll.cancel()
        self._rounds.forget()
        self._rounds.listen((), self._on_input)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the outputs, and forget the grid."""
        self._outputs.close()
        self._projector, self._poses = None, {}
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
        release_participant(self)

    def _config(self) -> CloudConfig:
        return CloudConfig(
            **area_of(self._parameter), edge_jump=self._parameter('edge_jump'),
            label_border=self._parameter('label_border'),
            heights=HeightsConfig(*map(self._parameter, HEIGHTS)))

    def _source(self) -> str:
        return str(self._parameter('source'))

    def _forget_stamps(self) -> None:
        """Forget what is of another time: it waits in vain, and tells nothing of how old it is."""
        self._rounds.forget()
        if self._projector is not None:
            self._projector.cloud.forget()
        self._latency.clear()

    # Who listens, and to what.

    def _of_camera(self) -> list[str]:
        return ['label', 'camera_info',
                *(['confidence'] if self._parameter('min_confidence') > 0 else [])]

    def _inputs(self) -> list[str]:
        return [*self._of_camera(), self._source()]

    def _watch(self) -> None:
        """Listen to the inputs while someone listens to an output."""
        if self._rounds.listen(self._inputs() if self._outputs.wanted() else [], self._on_input):
            self._problem = self._remark = ''

    # One frame's way.

    def _on_label_info(self, message: Any) -> None:
        self._label_info = message  # it comes once, and maybe before this is configured
        self._judge_label_info()

    def _judge_label_info(self) -> None:
        if self._projector is not None and self._label_info is not None:
            self._rounds.mismatch = mismatch(
                self._label_info, self._projector.cloud.traversability.labels)

    def _on_input(self, camera: CloudInput, input_: str, message: Any) -> None:
        pair = camera.pair(input_, stamp_ns_of(message.header), message, self._of_camera(),
                           self._parameter('sync_tolerance_ms'))
        parts = {**pair.first, camera.source: pair.second} if pair is not None else None
        if self._rounds.put(camera, input_, parts):
            self._work()

    def _work(self) -> None:
        self._rounds.work(self._outputs.wanted, self._poll)

    def _prepare(
        self, camera: CloudInput, parts: dict[str, Any], wanted: Sequence[str], may_wait: bool,
    ) -> Callable[[], Frame] | None:
        label, other = parts['label'].header, parts[camera.source].header
        if camera.source == 'depth':
            check_frame(label, other)
        poses = self._poses[camera.name].find(label, other, wanted, may_wait)
        return None if poses is None else partial(self._look, camera, parts, poses, wanted)

    def _look(
        self, camera: CloudInput, parts: dict[str, Any], poses: Poses, wanted: Sequence[str],
    ) -> Frame:
        """Let a frame be seen; raise for what does not hold."""
        assert self._projector is not None
        began_s = time.monotonic()
        transport_ms = self._rounds.age_ms(stamp_ns_of(parts['label'].header))
        self._projector.cloud.config = self._config()
        frame = self._projector.look(
            parts, poses, self._parameter('rectified'), self._parameter('min_confidence'),
            'grid' in wanted or 'free_space' in wanted, camera.name)
        camera.transport_ms, camera.run_s = transport_ms, time.monotonic() - began_s
        camera.size = f'{parts["label"].width}x{parts["label"].height}'
        return frame

    def _publish(
        self, wanted: Sequence[str], cameras: Sequence[CloudInput], new: Sequence[CloudInput],
    ) -> None:
        """Publish what is listened to, of these cameras."""
        assert self._projector is not None
        began_s = time.monotonic()
        frames = _by_stamp(cameras)
        no_grid = ''
        if 'points' in wanted:
            self._outputs.publish('points', self._projector.make_points(
                frames, self._parameter('points.stride')))
        if 'grid' in wanted:
            # What a grid remembers is not seen a second time.
            seen = _by_stamp(new if self._parameter('grid.frame') else cameras)
            no_grid = next((frame.poses.no_grid for frame in seen if frame.poses.no_grid), '')
            blind = [camera.seen for camera in self._cameras
                     if camera.seen is not None and camera not in cameras]
            if seen and seen[-1].poses.robot is not None:
                self._outputs.publish('grid', self._projector.make_grid(
                    seen, frames[-1].stamp, blind, len(self._cameras) > 1))
                no_grid = no_grid or forgetting_warning(self._projector.apart_s)
                if self._transforms and (odd := moving_grid_warning(
                        self._parameter('grid.frame'), self._parameter('output_frame'),
                        self._parameter('grid.decay_s'), self._transforms)):
                    self.get_logger().warning(odd, once=True)
        if 'free_space' in wanted:
            scan = self._projector.make_scan(frames)
            if scan is not None:
                self._outputs.publish('free_space', scan)
        publish_s = time.monotonic() - began_s
        for camera in new:
            self._rounds.note_latency(
                camera.seen.stamp_ns, camera.transport_ms, camera.run_s + publish_s)
        self._remark = self._rounds.absent() or stampless_warning(
            frames[-1].stamp_ns) or no_grid or next(
            (frame.remark for frame in frames if frame.remark), '') or next((
            f'no scan goes out: {frame.no_view}' for frame in frames if frame.no_view), '') or (
                self._projector.no_way if {'grid', 'free_space'} & set(wanted) else '')
        self._figures = {'ground_height_m': self._projector.cloud.ground_z, **{
            f'{camera.name}/{key}' if camera.name else key: value for camera in cameras
            for key, value in (('camera_height_m', float(camera.seen.poses.camera.origin[2])),
                               ('size', camera.size))}}

    def _report(self) -> None:
        view = CloudView(
            self._rounds.state(self._inputs()), tuple(self._outputs.wanted()), self._remark,
            self._figures, self._outputs.unheard(), self._is_active, self._problem,
            apart_ms=next((c.pairs.apart_ms for c in self._cameras
                           if c.pairs.apart_ms is not None), None),
            tolerance_ms=self._parameter('sync_tolerance_ms'))
        limit_ms = self._parameter('diagnostics.max_latency_ms')
        self._diagnostics.publish({
            'view': view_status(view),
            'latency': latency_status(self._latency.quantiles(time.monotonic()), limit_ms)})


def _by_stamp(cameras: Sequence[CloudInput]) -> list[Frame]:
    """Return the cameras' newest frames, the newest last."""
    return sorted((camera.seen for camera in cameras), key=lambda frame: frame.stamp_ns)


@command('semantic_cloud_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('semantic_cloud', lambda stop: CloudNode(), args)


if __name__ == '__main__':
    sys.exit(main())
