# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, labels and pictures of them out, diagnostics beside."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import BackendUnavailable, ConfigError, LednetRosError, first_line
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.segment.engine_status import (
    compiling_status,
    configuring_status,
    engine_status,
    unconfigured_status,
)
from lednet_ros.nodes.segment.latest_frame import LatestFrames
from lednet_ros.nodes.segment.outputs import make_images
from lednet_ros.nodes.segment.parameters import PARAMETERS
from lednet_ros.nodes.segment.reports import Reports, Snapshot
from lednet_ros.nodes.shared.camera_info import (
    BadCameraInfo,
    camera_info_of_frame,
    camera_info_of_scaled,
)
from lednet_ros.nodes.shared.image_messages import (
    BadImage,
    Frame,
    decode,
    size_and_encoding,
)
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, make_label_info
from lednet_ros.nodes.shared.latency import TOTAL, Latency
from lednet_ros.nodes.shared.library_log import LibraryLog
from lednet_ros.nodes.shared.parameters import declare, value_of
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.qos import unread_overrides
from lednet_ros.nodes.shared.stamps import age_of, going_back
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.segmentation import Segmentation, Segmenter, SegmenterConfig
from lednet_ros.segmentation.engine_build import ChildBuild, needed_build

T = TypeVar('T')

ONE_MOMENT_S = 2e-4  # within which two clocks count as read together
POLL_S = 0.1         # an engine's build
WATCH_S = 0.2        # who listens
STOP_WITHIN_S = 1.5  # for the frame in the making, when the node is told to end
CLEAN_UP_WITHIN_S = 20.0  # for the same, when the network's memory is to be given back


@dataclass(frozen=True)
class Pending:
    """A decoded image on its way to the network."""

    frame: Frame
    header: Header
    received_s: float           # monotonic
    decoded_s: float
    transport_ms: float | None  # from the header's stamp; None if that tells no age


