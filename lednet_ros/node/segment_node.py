# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, label and colour images out, diagnostics beside."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lednet_ros.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.errors import BackendUnavailable, ConfigError, LednetRosError
from lednet_ros.node.camera_tally import CameraCounts, CameraTally
from lednet_ros.node.diagnostics import (
    ERROR,
    OK,
    WARN,
    CameraView,
    camera_state,
    camera_values,
    latency_values,
    make_status,
)
from lednet_ros.node.image_codec import BadImage, Frame, decode_image, encode_image
from lednet_ros.node.latency import Latency
from lednet_ros.node.latest_frame import LatestFrames
from lednet_ros.node.parameters import Param, declare, value_of
from lednet_ros.node.run import run
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.child_build import ChildBuild, needed_build
from lednet_ros.segmentation.config import BACKENDS, FITS, PRECISIONS

PARAMETERS = (
    Param('checkpoint', '', 'checkpoint file; empty: the one that comes with the package'),
    Param('backend', 'auto', 'what runs the network', choices=BACKENDS),
    Param('device', 'auto', "'auto', 'cpu' or 'cuda:N'"),
    Param('precision', 'auto', 'auto is fp16 on CUDA and fp32 on the CPU', choices=PRECISIONS),
    Param('input_height', 0, "of the network's input; 0: the checkpoint's", between=(0, 8192)),
    Param('input_width', 0, "of the network's input; 0: the checkpoint's", between=(0, 8192)),
    Param('fit', 'letterbox', "keep the image's shape or fill the input", choices=FITS),
    Param('cameras', [], 'camera names, one topic <camera>/image each; empty: one, image'),
    Param('min_confidence', 0.0, 'a less certain pixel becomes 255', between=(0.0, 1.0),
          live=True),
    Param('engine_cache_dir', '', 'where compiled programs are kept; empty: ~/.cache/lednet_ros'),
    Param('autostart', True, 'configure and activate at start; false: a manager does'),
    Param('diagnostics.period_s', 1.0, 'between two reports', between=(0.1, 60.0)),
    Param('diagnostics.max_latency_ms', 0.0, 'WARN above this p95 from stamp to label; 0: never',
          between=(0.0, 1e6), live=True),
    Param('diagnostics.stale_after_s', 5.0, 'silence after which a camera is stale',
          between=(0.1, 3600.0), live=True),
)

POLL_S = 0.1         # an engine's build
STOP_WITHIN_S = 1.5  # for the frame in the making, when the node is told to end


@dataclass(frozen=True)
class Pending:
    """A decoded image on its way to the network."""

    frame: Frame
    header: Header
    received_s: float           # monotonic
    transport_ms: float | None  # from the header's stamp; None if that tells no age


class Camera:
    """One camera: its topics, its counts, and what the last report said."""

    def __init__(self, node: SegmentNode, name: str) -> None:
        self.name = name or 'image'
        image, outputs = (f'{name}/image', f'~/{name}') if name else ('image', '~')
        self.topic = node.resolve_topic_name(image)
        self.tally = CameraTally()
        self.subscription: Subscription | None = None
        self.label = node.make_publisher(f'{outputs}/label')
        self.color = node.make_publisher(f'{outputs}/color')
        self.reported = CameraCounts()
        self.listening_since_s: float | None = None  # with a publisher there
        self.warned = False


