# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, labels and pictures of them out, diagnostics beside."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from contextlib import suppress
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import BackendUnavailable, in_words
from lednet_ros.model.checkpoint import default_checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.segment.diagnostics import (
    NodeState,
    Reports,
    engine_status,
    loading_status,
    unconfigured_status,
)
from lednet_ros.nodes.segment.inference_worker import InferenceWorker, QueuedFrame
from lednet_ros.nodes.segment.outputs import make_images
from lednet_ros.nodes.segment.parameters import PARAMETERS
from lednet_ros.nodes.shared.camera_info import camera_info_of_frame, camera_info_of_scaled
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.label_info import LATCHED, LabelInfo, make_label_info
from lednet_ros.nodes.shared.latency import Latency
from lednet_ros.nodes.shared.library_log import LibraryLog
from lednet_ros.nodes.shared.lifecycle import PatientLifecycleNode, Until, release_participant
from lednet_ros.nodes.shared.parameters import Parameters, tell_unread
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.time_jump import call_on_jump_back
from lednet_ros.segmentation import Segmentation, SegmenterConfig
from lednet_ros.segmentation.loader import NetworkLoader

SEGMENT_OPTIONS = ('min_confidence', 'output_size')  # parameters that Segmenter.segment takes
POLL_S = 0.1         # whether a transition can go on
WATCH_S = 0.2        # who listens
STOP_WITHIN_S = 1.5  # for the frame in the making, when the node is told to end
CLEAN_UP_WITHIN_S = 20.0  # for the same, when the network's memory is to be given back


