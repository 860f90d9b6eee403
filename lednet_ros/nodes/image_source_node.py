# SPDX-License-Identifier: Apache-2.0
"""Plays a directory of images, a video or a webcam as a camera: `image` and `camera_info`."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import yaml
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, first_line, printable
from lednet_ros.common.paths import expanded
from lednet_ros.common.yaml_file import load_yaml, read_text
from lednet_ros.images.encodings import MAX_SIDE
from lednet_ros.images.sources import (
    FrameSource,
    Part,
    open_source,
    quieten_opencv,
    repeated,
    resized,
)
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.parameters import (
    Param,
    Parameters,
    frame_fault,
    tell_unread,
    value_of,
)
from lednet_ros.nodes.shared.process import run
from lednet_ros.nodes.shared.qos import make_publisher

PARAMETERS = (
    Param('source', '',
          'What is played: a directory of images, a video file, or the number of a webcam.'),
    Param('rate_hz', 0.0,
          "Frames published in a second. 0 takes the video's or webcam's own rate, and 10 for a "
          'directory of images.', between=(0.0, 1000.0)),
    Param('loop', True,
          'Start again after the last frame. If it is false, the node ends there.'),
    Param('first_frame', 0,
          'First frame of a video or directory that is played, counted from 0.',
          between=(0, 2**31 - 1)),
    Param('last_frame', -1,
          'Last frame that is played, counted from 0. -1 plays to the end.',
          between=(-1, 2**31 - 1)),
    Param('frame_id', 'camera', "The camera's coordinate frame in the header of each message.",
          judge=frame_fault),
    Param('height', 0,
          'Height of the published images in pixels. 0, together with width 0, keeps the size of '
          'the source.', between=(0, MAX_SIDE)),
    Param('width', 0,
          'Width of the published images in pixels. 0, together with height 0, keeps the size of '
          'the source.', between=(0, MAX_SIDE)),
    Param('camera_info_file', '',
          'YAML file of camera_calibration to publish as CameraInfo. If it is empty, a pinhole '
          'camera is published.'),
    Param('horizontal_fov_deg', 60.0,
          'Horizontal field of view of the pinhole camera in degrees.', between=(1.0, 179.0)),
    Param('wait_for_subscriber', False,
          'Hold the first frame back until the image topic has a subscriber.'),
)

POLL_S = 0.02    # for the first subscriber; Humble has no event for it
SETTLE_S = 0.5   # the subscriber may learn of us a moment after we learn of it
ACKED_S = 0.5    # for the last message to arrive, on each topic
STOPPED_S = 1.0  # for the worker to notice the end; a webcam's read may block for 10 s


class ImageSourceNode(Node):
    """A camera made of a file. A thread of its own plays; `done` says when it ended, and how."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__('image_source')
        self._settings = _declared(self)
        self._size = self._settings['height'], self._settings['width']
        if (self._size[0] == 0) != (self._size[1] == 0):
            raise ConfigError(f'height {self._size[0]} and width {self._size[1]}: only one of '
                              'them is given: give both, or neither')
        self._part = Part(self._settings['first_frame'], self._settings['last_frame'])
        path = self._settings['camera_info_file']
        self._calibration = load_camera_info(path) if path else None
        self._infos: dict[tuple[int, int], CameraInfo] = {}
        self._images, self._camera_infos = (
            make_publisher(self, type_, topic, QoSProfile(depth=1))
            for type_, topic in ((Image, 'image'), (CameraInfo, 'camera_info')))
        self._stop = stop
        self.done = Future()
        self._worker = threading.Thread(target=self._run, name='play', daemon=True)

    def start(self) -> None:
        """Begin to play."""
        tell_unread(self)
        self._worker.start()

    def stop(self) -> bool:
        """End playing; tell whether the thread is gone."""
        self._stop.set()
        if self._worker.ident is not None:
            self._worker.join(STOPPED_S)
        return not self._worker.is_alive()

    def _run(self) -> None:
        try:
            self._play()
            self.done.set_result(None)
        except Exception as error:
            if self._is_ending():
                self.done.set_result(None)  # once the context is shut down, publishing fails
            else:
                self.done.set_exception(error)

    def _play(self) -> None:
        settings = self._settings
        source = open_source(str(settings['source']), self._part,
                             lambda line: self.get_logger().warning(printable(line)), self._stop)
        rate_hz = settings['rate_hz'] or source.rate_hz
        frames = self._frames(source)
        if not source.is_live:  # read ahead: what cannot be played is told before anything else
            frames = chain(list(islice(frames, 1)), frames)
        if settings['wait_for_subscriber']:
            self._wait_for_subscriber()
        if self._is_ending():
            return
        pace = f'at {rate_hz:g} Hz' if rate_hz else 'as it comes'
        self.get_logger().info(f'playing {settings["source"]} on {self._images.topic_name} {pace}')
        for frame in self._paced(frames, 1.0 / rate_hz if rate_hz else 0.0, source.is_live):
            self._publish(frame)
        if not self._is_ending():
            for publisher in (self._images, self._camera_infos):
                publisher.wait_for_all_acked(Duration(seconds=ACKED_S))

    def _is_ending(self) -> bool:
        return self._stop.is_set() or not self.context.ok()

    def _frames(self, source: FrameSource) -> Iterator[np.ndarray]:
        def once() -> Iterator[np.ndarray]:
            frames = source.frames()
            return resized(frames, *self._size) if all(self._size) else frames

        return repeated(once) if self._settings['loop'] and not source.is_live else once()

    def _paced(
        self, frames: Iterator[np.ndarray], period_s: float, is_live: bool,
    ) -> Iterator[np.ndarray]:
        """Yield frames at even times; one that is late comes at once, and no two in a burst."""
        due_s = time.monotonic()
        for frame in frames:
            ahead_s = due_s - time.monotonic()
            if is_live and ahead_s > 0.3 * period_s:
                continue  # a camera is never made to wait: its frames would queue and get old
            if self._stop.wait(0.0 if is_live else max(0.0, ahead_s)):
                return
            yield frame
            due_s += period_s
            now_s = time.monotonic()
            if due_s < now_s:
                due_s = now_s if is_live else now_s + period_s

    def _publish(self, frame: np.ndarray) -> None:
        size = frame.shape[0], frame.shape[1]
        if size not in self._infos:
            self._infos[size] = (
                scaled(self._calibration, *size) if self._calibration
                else pinhole(*size, self._settings['horizontal_fov_deg']))
        header = Header(stamp=self.get_clock().now().to_msg(),
                        frame_id=self._settings['frame_id'])
        info = self._infos[size]
        info.header = header
        self._camera_infos.publish(info)  # first: who needs it for the image has it then
        self._images.publish(encode_image(frame, 'bgr8', header))

    def _wait_for_subscriber(self) -> None:
        self.get_logger().info(f'waiting for a subscriber to {self._images.topic_name}')
        while self._images.get_subscription_count() == 0:
            if self._stop.wait(POLL_S):
                return
        self._stop.wait(SETTLE_S)


