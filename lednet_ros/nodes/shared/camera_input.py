# SPDX-License-Identifier: Apache-2.0
"""
A camera whose labels are projected: its topics, what waits for partners, its newest frame.

Of ground_node and semantic_cloud_node. segment_node's subscriptions to images, raw or compressed,
are in segment/camera_io.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from lednet_ros.nodes.shared.endpoints import type_name, unmatched_publisher, wrong_publisher
from lednet_ros.nodes.shared.qos import IMAGE_QOS, subscription_qos
from lednet_ros.nodes.shared.stamp_join import StampJoin
from lednet_ros.nodes.shared.status import InputView
from lednet_ros.nodes.shared.tf import Transforms
from lednet_ros.nodes.shared.waiting import WaitingLine

INPUTS = {'label': Image, 'camera_info': CameraInfo, 'confidence': Image}


@dataclass(frozen=True)
class Seen:
    """A label image that the projection has looked at."""

    stamp: Any                                # builtin_interfaces/Time
    stamp_ns: int
    shape: tuple[int, int]                    # of its label image
    place: tuple[float, float, float] | None  # the robot's x, y and yaw in the grid's frame
    no_grid: str                              # why there is no place; '': nobody wants a grid
    says_something: bool
    figures: dict[str, object]
    transport_ms: float | None
    run_s: float

C = TypeVar('C', bound='CameraInput')


class CameraInput:
    """Used in the executor's thread alone. `inputs` are the types of its topics."""

    def __init__(self, node: Node, name: str, inputs: Mapping[str, type] = INPUTS) -> None:
        self._node = node
        self._types = inputs
        self.name = name
        prefix = f'{name}/' if name else ''
        self._topics = {input_: f'{prefix}{input_}' for input_ in inputs}
        self._qos = {input_: subscription_qos(node, type_, self._topics[input_], IMAGE_QOS)
                     for input_, type_ in inputs.items()}
        self._listened: dict[str, Subscription] = {}
        self._came_s: dict[str, float] = {}  # the last of each input, monotonic
        self.join = StampJoin()
        self.waiting: WaitingLine[Any] = WaitingLine(  # sets, for their transforms
            lambda: (time.monotonic(), node.get_clock().now().nanoseconds / 1e9))
        self.problem = ''                    # why its last frame was not projected; '': it was
        self.seen: Any = None                # the newest frame: Seen, or None
        self.is_new = False                  # it has not gone out yet

    @property
    def words(self) -> str:
        """What an error about it begins with: nothing, where there is one camera."""
        return f'{self.name}: ' if self.name else ''

    @property
    def topic(self) -> str:
        """The label images' topic."""
        return self._node.resolve_topic_name(self._topics['label'])

    @property
    def unmatched(self) -> int:
        """How many label images were given up whose partners never came."""
        return self.join.unmatched

    def listen(
        self, inputs: Collection[str], take: Callable[[Any, str, Any], None],
    ) -> None:
        """Subscribe to these inputs and to no others."""
        for input_ in set(self._listened) - set(inputs):
            self._node.destroy_subscription(self._listened.pop(input_))
        for input_ in inputs:
            if input_ not in self._listened:
                self._listened[input_] = self._node.create_subscription(
                    self._types[input_], self._topics[input_], partial(take, self, input_),
                    self._qos[input_],
                    # Of its own: rclpy's groups keep a trace of each member they ever had.
                    callback_group=MutuallyExclusiveCallbackGroup())

    def begin(self) -> None:
        """Forget what came before somebody listened."""
        self._came_s.clear()
        self.problem = ''

    def forget(self) -> int:
        """Drop what waits and what was seen; return how many label images waited for TF."""
        self.join.clear()
        self.seen = None
        self.is_new = False
        return self.waiting.clear()

    def came(self, input_: str) -> None:
        """Note that a message has come."""
        self._came_s[input_] = time.monotonic()

    def put(self, input_: str, stamp_ns: int, message: Any, inputs: Collection[str]) -> Any:
        """Take a message; return the set, by input, once it is complete."""
        self.came(input_)
        return self.join.put(input_, stamp_ns, message, inputs)

    def input_views(self, inputs: Collection[str]) -> list[InputView]:
        """Return its inputs as a report shows them."""
        now_s, node = time.monotonic(), self._node
        return [InputView(
            topic, node.count_publishers(topic),
            now_s - self._came_s[input_] if input_ in self._came_s else None,
            self._problem_of(input_, topic))
            for input_ in inputs for topic in [node.resolve_topic_name(self._topics[input_])]]

    def _problem_of(self, input_: str, topic: str) -> str:
        """Name a publisher of another type or with a QoS that cannot match; '' if none is."""
        name, listened = self._topics[input_], self._listened.get(input_)
        publishers = self._node.get_publishers_info_by_topic(name)
        return wrong_publisher(topic, type_name(self._types[input_]), name, publishers) or (
            unmatched_publisher(topic, listened.qos_profile, publishers) if listened else '')


def live(cameras: Sequence[C], stale_after_s: float) -> list[C]:
    """Return the cameras that have been seen lately, by the newest label image's stamp."""
    seen = [camera for camera in cameras if camera.seen is not None]
    newest_ns = max((camera.seen.stamp_ns for camera in seen), default=0)
    return [camera for camera in seen
            if newest_ns - camera.seen.stamp_ns <= stale_after_s * 1e9]


def absent(cameras: Sequence[CameraInput], stale_after_s: float, listens_for_long: bool) -> str:
    """Name a camera that takes no part in what goes out; '' where all do."""
    newest_ns = max((c.seen.stamp_ns for c in cameras if c.seen is not None), default=0)
    for camera in cameras:
        if camera.seen is None and len(cameras) > 1 and listens_for_long:
            return (f'{camera.words}no label image has been projected: what it looks at is '
                    f'unknown: {camera.problem or "look at its topics"}')
        if camera.seen is not None:
            behind_s = (newest_ns - camera.seen.stamp_ns) / 1e9
            if behind_s > stale_after_s:
                return (f'{camera.words}the newest label image is {behind_s:.1f} s older than '
                        "other cameras': what it looks at is unknown")
    return ''


def stampless_warning(stamp_ns: int) -> str:
    """Say so where a label image tells no time; '' if it does."""
    return '' if stamp_ns else (
        "the label images' stamps are zero: TF's newest poses are taken for theirs, and no grid "
        "remembers what they show: look at the header of the camera's driver")


def moving_grid_warning(
    grid_frame: str, robot_frame: str, decay_s: float, transforms: Transforms | None = None,
) -> str:
    """
    Say so where a grid that remembers moves with the robot; '' if it does not.

    It does in the robot's own frame, or, as `transforms` tell, in one that is fixed to it.
    """
    moves = grid_frame == robot_frame if transforms is None else (
        grid_frame not in ('', robot_frame) and transforms.is_rigid(robot_frame, grid_frame))
    return '' if not moves or not decay_s else (
        f'grid.frame is {grid_frame}, which moves with the robot: what the grid remembers moves '
        'along, so give a frame that stays, as odom, unless the robot stays where it is')


def forgetting_warning(apart_s: float) -> str:
    """Say so where frames come too rarely for a grid to remember what it saw; '' if not."""
    return '' if not apart_s else (
        f'label images come {apart_s:.1f} s apart: what the grid has seen is forgotten before it '
        'is seen again, and no ground becomes free: make grid.decay_s larger')
