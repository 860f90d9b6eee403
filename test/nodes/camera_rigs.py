# SPDX-License-Identifier: Apache-2.0
"""The ground and the cloud node of several cameras, in this process: what they take, and give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from test_cloud_node import CAR, FOCAL, HEIGHT, ROAD, SKY, WIDTH, depth_image, header, street

from lednet_ros.nodes.cloud import cloud_node
from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.shared import camera_rounds
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.ros_start import init

PARAMETERS = {'cameras': '[front,left]', 'pose_source': 'parameters', 'camera.front.height': '1.0',
              'camera.left.height': '1.0', 'camera.left.yaw': '1.5708', 'max_range': '8.0',
              'stale_after_s': '0.5'}
ALONE = {'cameras': "['']", 'camera.height': '1.0'}
K = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]


class Rig:
    """A node, and what it has published, by output."""

    name: ClassVar[str]          # of the node
    ahead: ClassVar[Any]         # cells of free ground before the front's camera, by its frames
    aside: ClassVar[Any]         # the same of the left's
    said_of_bad: ClassVar[str]   # begin of what is said of a frame that is bad
    asked_for: ClassVar[str]     # the method that says what is to come with each frame
    free_share: ClassVar[float]  # of these cells, at least so many are free

    def __init__(self, **parameters: str) -> None:
        init(['--ros-args', *(word for name, value in (PARAMETERS | parameters).items()
                              for word in ('-p', f'{name}:={value}'))])
        self.node = self.make()
        self.node.start()
        self.out: dict[str, list[Any]] = {name: [] for name in self.node._outputs._publishers}
        self.node._outputs._publishers = {name: SimpleNamespace(
            publish=lambda message, name=name: self.out[name].append(copy.deepcopy(message)),
            get_subscription_count=lambda: 1) for name in self.out}
        self.node._watch()

    def make(self) -> Any:
        """Return the node."""
        raise NotImplementedError

    def send(self, name: str, stamp_s: float) -> None:
        """Send a camera's frame, of free ground."""
        raise NotImplementedError

    def send_bad(self, name: str, stamp_s: float) -> None:
        """Send a frame that is rejected."""
        raise NotImplementedError

    def put(self, name: str, **messages: Any) -> None:
        """Let a camera's messages come, by input."""
        camera = next(c for c in self.node._cameras if c.name == name)
        for input_, message in messages.items():
            self.node._on_input(camera, input_, message)

    def grid(self) -> np.ndarray:
        grid = self.out['grid'][-1]
        return np.array(grid.data).reshape(grid.info.height, grid.info.width)

    def is_free(self, place: Any) -> bool:
        """Whether cells of the newest grid are free, nearly all of them."""
        return float((self.grid()[place] == 0).mean()) >= self.free_share

    def status(self) -> Any:
        """Let it report; return what it says of its view."""
        reports: list[dict[str, Any]] = []
        self.node._diagnostics = SimpleNamespace(publish=reports.append)
        self.node._report()
        return reports[0]['view']


class GroundRig(Rig):
    name = 'ground'
    ahead, aside = np.s_[98:103, 130:170], np.s_[130:170, 98:103]  # 3 to 7 m away
    said_of_bad = 'camera_info: it is for images of 161x120'
    asked_for = '_inputs'
    free_share = 1.0

    def make(self) -> Any:
        return ground_node.GroundNode()

    def send(self, name: str, stamp_s: float, labels: np.ndarray | None = None, **info: Any
             ) -> None:
        at = header(stamp_s, f'{name}_eye')
        self.put(name, camera_info=lens(at, **info),
                 label=encode_image(road() if labels is None else labels, 'mono8', at))

    def send_bad(self, name: str, stamp_s: float) -> None:
        self.send(name, stamp_s, width=WIDTH + 1)


class CloudRig(Rig):
    name = 'semantic_cloud'
    ahead, aside = np.s_[97:103, 125:145], np.s_[125:145, 97:103]  # 2.5 to 4.5 m away
    said_of_bad = ''
    asked_for = '_of_camera'
    free_share = 0.9

    def make(self) -> Any:
        return cloud_node.CloudNode()

    def send(self, name: str, stamp_s: float, depth: np.ndarray | None = None,
             labels: np.ndarray | None = None) -> None:
        at = header(stamp_s, f'{name}_eye')
        seen, as_it_is = street()
        self.put(name, camera_info=lens(at),
                 depth=depth_image(as_it_is if depth is None else depth, at),
                 label=encode_image(seen if labels is None else labels, 'mono8', at))

    def send_bad(self, name: str, stamp_s: float) -> None:
        self.send(name, stamp_s, np.full((HEIGHT // 2, WIDTH - 3), 5.0, np.float32))


def lens(at: Header, **info: Any) -> CameraInfo:
    """Return the cameras' calibration, or one that differs in what is given."""
    return CameraInfo(**{
        'header': at, 'width': WIDTH, 'height': HEIGHT, 'distortion_model': 'plumb_bob',
        'd': [0.0] * 5, 'k': K, **info})


def road(car: bool = False) -> np.ndarray:
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[61:] = ROAD
    if car:
        labels[40:80, 60:100] = CAR  # 5 m away
    return labels


@contextmanager
def starting(
    kind: type[Rig], monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Any]]:
    """Let a test start rigs, which end with it."""
    rigs: list[Rig] = []
    monkeypatch.setattr(camera_rounds, 'GATHER_S', 1e9)  # this machine may be busy

    def start(**parameters: str) -> Rig:
        rigs.append(kind(**parameters))
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.node.destroy_node()
    rclpy.try_shutdown()