def pinhole(height: int, width: int, horizontal_fov_deg: float) -> CameraInfo:
    """Describe a camera without distortion that looks through the middle of its image."""
    focal = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    x, y = width / 2, height / 2
    return CameraInfo(
        height=height, width=width, distortion_model='plumb_bob', d=[0.0] * 5,
        k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0])


def load_camera_info(path: str) -> CameraInfo:
    """Read the YAML that camera_calibration writes. Raise ConfigError."""
    try:
        entries = load_yaml(read_text(expanded(path)))
        info = CameraInfo(
            height=int(entries['image_height']), width=int(entries['image_width']),
            distortion_model=str(entries['distortion_model']),
            d=_numbers(entries, 'distortion_coefficients'),
            k=_numbers(entries, 'camera_matrix', 9),
            r=_numbers(entries, 'rectification_matrix', 9),
            p=_numbers(entries, 'projection_matrix', 12))
        if not (0 < info.height <= MAX_SIDE and 0 < info.width <= MAX_SIDE):
            raise ValueError(f'its image is {info.width}x{info.height}, not of 1 to {MAX_SIDE} '
                             'pixels a side')
    # The message's own checks are assertions.
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError,
            AssertionError) as error:
        reason = f'{error} is missing' if isinstance(error, KeyError) else (
            getattr(error, 'strerror', None) or first_line(error))
        raise ConfigError(f'camera_info_file {path}: {reason}: give a file that '
                          "camera_calibration wrote, or '' for a pinhole camera") from error
    return info


def _numbers(entries: Any, key: str, count: int | None = None) -> list[float]:
    numbers = [float(number) for number in entries[key]['data']]
    if count is not None and len(numbers) != count:
        raise ValueError(f'{key} has {len(numbers)} numbers, not {count}')
    if not np.isfinite(numbers).all():
        raise ValueError(f'{key} holds NaN or infinity')
    return numbers


def scaled(info: CameraInfo, height: int, width: int) -> CameraInfo:
    """Describe the same camera after its image was resized, by the rule of image_proc."""
    y, x = height / info.height, width / info.width
    return CameraInfo(
        height=height, width=width, distortion_model=info.distortion_model, d=info.d, r=info.r,
        k=np.array(info.k) * np.repeat([x, y, 1.0], 3),
        p=np.array(info.p) * np.repeat([x, y, 1.0], 4))


def _declared(node: Node) -> dict[str, Any]:
    """Declare the parameters; give their values, which are final."""
    source, *others = PARAMETERS
    descriptor = source.descriptor()
    descriptor.dynamic_typing = True  # `-p source:=0` arrives as a number
    node.declare_parameter(source.name, source.default, descriptor)
    Parameters(node, others)
    return {row.name: value_of(node, row) for row in PARAMETERS}


@command('image_source_node')
def main(args: Sequence[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM: 0; or until an error, in one line: 1."""
    quieten_opencv()
    return run('image_source', ImageSourceNode, args)


if __name__ == '__main__':
    sys.exit(main())