class SegmentNode(LifecycleNode):
    """Parameters in, one frame's way from callback to publish, out."""

    def __init__(self) -> None:
        super().__init__('segment')
        declare(self, PARAMETERS)
        self._cameras: list[Camera] = []
        self._segmenter: Segmenter | None = None
        self._frames: LatestFrames[Pending] = LatestFrames()
        self._worker: threading.Thread | None = None
        self._latency = Latency()
        self.done = Future()        # never by itself
        self._build: ChildBuild | None = None
        self._problem = ''          # why there is no segmenter, or why its last frame failed
        self._reported_s = time.monotonic()
        logging.getLogger('lednet_ros').addHandler(RosHandler(self))
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # By a clock of its own: reports go on while simulated time stands still.
        self.create_timer(self.parameter('diagnostics.period_s'), self._report,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def parameter(self, name: str) -> Any:
        """Give a parameter's value now."""
        return value_of(self, next(row for row in PARAMETERS if row.name == name))

    def make_publisher(self, topic: str) -> Publisher:
        """Make an image output: reliable, which any subscriber matches, and only the newest."""
        return self.create_publisher(
            Image, topic, QoSProfile(depth=1),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())

    # Lifecycle: each transition undoes its opposite.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, set up the backend and run it once."""
        try:
            checkpoint, config = self._wanted()
            build, self._build = self._build or needed_build(checkpoint, config), None
            if build is not None:
                config = self._finish_build(build, config)
            self._segmenter = segmenter = Segmenter(checkpoint, config)
            names = self._camera_names()
            height, width = segmenter.input_size
            segmenter.segment([np.zeros((height, width, 3), np.uint8)] * len(names))
            for name in names:
                self._cameras.append(Camera(self, name))
        except Exception as error:  # rclpy would drop it without a word
            self.on_cleanup(state)
            if self.context.ok():  # else the process is being ended
                self._problem = _words(error)
                self.get_logger().error(f'not configured: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
        self.get_logger().info(
            f'{segmenter.checkpoint.name}: {segmenter.labels.name}, {len(segmenter.labels)} '
            f'classes, {width}x{height}, by {segmenter.backend}'
            + (f'; it {segmenter.self_check}' if segmenter.self_check else ''))
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the cameras."""
        if self._worker is not None:
            self._worker.join()  # two threads must not be inside the network
        self._frames = LatestFrames()
        self._worker = threading.Thread(
            target=self._work, args=(self._frames,), name='inference', daemon=True)
        self._worker.start()
        for camera in self._cameras:
            camera.subscription = self.create_subscription(
                Image, camera.topic, lambda m, c=camera: self._on_image(c, m),
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self.get_logger().info(f'ready: {", ".join(c.topic for c in self._cameras)}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frame in the making is the last."""
        for camera in self._cameras:
            if camera.subscription is not None:
                self.destroy_subscription(camera.subscription)
            camera.subscription = None
            camera.listening_since_s = None
        for name in self._frames.close():
            self._camera(name).tally.dropped()
        if self._worker is not None:
            self._worker.join(STOP_WITHIN_S)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the network's memory and the outputs."""
        if self._worker is not None:
            self._worker.join()
        for camera in self._cameras:
            self.destroy_publisher(camera.label)
            self.destroy_publisher(camera.color)
        self._cameras = []
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do so."""
        if not self.parameter('autostart'):
            return
        with suppress(LednetRosError):  # configuring will say it
            self._build = needed_build(*self._wanted())
        if self._build is None:
            self._configure_and_activate()
            return
        # An engine takes minutes: meanwhile services answer and diagnostics say 'compiling'.
        self.get_logger().info('compiling the network for this GPU, once: this takes minutes')
        self._build_timer = self.create_timer(
            POLL_S, self._poll_build, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _poll_build(self) -> None:
        if self._build is None:  # a lifecycle manager was quicker
            self.destroy_timer(self._build_timer)
        elif self._build.state.is_done:
            self.destroy_timer(self._build_timer)
            self._configure_and_activate()

    def _configure_and_activate(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _wanted(self) -> tuple[Checkpoint, SegmenterConfig]:
        """Give what the parameters ask for."""
        config = SegmenterConfig(max_batch=len(self._camera_names()), **{
            name: self.parameter(name) for name in (
                'backend', 'device', 'precision', 'input_height', 'input_width', 'fit',
                'engine_cache_dir')})
        return load_checkpoint(self.parameter('checkpoint') or default_checkpoint()), config

    def _finish_build(self, build: ChildBuild, config: SegmenterConfig) -> SegmenterConfig:
        """Wait for the engine, reporting; give the config to go on with."""
        self._build = build
        try:
            while not build.wait(POLL_S).is_done:
                if not self.context.ok():
                    raise BackendUnavailable('ended while compiling')
                if time.monotonic() - self._reported_s >= self.parameter('diagnostics.period_s'):
                    self._report()
        finally:
            build.cancel()
            self._build = None
        if build.state.error is None:
            return config
        if config.backend != 'auto':
            raise BackendUnavailable(build.state.error)
        self.get_logger().warning(f'{build.state.error}: going on with torch, slower')
        return replace(config, backend='torch')

    def stop(self) -> bool:
        """End the inference thread and a build; whether the thread ended in time."""
        if self._build is not None:
            self._build.cancel()
        self._frames.close()
        if self._worker is not None:
            self._worker.join(STOP_WITHIN_S)
            return not self._worker.is_alive()
        return True

    def _camera_names(self) -> list[str]:
        names: list[str] = self.parameter('cameras') or ['']
        for name in names:
            if name and not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', name, re.ASCII):
                raise ConfigError(f'camera {name!r} is no ROS name: use letters, digits and _')
            if names.count(name) > 1:
                raise ConfigError(f'camera {name!r} is named twice: give each its own name')
        return names

    # One frame's way.

    def _camera(self, name: str) -> Camera:
        return next(camera for camera in self._cameras if camera.name == name)

    def _on_image(self, camera: Camera, message: Image) -> None:
        received_s = time.monotonic()
        camera.tally.received(
            received_s, f'{message.width}x{message.height}', message.encoding[:32])
        try:
            frame = decode_image(message)
        except BadImage as error:
            camera.tally.rejected(str(error))
            self.get_logger().error(
                f'rejected an image on {camera.topic}: {error}', throttle_duration_sec=5.0)
            return
        age_ms = self._age_ms(message.header)
        if age_ms is None:
            camera.tally.odd_stamp()
        if self._frames.put(camera.name, Pending(frame, message.header, received_s, age_ms)):
            camera.tally.dropped()

    def _age_ms(self, header: Header) -> float | None:
        """Give a stamp's age by the node's clock; None for zero and the future."""
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
        return age_ms if stamp_ns > 0 and age_ms >= 0 else None

    def _work(self, frames: LatestFrames[Pending]) -> None:
        while not frames.closed:
            batch = frames.take()
            try:
                self._segment(batch)
            except Exception as error:
                if not self.context.ok():  # publishing while the node ends
                    return
                # A frame that a backend fails on must not end the node: say so and go on.
                self._problem = _words(error)
                self.get_logger().error(
                    f'segmenting failed: {self._problem}', throttle_duration_sec=5.0)
                for name in batch:
                    self._camera(name).tally.rejected(f'segmenting failed: {self._problem}')

    def _segment(self, batch: dict[str, Pending]) -> None:
        if not batch:
            return
        assert self._segmenter is not None
        taken_s = time.monotonic()
        segmentations = self._segmenter.segment(
            [pending.frame.pixels for pending in batch.values()],
            rgb=[pending.frame.rgb for pending in batch.values()],
            min_confidence=self.parameter('min_confidence'))
        for name, segmentation in zip(list(batch), segmentations, strict=True):
            camera, pending = self._camera(name), batch[name]
            publish_from_s = time.monotonic()
            self._publish(camera, pending.header, segmentation.labels)
            published_s = time.monotonic()
            camera.tally.segmented(published_s)
            del batch[name]  # has met its fate, whatever becomes of the others
            stages = {
                'wait': (taken_s - pending.received_s) * 1e3,
                **segmentation.timings,
                'publish': (published_s - publish_from_s) * 1e3,
            }
            if pending.transport_ms is not None:
                stages['transport'] = pending.transport_ms
            total_ms = self._age_ms(pending.header)
            if total_ms is not None:
                stages['total'] = total_ms
            self._latency.add(stages)
        self._problem = ''

    def _publish(self, camera: Camera, header: Header, labels: np.ndarray) -> None:
        """Publish what is listened to."""
        assert self._segmenter is not None
        if camera.label.get_subscription_count():
            camera.label.publish(encode_image(labels, 'mono8', header))
        if camera.color.get_subscription_count():
            camera.color.publish(encode_image(self._segmenter.colorize(labels), 'rgb8', header))

    # Reports.

    def _report(self) -> None:
        now_s = time.monotonic()
        elapsed_s = max(now_s - self._reported_s, 1e-3)
        self._reported_s = now_s
        stale_after_s = self.parameter('diagnostics.stale_after_s')
        statuses = [self._engine_status(), self._latency_status(elapsed_s)]
        for camera in self._cameras:
            view = self._view(camera, now_s, elapsed_s)
            camera.reported = view.counts
            state, level, message = camera_state(view, stale_after_s)
            statuses.append(make_status(
                f'{self.get_name()}: camera {camera.name}', level, message, camera.topic,
                camera_values(view, state)))
            if state == 'stale' and not camera.warned:
                self.get_logger().warning(message)
            camera.warned = state == 'stale'
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _view(self, camera: Camera, now_s: float, elapsed_s: float) -> CameraView:
        publishers = self.count_publishers(camera.topic)
        is_active = camera.subscription is not None
        if not (publishers and is_active):
            camera.listening_since_s = None
        elif camera.listening_since_s is None:
            camera.listening_since_s = now_s
        counts = camera.tally.counts
        since_s = max((t for t in (counts.last_received_s, camera.listening_since_s)
                       if t is not None), default=now_s)
        return CameraView(camera.name, camera.topic, counts, camera.reported, elapsed_s,
                          is_active, publishers, now_s - since_s)

    def _engine_status(self) -> DiagnosticStatus:
        name = f'{self.get_name()}: engine'
        if self._build is not None:
            build = self._build.state
            return make_status(name, WARN, f'compiling: {build.stage}', '',
                               {'state': 'compiling', 'elapsed_s': build.elapsed_s})
        if self._segmenter is None:
            level = ERROR if self._problem else OK
            return make_status(name, level, self._problem or 'not configured', '', {})
        checkpoint = self._segmenter.checkpoint
        height, width = self._segmenter.input_size
        values: dict[str, object] = {
            'state': 'failing' if self._problem else 'ready',
            'backend': self._segmenter.backend,
            'input': f'{width}x{height}',
            'checkpoint': checkpoint.name,
            'checkpoint_sha256': checkpoint.sha256[:16],
            'labels': checkpoint.labels.name,
            'classes': len(checkpoint.labels),
        }
        if self._segmenter.self_check is not None:
            values['self_check'] = self._segmenter.self_check
            values['self_check_agreement'] = f'{self._segmenter.self_check.agreement:.5f}'
        return make_status(
            name, ERROR if self._problem else OK, self._problem or self._segmenter.backend,
            self._segmenter.backend, values)

    def _latency_status(self, elapsed_s: float) -> DiagnosticStatus:
        quantiles = self._latency.quantiles()
        limit_ms = self.parameter('diagnostics.max_latency_ms')
        segmented = sum(c.tally.counts.segmented - c.reported.segmented for c in self._cameras)
        total = quantiles.get('total')
        level, message = OK, 'no frame was segmented yet'
        if total:
            message = f'p95 {total.p95:.0f} ms from stamp to label'
            if 0 < limit_ms < total.p95:
                level, message = WARN, f'{message}, over the limit of {limit_ms:.0f} ms'
        return make_status(
            f'{self.get_name()}: latency', level, message, '',
            {'segmented_hz': segmented / elapsed_s, **latency_values(quantiles)})


class RosHandler(logging.Handler):
    """Hands what the floors below log to the node's logger."""

    def __init__(self, node: SegmentNode) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log it; rclpy wants a line of code for each severity."""
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.debug(record.getMessage())


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, LednetRosError) else f'{type(error).__name__}: {error}'


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('segment', lambda stop: SegmentNode(), args)


if __name__ == '__main__':
    sys.exit(main())