class SegmentNode(PatientLifecycleNode):
    """Segments cameras' images; publishes labels, pictures of them and diagnostics."""

    # From Kilted on a shutdown destroys a node whose constructor has failed, too.
    _library_log: LibraryLog | None = None

    def __init__(self, stop: threading.Event | None = None) -> None:
        super().__init__('segment')
        self._stop = stop or threading.Event()  # set when the process is to end
        self.parameter = Parameters(self, PARAMETERS)
        self._names = camera_names(self.parameter('cameras'))  # which nobody can change later
        self._library_log = LibraryLog(self.get_logger())
        self._cameras: list[Camera] = []
        # One thread loads, runs and closes the network: CUDA keeps something for each.
        self._network = futures.ThreadPoolExecutor(1, 'network')
        self._loader: NetworkLoader | None = None    # while it is loaded
        self._worker: InferenceWorker | None = None  # when it is
        self._label_info: Publisher | None = None
        self._published_min_confidence = 0.0  # on it
        self._latency = Latency()
        self._jump_handle = call_on_jump_back(self, self._forget_stamps)
        self._active_since_s: float | None = None
        self.done = Future()        # never by itself
        self._problem = ''          # why the last transition failed
        self._reported_s = time.monotonic()
        self._reports = Reports(self.count_publishers, self.get_logger().warning)
        self._diagnostics = DiagnosticsPublisher(self)
        # By a clock of their own: reports go on while simulated time stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.parameter('diagnostics.period_s'), self._report, clock=clock)
        self._watch = self.create_timer(WATCH_S, self._listen, clock=clock)
        self._watch.cancel()  # until it is active

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do so."""
        if self.parameter('autostart'):
            self.executor.create_task(self.configure_and_activate)

    async def prepare(self) -> None:
        """Load the network; meanwhile services answer and diagnostics say how it goes."""
        with suppress(Exception):  # configuring will say it
            self._loader = loader = self._loader or self._load()
            await Until(lambda: loader.wait(0.0))

    def _load(self) -> NetworkLoader:
        """Begin to load what the parameters ask for."""
        config = SegmenterConfig(**{
            name: self.parameter(name) for name in (
                'backend', 'device', 'precision', 'input_height', 'input_width', 'fit',
                'unfamiliar_share', 'engine_cache_dir')})
        return NetworkLoader(
            self._network, self.parameter('checkpoint') or default_checkpoint(), config,
            len(self._names), self.wake)

    # Lifecycle: each transition undoes its opposite.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the network, which has run once, and offer the outputs."""
        try:
            self._loader = self._loader or self._load()
            if not self._wait(self._loader.wait):
                raise BackendUnavailable('ended while configuring')
            self._cameras = [Camera(self, name, self.parameter('image_transport'))
                             for name in self._names]
            segmenter = self._loader.result()
            self._worker = InferenceWorker(
                self._network, segmenter, self._cameras, self._publish, self._latency,
                lambda: {name: self.parameter(name) for name in SEGMENT_OPTIONS},
                lambda: not self.context.ok())
            for camera in self._cameras:
                camera.open()
            self._publish_label_info(segmenter.labels)
        except Exception as error:  # rclpy would drop it without a word
            if not self._is_ending():
                self._loader = None
                self.on_cleanup(state)
                self._problem = in_words(error)
                self.get_logger().error(f'not configured: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._loader = None
        self._problem = ''
        height, width = segmenter.input_size
        self.get_logger().info(
            f'{segmenter.checkpoint.name}: {segmenter.labels.name}, {len(segmenter.labels)} '
            f'classes, {width}x{height}, by {segmenter.backend}'
            + (f'; it {segmenter.self_check}' if segmenter.self_check else ''))
        tell_unread(self)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the cameras."""
        assert self._worker is not None
        self._worker.start()
        self._active_since_s = time.monotonic()
        try:
            self._listen()
        except Exception as error:  # rclpy would drop it without a word
            self.on_deactivate(state)
            self._problem = in_words(error)
            self.get_logger().error(f'not activated: {self._problem}')
            return TransitionCallbackReturn.FAILURE
        self._problem = ''
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
        if self._worker is not None:
            self._worker.stop(STOP_WITHIN_S)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network's memory and the outputs."""
        if not self._wait(self._wait_until_idle, CLEAN_UP_WITHIN_S):
            if not self._is_ending():
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
        worker, self._worker, self._loader = self._worker, None, None
        if worker is not None:
            try:
                worker.close()
            except Exception as error:  # a lost device; it can be tried again all the same
                self.get_logger().warning(f'closing the backend failed: {in_words(error)}')
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        if self._loader is not None:
            self._loader.cancel()
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def stop(self) -> bool:
        """End inference and loading; whether that was in time."""
        if self._loader is not None:
            self._loader.cancel()
        if self._worker is not None:
            return self._worker.stop(STOP_WITHIN_S)
        return self._wait_until_idle(STOP_WITHIN_S)

    def _wait_until_idle(self, within_s: float) -> bool:
        """Wait until the network's thread has nothing to do; whether that is so in time."""
        job = self._loader or self._worker
        return job is None or job.wait(within_s)

    def _wait(self, is_done: Callable[[float], bool], within_s: float = math.inf) -> bool:
        """Wait in a transition, reporting; False when time is up or the process is to end."""
        until_s = time.monotonic() + within_s
        while not is_done(POLL_S):
            now_s = time.monotonic()
            if now_s > until_s or self._is_ending():
                return False
            if now_s - self._reported_s >= self.parameter('diagnostics.period_s'):
                self._report()
        return True

    def _is_ending(self) -> bool:
        return self._stop.is_set() or not self.context.ok()

    def destroy_node(self) -> None:
        """Leave the graph, whole."""
        if self._library_log:
            self._library_log.close()
        super().destroy_node()
        release_participant(self)

    def _publish_label_info(self, labels: LabelSet) -> None:
        """Latch what the labels mean."""
        if LabelInfo is None:
            self.get_logger().info(
                'vision_msgs is not installed: ~/label_info is left out', once=True)
            return
        if self._label_info is None:
            self._label_info = self.create_publisher(LabelInfo, '~/label_info', LATCHED)
        self._published_min_confidence = self.parameter('min_confidence')
        self._label_info.publish(make_label_info(
            labels, self._published_min_confidence,
            Header(stamp=self.get_clock().now().to_msg())))

    def _listen(self) -> None:
        """Listen to the cameras whose outputs someone listens to; tell what has changed."""
        if (self._label_info is not None and self._worker is not None
                and self._published_min_confidence != self.parameter('min_confidence')):
            self._publish_label_info(self._worker.segmenter.labels)
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

    def _on_image(self, camera: Camera, message: Image | CompressedImage) -> None:
        queued = camera.receive(message, self.parameter('max_rate_hz'))
        if queued is not None and self._worker is not None:
            self._worker.submit(camera.name, queued)

    def _publish(
        self, name: str, queued: QueuedFrame, seen: Segmentation, outputs: set[str]
    ) -> None:
        """Make and publish what is listened to, in the network's thread."""
        assert self._worker is not None
        camera = next(camera for camera in self._cameras if camera.name == name)
        for output, image in make_images(
                outputs, queued.frame, queued.header, seen, self._worker.segmenter.colorize,
                self.parameter('overlay_alpha')):
            camera.publish(output, image)
        if 'camera_info' in outputs:
            camera.publish_camera_info(queued.header, seen.place, (
                camera_info_of_frame if seen.place.is_identity else camera_info_of_scaled))

    def _forget_stamps(self) -> None:
        """Compare no stamps with those of before time jumped back, as when a bag begins again."""
        for camera in self._cameras:
            camera.stamps.forget()
        self._latency.clear()

    def _report(self) -> None:
        self._reported_s = time.monotonic()
        loader, worker = self._loader, self._worker
        if loader is not None:
            engine = loading_status(loader.build)
        elif worker is None:
            engine = unconfigured_status(self._problem)
        else:
            engine = engine_status(worker.segmenter, self._problem or worker.problem)
        stale_after_s, max_rate_hz = (
            self.parameter(name) for name in ('diagnostics.stale_after_s', 'max_rate_hz'))
        self._diagnostics.publish(self._reports.statuses(NodeState(
            now_s=self._reported_s, engine=engine, cameras=self._cameras,
            active_since_s=self._active_since_s,
            segmented_s=worker.segmented_s if worker is not None else None,
            label_timeout_s=stale_after_s + (2 / max_rate_hz if max_rate_hz else 0),
            latency=self._latency.quantiles(self._reported_s),
            max_latency_ms=self.parameter('diagnostics.max_latency_ms'),
            stale_after_s=stale_after_s)))


@command('segment_node')
def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the process's exit code."""
    return run('segment', SegmentNode, args)


if __name__ == '__main__':
    sys.exit(main())
