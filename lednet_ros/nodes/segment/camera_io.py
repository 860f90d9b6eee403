# SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its topics, who listens to them, and what became of its images."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.common.errors import in_words
from lednet_ros.nodes.segment.diagnostics import CameraStats
from lednet_ros.nodes.segment.inference_worker import QueuedFrame
from lednet_ros.nodes.segment.outputs import OUTPUTS
from lednet_ros.nodes.segment.rate_limit import RateLimit
from lednet_ros.nodes.shared.camera_info import BadCameraInfo
from lednet_ros.nodes.shared.endpoints import type_name, unmatched_publisher, wrong_publisher
from lednet_ros.nodes.shared.image_messages import BadImage, decode, size_and_encoding
from lednet_ros.nodes.shared.outputs import Outputs
from lednet_ros.nodes.shared.qos import IMAGE_QOS, subscription_qos
from lednet_ros.nodes.shared.stamps import StampMemory
from lednet_ros.segmentation.letterbox import Fit

SAY_EVERY_S = 5.0  # the same kind of complaint


class Camera:
    """Topics, counts and limits of one camera. Subscriptions are the executor's to make."""

    def __init__(self, node: LifecycleNode, name: str, transport: str) -> None:
        self._node = node
        self.name = name or 'image'
        inputs = f'{name}/' if name else ''
        self._outputs = Outputs(node, OUTPUTS, f'~/{name}' if name else '~')
        self._type = CompressedImage if transport == 'compressed' else Image
        self._argument = f'{inputs}image'  # of remaps, and of the launch file for one camera
        # Topics are made by the names as they are asked for: ROS remaps any name that it is given,
        # so that of two cameras that change places, both would be back where they were.
        self._image_name, self._info_name = self._argument, f'{inputs}camera_info'
        if transport == 'compressed':  # image_transport's way to name it
            self._image_name = f'{node.resolve_topic_name(self._argument)}/compressed'
        self.topic: str = node.resolve_topic_name(self._image_name)
        self.info_topic: str = node.resolve_topic_name(self._info_name)
        self.stats = CameraStats()
        self.stamps = StampMemory()
        self._rate_limit = RateLimit()
        self._newest_info: CameraInfo | None = None  # while someone listens to ours
        self.info_problem = ''
        self._qos: dict[str, QoSProfile] = {}  # of the two subscriptions, by name
        self._image: Subscription | None = None
        self._info: Subscription | None = None
        self._said_s: dict[str, float] = {}

    def open(self) -> None:
        """Offer the outputs. Raise ConfigError over qos_overrides that make no sense."""
        for type_, name in ((self._type, self._image_name), (CameraInfo, self._info_name)):
            self._qos[name] = subscription_qos(self._node, type_, name, IMAGE_QOS)
        self._outputs.open()

    def wanted(self) -> set[str]:
        """Return the outputs that someone listens to."""
        return set(self._outputs.wanted())

    def publish(self, output: str, message: Any) -> None:
        """Publish on one of OUTPUTS."""
        self._outputs.publish(output, message)

    def publish_camera_info(
        self, header: Header, fit: Fit, make: Callable[[CameraInfo, Fit, Header], CameraInfo]
    ) -> None:
        """Publish what `make` makes of the camera's; nothing where it raises BadCameraInfo."""
        info = self._newest_info  # the executor's thread may forget it
        try:
            if info is None:
                raise BadCameraInfo('none has come: start its publisher or remap the topic')
            self.publish('camera_info', make(info, fit, header))
            self.info_problem = ''
        except BadCameraInfo as error:
            self.info_problem = f'{self.info_topic}: {error}'
            # The first may be on its way still.
            if info is not None and self.may_say('camera_info', time.monotonic()):
                self._node.get_logger().error(
                    f'no camera_info for {self.topic}: {self.info_problem}')

    def receive(self, message: Image | CompressedImage, max_rate_hz: float) -> QueuedFrame | None:
        """Decode an image for the network; None if it is dropped or rejected, which is counted."""
        received_s = time.monotonic()
        self.stats.received(received_s)
        try:
            self.stats.looks(*size_and_encoding(message))
            transport_ms = self._judge_stamp(message.header, received_s)
            if not self._rate_limit.allows(received_s, max_rate_hz):
                self.stats.dropped('rate_limit')
                return None
            return QueuedFrame(decode(message), message.header, received_s, time.monotonic(),
                               transport_ms)
        except Exception as error:  # a decoder may raise what nobody has thought of
            problem = in_words(error, (BadImage,))
            self.stats.rejected(problem)
            if self.may_say('rejected', received_s):
                self._node.get_logger().error(f'rejected an image on {self.topic}: {problem}')
            return None

    def log_rejection(self, problem: str) -> None:
        """Log, not too often, that a decoded image gets no labels."""
        if self.may_say('given up', time.monotonic()):
            self._node.get_logger().error(f'{self.topic}: {problem}')

    @property
    def is_listening(self) -> bool:
        """Whether images can arrive."""
        return self._image is not None

    @property
    def is_listening_to_info(self) -> bool:
        """Whether CameraInfos can arrive."""
        return self._info is not None

    def listen(self, on_image: Callable[[Any], None]) -> None:
        """Subscribe to the images, if that is not so yet."""
        if self._image is None:
            self._image = self._subscribe(self._type, self._image_name, on_image)

    def listen_to_info(self) -> None:
        """Subscribe to the CameraInfo, if that is not so yet."""
        if self._info is None:
            self._info = self._subscribe(CameraInfo, self._info_name, self._on_info)

    def ignore(self) -> None:
        """Listen to the images no more."""
        if self._image is not None:
            self._node.destroy_subscription(self._image)
        self._image = None

    def ignore_info(self) -> None:
        """Listen to the CameraInfo no more."""
        if self._info is not None:
            self._node.destroy_subscription(self._info)
        self._info = self._newest_info = None
        self.info_problem = ''

    def close(self) -> None:
        """Release the topics."""
        self.ignore()
        self.ignore_info()
        self._outputs.close()

    def endpoint_problem(self) -> str:
        """Name who on these topics has another type, or a QoS that cannot match; '': nobody."""
        node = self._node
        publishers = node.get_publishers_info_by_topic(self._image_name)
        problem = wrong_publisher(self.topic, type_name(self._type), self._argument, publishers)
        if not publishers:
            packed = self._type is CompressedImage
            other_topic = (self.topic.removesuffix('/compressed') if packed
                           else f'{self.topic}/compressed')
            if node.count_publishers(other_topic):
                return (f'nobody publishes {self.topic}, but {other_topic} is published: give '
                        f'image_transport:={"raw" if packed else "compressed"}')
        if not problem and self._info is not None:
            problem = wrong_publisher(self.info_topic, type_name(CameraInfo), 'camera_info',
                                      node.get_publishers_info_by_topic(self._info_name))
        if not problem and self._image is not None:
            problem = unmatched_publisher(self.topic, self._image.qos_profile, publishers)
        return problem or self._outputs.unheard()

    def may_say(self, kind: str, now_s: float) -> bool:
        """Whether this kind of complaint was not made lately; it counts as made."""
        if now_s - self._said_s.get(kind, float('-inf')) < SAY_EVERY_S:
            return False
        self._said_s[kind] = now_s
        return True

    def _subscribe(
        self, type_: type, name: str, callback: Callable[[Any], None]
    ) -> Subscription:
        return self._node.create_subscription(
            type_, name, callback, self._qos[name],
            # Of its own: rclpy's groups keep a trace of each member they ever had.
            callback_group=MutuallyExclusiveCallbackGroup())

    def _judge_stamp(self, header: Header, now_s: float) -> float | None:
        """Return the image's age in ms, None if its stamp tells none; name what is odd."""
        age = self.stamps.judge(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec,
                                self._node.get_clock().now().nanoseconds)
        if age.problem:
            self.stats.odd_stamp(age.problem)
            if self.may_say('odd stamp', now_s):
                self._node.get_logger().warning(
                    f"an image's stamp on {self.topic} {age.problem}")
        return age.ms

    def _on_info(self, message: CameraInfo) -> None:
        self._newest_info = message
