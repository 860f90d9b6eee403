# SPDX-License-Identifier: Apache-2.0
"""
make demo DEPTH=1: a drawn yard through the running semantic_cloud_node, kept as pictures.

The node is a process of its own, so that all goes over DDS as on a robot; labels are the yard's
own, so that nothing but places is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from lednet_ros.common.errors import LednetRosError
from lednet_ros.demo.child_process import ChildProcess, stop_all
from lednet_ros.demo.yard import look
from lednet_ros.images.annotate import captioned_grid
from lednet_ros.images.video_writer import Album
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.nodes.shared.ros_start import init, make_node, spin_in_thread
from lednet_ros.projection import Camera, Pose
from lednet_ros.projection.birds_eye import CAPTION, birds_eye

HEIGHT, WIDTH, FOCAL = 240, 424, 230.0  # as depth cameras have them
CAMERA_HEIGHT, CAMERA_PITCH = 1.3, 0.2
FRAMES, STEP_M = 24, 0.12
REACH_M, TOP_M = 10.0, 3.0
SILENT_S = 20.0
OUTPUTS = ('points', 'grid', 'free_space')


def run(
    album: Album, check: Callable[[], None], frames: int = FRAMES, verbose: bool = False,
) -> None:
    """Run the demo and give its pictures to the album. `check` raises what ends it sooner."""
    with ExitStack() as stack:
        init([])
        yard = Yard(stack)
        child = ChildProcess('lednet_ros.nodes.cloud.cloud_node', {
            'pose_source': 'parameters', 'camera.height': CAMERA_HEIGHT,
            'camera.pitch': CAMERA_PITCH, 'max_range': 15.0}, show_lines=verbose)
        stack.callback(stop_all, [child])
        for i in range(frames):
            check()
            album.add(yard.frame(i, child), i / frames, i / 10)


class Yard:
    """Publishes what a camera in the yard sees, and draws what becomes of it."""

    def __init__(self, stack: ExitStack) -> None:
        from nav_msgs.msg import OccupancyGrid
        from rclpy.node import Node
        from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

        self._node = node = make_node(lambda: Node('yard'))
        self._labels = builtin_label_set('camvid')
        self._camera = Camera(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, HEIGHT, WIDTH)
        self._publishers = {name: node.create_publisher(type_, name, 1) for name, type_ in (
            ('label', Image), ('camera_info', CameraInfo), ('depth', Image))}
        self._came: dict[str, Any] = {}
        self._changed = threading.Condition()
        for name, type_ in zip(OUTPUTS, (PointCloud2, OccupancyGrid, LaserScan), strict=True):
            node.create_subscription(type_, f'semantic_cloud/{name}', self._take(name), 1)
        spin_in_thread(node, stack)

    def _take(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            with self._changed:
                self._came[name] = message
                self._changed.notify_all()
        return take

    def frame(self, i: int, child: ChildProcess) -> np.ndarray:
        """Send a frame and return the picture of what the node makes of it."""
        pose = Pose.of_camera(CAMERA_HEIGHT, pitch=CAMERA_PITCH, x=i * STEP_M)
        picture, labels, depth = look(self._camera, pose, self._labels)
        until_s = time.monotonic() + SILENT_S
        while True:  # best effort loses what comes before the node listens
            stamp = self._send(labels, depth)
            with self._changed:
                if self._changed.wait_for(partial(self._is_whole, stamp), 0.5):
                    return self._draw(picture, labels)
            if child.exit_code is not None or time.monotonic() > until_s:
                raise LednetRosError('semantic_cloud_node gives no answer: '
                                     f'{child.last_error() or "run it with --verbose"}')

    def _is_whole(self, stamp: Any) -> bool:
        return all(name in self._came and self._came[name].header.stamp == stamp
                   for name in OUTPUTS)

    def _send(self, labels: np.ndarray, depth: np.ndarray) -> Any:
        from sensor_msgs.msg import CameraInfo
        from std_msgs.msg import Header

        from lednet_ros.nodes.shared.image_messages import encode_image
        c = self._camera
        header = Header(frame_id='camera', stamp=self._node.get_clock().now().to_msg())
        k = [c.fx, 0.0, c.cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0]
        depths = encode_image(depth.view(np.uint8), 'mono8', header)
        depths.encoding, depths.width = '32FC1', c.width
        for name, message in (
                ('camera_info', CameraInfo(
                    header=header, height=c.height, width=c.width, k=k, r=np.eye(3).ravel(),
                    distortion_model='plumb_bob', d=[0.0] * 5,
                    p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])),
                ('depth', depths), ('label', encode_image(labels, 'mono8', header))):
            self._publishers[name].publish(message)
        return header.stamp

    def _draw(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        cloud, grid, scan = (self._came[name] for name in OUTPUTS)
        data = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
        x, y, z = data[:, :12].copy().view(np.float32).T
        colors = self._labels.palette[data[:, 16]]
        cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
        corner, bearings = grid.info.origin.position, (
            scan.angle_min + np.arange(len(scan.ranges)) * scan.angle_increment)
        ranges = np.array(scan.ranges)
        ranges[np.isinf(ranges)] = np.nan
        beams = ranges[:, None] * np.stack([np.cos(bearings), np.sin(bearings)], 1)
        scale = HEIGHT / REACH_M
        return captioned_grid([
            (picture, 'camera'), (self._labels.palette[labels], 'labels'),
            (_scatter(WIDTH / 2 - y * scale, HEIGHT - x * scale, z, colors),
             'the cloud from above'),
            (_scatter(x * WIDTH / REACH_M, HEIGHT * (0.8 - z / TOP_M * 0.7), -y, colors),
             'the cloud from the right'),
            (birds_eye(cells, (corner.x, corner.y), grid.info.resolution, REACH_M, HEIGHT, WIDTH,
                       beams), CAPTION)])


def _scatter(u: np.ndarray, v: np.ndarray, nearness: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return a picture of points, the nearest to the eye on top."""
    picture = np.full((HEIGHT, WIDTH, 3), 24, np.uint8)
    with np.errstate(invalid='ignore'):
        inside = np.flatnonzero((u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT))
    inside = inside[np.argsort(nearness[inside], kind='stable')]
    picture[v[inside].astype(int), u[inside].astype(int)] = colors[inside]
    return picture