class SegmentNode(LifecycleNode):
    """Parameters in, one frame's way from callback to publish, out."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        super().__init__('segment')
        self._library_log = LibraryLog(self.get_logger())
        self._stop = stop or threading.Event()  # set when the process is to end
        declare(self, PARAMETERS)
        self._cameras: list[Camera] = []
        self._segmenter: Segmenter | None = None
        self._frames: LatestFrames[Pending] = LatestFrames()
        # For the node's life, as CUDA and malloc keep something for each thread. A network is
        # loaded in a thread, and so in a heap, where no image comes (memory.py).
        self._loading = futures.ThreadPoolExecutor(1, 'loading')
        self._inference = futures.ThreadPoolExecutor(1, 'inference')
        self._working: futures.Future[Any] | None = None  # the last thing they were given
        self._label_info: Publisher | None = None
        self._told_confidence = 0.0  # on it
        self._latency = Latency()
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._active_since_s: float | None = None
        self._segmented_s: float | None = None
        self.done = Future()        # never by itself
        self._build: ChildBuild | None = None
        self._problem = ''          # why there is no segmenter, or why its last frame failed
        self._reported_s = time.monotonic()
        self._reports = Reports(self)
        # By a clock of their own: reports go on while simulated time stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.parameter('diagnostics.period_s'), self._report, clock=clock)
        self._watch = self.create_timer(WATCH_S, self._listen, clock=clock)
        self._watch.cancel()  # until it is active

    def parameter(self, name: str) -> Any:
        """Give a parameter's value now."""
        return value_of(self, next(row for row in PARAMETERS if row.name == name))

    # Lifecycle: each transition undoes its opposite.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, set up the backend and run it once."""
        try:
            checkpoint, config = self._wanted()
            build = self._build or self._load(needed_build, checkpoint, config)
            self._build = None
            if build is not None:
                config = self._finish_build(build, config)
            self._segmenter = segmenter = self._load(
                _make, checkpoint, config, len(self._camera_names()))
            height, width = segmenter.input_size
            self._cameras = [Camera(self, name, self.parameter('image_transport'))
                             for name in self._camera_names()]
            for camera in self._cameras:
                camera.open()
            self._publish_label_info(segmenter)
        except Exception as error:  # rclpy would drop it without a word
            if not self._is_ending():
                self.on_cleanup(state)
                self._problem = _words(error)
                self.get_logger().error(f'not configured: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
        self.get_logger().info(
            f'{segmenter.checkpoint.name}: {segmenter.labels.name}, {len(segmenter.labels)} '
            f'classes, {width}x{height}, by {segmenter.backend}'
            + (f'; it {segmenter.self_check}' if segmenter.self_check else ''))
        if unread := unread_overrides(self):
            self.get_logger().info(unread)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the cameras."""
        self._frames = LatestFrames()
        self._working = self._inference.submit(self._work, self._frames)
        self._active_since_s = time.monotonic()
        try:
            self._listen()
        except Exception as error:  # rclpy would drop it without a word
            self.on_deactivate(state)
            self._problem = _words(error)
            self.get_logger().error(f'not activated: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._watch.reset()
        self.get_logger().info(f'ready: {", ".join(c.topic for c in self._cameras)}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frame in the making is the last, if it is ready soon."""
        self._watch.cancel()
        self._active_since_s = None
        for camera in self._cameras:
            camera.ignore()
            camera.ignore_info()
        self._close_mailbox()
        self._frames.abandoned = not self._is_idle(STOP_WITHIN_S)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the network's memory and the outputs."""
        until_s = time.monotonic() + CLEAN_UP_WITHIN_S
        while not self._is_idle(POLL_S):
            if self._is_ending():
                return TransitionCallbackReturn.FAILURE
            self._meanwhile()
            if time.monotonic() > until_s:
                self._problem = ('the network hangs: clean up again later, or end the process and '
                                 'look at the GPU')
                self.get_logger().error(f'not cleaned up: {self._problem}')
                return TransitionCallbackReturn.FAILURE
        self._problem = ''
        for camera in self._cameras:
            camera.close()
        self._cameras = []
        if self._label_info is not None:
            self.destroy_publisher(self._label_info)
        self._label_info = None
        segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            try:
                segmenter.close()
            except Exception as error:  # a lost device; it can be tried again all the same
                self.get_logger().warning(f'closing the backend failed: {_words(error)}')
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        if self._build is not None:
            self._build.cancel()
            self._build = None
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do so."""
        if not self.parameter('autostart'):
            return
        with suppress(Exception):  # configuring will say it
            self._build = self._load(needed_build, *self._wanted())
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
        config = SegmenterConfig(**{
            name: self.parameter(name) for name in (
                'backend', 'device', 'precision', 'input_height', 'input_width', 'fit',
                'engine_cache_dir')})
        path = self.parameter('checkpoint') or default_checkpoint()
        return self._load(load_checkpoint, path), config

    def _finish_build(self, build: ChildBuild, config: SegmenterConfig) -> SegmenterConfig:
        """Wait for the engine, reporting; give the config to go on with."""
        self._build = build
        try:
            while not build.wait(POLL_S).is_done:
                self._meanwhile()
        finally:
            build.cancel()
            self._build = None
        if build.state.error is None:
            return config
        if config.backend != 'auto':
            raise BackendUnavailable(build.state.error)
        self.get_logger().warning(f'{build.state.error}: going on without TensorRT, slower')
        return replace(config, no_tensorrt=build.state.error)

    def _load(self, do: Callable[..., T], *args: Any) -> T:
        """Have the loading thread do something, reporting meanwhile; give what it made."""
        self._working = work = self._loading.submit(do, *args)
        while futures.wait([work], POLL_S).not_done:
            self._meanwhile()
        self._working = None  # what it made, or the error, would live on in it
        return work.result()

    def _is_idle(self, within_s: float) -> bool:
        """Wait until loading or inference has nothing to do; whether that is so in time."""
        return self._working is None or not futures.wait([self._working], within_s).not_done

    def stop(self) -> bool:
        """End inference and a build; whether that was in time."""
        if self._build is not None:
            self._build.cancel()
        self._close_mailbox()
        return self._is_idle(STOP_WITHIN_S)

    def _is_ending(self) -> bool:
        return self._stop.is_set() or not self.context.ok()

    def destroy_node(self) -> None:
        """Leave the graph, whole."""
        self._library_log.close()
        super().destroy_node()
        self.__dict__.pop('_state_machine', None)  # rclpy's: it keeps the participant alive

    def _camera_names(self) -> list[str]:
        names: list[str] = [name for name in self.parameter('cameras') if name] or ['']
        for name in names:
            if name and not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', name, re.ASCII):
                raise ConfigError(f'camera {name!r} is no ROS name: use letters, digits and _')
            if names.count(name) > 1:
                raise ConfigError(f'camera {name!r} is named twice: give each its own name')
        return names

    def _publish_label_info(self, segmenter: Segmenter) -> None:
        """Latch what the labels mean."""
        if LabelInfo is None:
            self.get_logger().info(
                'vision_msgs is not installed: ~/label_info is left out', once=True)
            return
        if self._label_info is None:
            self._label_info = self.create_publisher(LabelInfo, '~/label_info', LATCHED)
        self._told_confidence = self.parameter('min_confidence')
        self._label_info.publish(make_label_info(
            segmenter.labels, self._told_confidence,
            Header(stamp=self.get_clock().now().to_msg())))

    def _listen(self) -> None:
        """Listen to the cameras whose outputs someone listens to; tell what has changed."""
        if (self._label_info is not None and self._segmenter is not None
                and self._told_confidence != self.parameter('min_confidence')):
            self._publish_label_info(self._segmenter)
        for camera in self._cameras:
            wanted = camera.wanted()
            if wanted or not self.parameter('lazy'):
                camera.listen(partial(self._on_image, camera))
            else:
                camera.ignore()
            if 'camera_info' in wanted:
                camera.listen_to_info()
            else:
                camera.ignore_info()

    # One frame's way.

    def _camera(self, name: str) -> Camera:
        return next(camera for camera in self._cameras if camera.name == name)

    def _on_image(self, camera: Camera, message: Image | CompressedImage) -> None:
        now_ns, received_s = self._now()
        camera.tally.received(received_s)
        try:
            self._accept(camera, message, now_ns, received_s)
        except Exception as error:  # a decoder may raise what nobody has thought of
            camera.tally.rejected(_words(error))
            if camera.may_say('rejected', received_s):
                self.get_logger().error(f'rejected an image on {camera.topic}: {_words(error)}')

    def _accept(
        self, camera: Camera, message: Image | CompressedImage, now_ns: int, received_s: float,
    ) -> None:
        """Leave an image for the network, or drop it. Raise, before either, what rejects it."""
        camera.tally.looks(*size_and_encoding(message))
        transport_ms = self._judge_stamp(camera, message.header, now_ns, received_s)
        if not camera.rate_limit.allows(received_s, self.parameter('max_rate_hz')):
            camera.tally.dropped('rate_limit')
            return
        frame = decode(message)
        pending = Pending(frame, message.header, received_s, time.monotonic(), transport_ms)
        gone = self._frames.put(camera.name, pending)
        if gone is not None:
            camera.tally.dropped('deactivated' if gone is pending else 'newer')

    def _close_mailbox(self) -> None:
        """Take no more images; those that wait are dropped."""
        for name in self._frames.close():
            self._camera(name).tally.dropped('deactivated')

    def _judge_stamp(
        self, camera: Camera, header: Header, now_ns: int, now_s: float
    ) -> float | None:
        """Give the image's age in ms, None if its stamp tells none; name what is odd."""
        stamp_ns = _stamp_ns(header)
        age = age_of(stamp_ns, now_ns)
        problem = age.problem or going_back(stamp_ns, camera.stamp_ns)
        if age.ms is not None:  # else a single one from the future would spoil the next
            camera.stamp_ns = stamp_ns
        if problem:
            camera.tally.odd_stamp(problem)
            if camera.may_say('odd stamp', now_s):
                self.get_logger().warning(f"an image's stamp on {camera.topic} {problem}")
        return age.ms

    def _forget_stamps(self) -> None:
        """Compare no stamps with those of before time jumped back, as when a bag begins again."""
        for camera in self._cameras:
            camera.stamp_ns = 0
        self._latency.clear()

    def _now(self) -> tuple[int, float]:
        """Read the node's clock, in ns, and the monotonic one, in s, at one moment.

        Ages are of the one and stages of the other: a thread switch in between would be lost.
        """
        apart_s = math.inf
        for _ in range(3):
            before_s = time.monotonic()
            read_ns = self.get_clock().now().nanoseconds
            after_s = time.monotonic()
            if after_s - before_s < apart_s:
                apart_s, now_ns, now_s = after_s - before_s, read_ns, after_s
            if apart_s < ONE_MOMENT_S:
                break
        return now_ns, now_s

    def _work(self, frames: LatestFrames[Pending]) -> None:
        while not frames.closed:
            batch = frames.take()
            try:
                self._segment(frames, batch)
            except Exception as error:
                # A frame that a backend fails on must not end the node: say so and go on.
                for name in batch:
                    self._give_up(self._camera(name), f'segmenting failed: {_words(error)}')
                self._problem = _words(error)

    def _give_up(self, camera: Camera, problem: str) -> None:
        """Reject a decoded image that gets no labels, or none that arrive."""
        if not self.context.ok():  # the process ends: nothing can be published, or logged
            camera.tally.dropped('abandoned')
            return
        camera.tally.rejected(problem)
        if camera.may_say('given up', time.monotonic()):
            self.get_logger().error(f'{camera.topic}: {problem}')

    def _segment(self, frames: LatestFrames[Pending], batch: dict[str, Pending]) -> None:
        """Segment and publish; what is left in `batch` after an exception had no outcome."""
        if not batch:
            return
        assert self._segmenter is not None
        wanted = {name: self._camera(name).wanted() for name in batch}
        began_s = time.monotonic()
        segmentations = self._segmenter.segment(
            [pending.frame.pixels for pending in batch.values()],
            rgb=[pending.frame.rgb for pending in batch.values()],
            confidence=any('confidence' in outputs for outputs in wanted.values()),
            min_confidence=self.parameter('min_confidence'),
            output_size=self.parameter('output_size'))
        labelled_s = time.monotonic()
        if len(segmentations) != len(batch):
            raise RuntimeError(f'{len(segmentations)} label images for {len(batch)} frames')
        self._problem = ''
        for segmentation, name in zip(segmentations, list(batch), strict=True):
            camera, pending = self._camera(name), batch.pop(name)
            if frames.abandoned:  # the node is inactive, or already active again
                camera.tally.dropped('abandoned')
                continue
            try:
                self._publish(camera, pending, segmentation, wanted[name])
            except Exception as error:  # of one camera's, which costs the others nothing
                self._give_up(camera, f'publishing failed: {_words(error)}')
                continue
            camera.tally.segmented()
            self._note_latency(pending, segmentation.timings, began_s, labelled_s)

    def _note_latency(
        self, pending: Pending, timings: Mapping[str, float], began_s: float, labelled_s: float,
    ) -> None:
        """Note the stages of an image whose labels have gone out just now. Times are monotonic."""
        now_ns, published_s = self._now()
        self._segmented_s = published_s
        stages = {
            'decode': (pending.decoded_s - pending.received_s) * 1e3,
            'wait': (began_s - pending.decoded_s) * 1e3,
            **timings,
            # All else until there were labels, thread switches included.
            'finish': (labelled_s - began_s) * 1e3 - sum(
                timings[name] for name in ('prepare', 'run')),
            'publish': (published_s - labelled_s) * 1e3,
        }
        if pending.transport_ms is not None:
            stages['transport'] = pending.transport_ms
            total_ms = age_of(_stamp_ns(pending.header), now_ns).ms
            if total_ms is not None:
                stages[TOTAL] = total_ms
        self._latency.add(published_s, stages)

    def _publish(
        self, camera: Camera, pending: Pending, seen: Segmentation, wanted: set[str]
    ) -> None:
        """Make and publish what is listened to."""
        assert self._segmenter is not None
        for output, image in make_images(
                wanted, pending.frame, pending.header, seen, self._segmenter.colorize,
                self.parameter('overlay_alpha')):
            camera.publish(output, image)
        if 'camera_info' in wanted:
            self._publish_camera_info(camera, pending.header, seen)

    def _publish_camera_info(self, camera: Camera, header: Header, seen: Segmentation) -> None:
        """Publish where the label image's pixels look; nothing rather than what does not hold."""
        make = camera_info_of_frame if seen.place.is_identity else camera_info_of_scaled
        info = camera.info  # the executor's thread may forget it
        try:
            if info is None:
                raise BadCameraInfo('none has come: start its publisher or remap the topic')
            camera.publish('camera_info', make(info, seen.place, header))
            camera.info_problem = ''
        except BadCameraInfo as error:
            camera.info_problem = f'{camera.info_topic}: {error}'
            # The first may be on its way still.
            if info is not None and camera.may_say('camera_info', time.monotonic()):
                self.get_logger().error(f'no camera_info for {camera.topic}: '
                                        f'{camera.info_problem}')

    def _meanwhile(self) -> None:
        """Report while a transition keeps the timer waiting; raise if the process is to end."""
        if self._is_ending():
            raise BackendUnavailable('ended while configuring')
        if time.monotonic() - self._reported_s >= self.parameter('diagnostics.period_s'):
            self._report()

    def _report(self) -> None:
        self._reported_s = time.monotonic()
        if self._build is not None:
            engine = compiling_status(self._build.state)
        elif self._segmenter is None and not self._is_idle(0.0):
            engine = configuring_status()
        elif self._segmenter is None:
            engine = unconfigured_status(self._problem)
        else:
            engine = engine_status(self._segmenter, self._problem)
        stale_after_s, max_rate_hz = (
            self.parameter(name) for name in ('diagnostics.stale_after_s', 'max_rate_hz'))
        self._reports.publish(Snapshot(
            now_s=self._reported_s, engine=engine, cameras=tuple(self._cameras),
            active_since_s=self._active_since_s, segmented_s=self._segmented_s,
            patience_s=stale_after_s + (2 / max_rate_hz if max_rate_hz else 0),
            latency=self._latency.quantiles(self._reported_s),
            max_latency_ms=self.parameter('diagnostics.max_latency_ms'),
            stale_after_s=stale_after_s))


def _make(checkpoint: Checkpoint, config: SegmenterConfig, cameras: int) -> Segmenter:
    """Set up the network and run it once, with a frame of each camera."""
    segmenter = Segmenter(checkpoint, config)
    try:
        height, width = segmenter.input_size
        segmenter.segment([np.zeros((height, width, 3), np.uint8)] * cameras)
    except Exception:
        segmenter.close()
        raise
    return segmenter


def _stamp_ns(header: Header) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


def _words(error: Exception) -> str:
    if isinstance(error, (LednetRosError, BadImage)):  # whose texts say all
        return str(error)
    return f'{type(error).__name__}: {first_line(error)}'


@command('segment_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('segment', SegmentNode, args)


if __name__ == '__main__':
    sys.exit(main())
