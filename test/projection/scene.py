# SPDX-License-Identifier: Apache-2.0
"""Rendered ground truth: a checkerboard ground and boxes, seen through a lens of OpenCV's.

Written without the package's own geometry: rays from cv2.undistortPoints and checked against
cv2.projectPoints, then intersected one by one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import cv2
import numpy as np

from lednet_ros.model.labels import LabelClass, LabelSet
from lednet_ros.projection import Camera, Pose, Traversability

SKY, ROAD, VERGE, BOX, WALL = range(5)
LABELS = LabelSet('scene', tuple(
    LabelClass(name, (10 * i, 200 - 20 * i, 30 * i), 'any')
    for i, name in enumerate(('sky', 'road', 'verge', 'box', 'wall'))))
TRAVERSABILITY = Traversability(LABELS, ('unknown', 'free', 'blocked', 'obstacle', 'obstacle'))
SQUARE_M = 1.0


@dataclass(frozen=True)
class Box:
    """Stands on the ground: middle, size and heading."""

    x: float
    y: float
    length: float = 1.0
    width: float = 1.0
    height: float = 1.5
    yaw: float = 0.0
    label: int = BOX
    bottom: float = 0.0  # above the ground

    def distance(self, x, y) -> np.ndarray:
        """How far points of the ground are from its outline; 0 inside."""
        dx, dy = x - self.x, y - self.y
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        a = np.maximum(np.abs(c * dx + s * dy) - self.length / 2, 0)
        b = np.maximum(np.abs(c * dy - s * dx) - self.width / 2, 0)
        return np.hypot(a, b)

    def hit(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Along each ray of (N, 3), where it meets the box; infinite where it does not."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        start = turn @ (origin - [self.x, self.y, self.bottom])
        rays = rays @ turn.T
        low = np.array([-self.length / 2, -self.width / 2, 0])
        high = np.array([self.length / 2, self.width / 2, self.height])
        with np.errstate(divide='ignore', invalid='ignore'):
            to_low, to_high = (low - start) / rays, (high - start) / rays
        near = np.minimum(to_low, to_high).max(1)
        far = np.maximum(to_low, to_high).min(1)
        return np.where((near <= far) & (near > 0), near, np.inf)


@dataclass(frozen=True)
class Scene:
    """What is rendered, and where each pixel's ray ends."""

    camera: Camera
    pose: Pose
    boxes: tuple[Box, ...] = ()
    checkered: bool = False
    labels: np.ndarray = field(init=False)  # uint8 (H, W)
    hits: np.ndarray = field(init=False)    # float64 (H, W, 3), robot's frame; infinite: sky
    which: np.ndarray = field(init=False)   # (H, W): the box, -1: none
    widest: float = field(init=False)       # cosine of the widest angle to the optical axis

    def __post_init__(self) -> None:
        c = self.camera
        rays = camera_rays(c)
        object.__setattr__(self, 'widest', (rays[:, 2] / np.linalg.norm(rays, axis=1)).min())
        rays = rays @ self.pose.rotation.T
        with np.errstate(divide='ignore', invalid='ignore'):
            along = np.where(rays[:, 2] < 0, -self.pose.origin[2] / rays[:, 2], np.inf)
            x, y = (self.pose.origin[i] + along * rays[:, i] for i in (0, 1))
            parity = (np.floor(x / SQUARE_M) + np.floor(y / SQUARE_M)) % 2
        on_ground = ROAD + (parity == 1) * (VERGE - ROAD) * self.checkered
        labels = np.where(np.isfinite(along), on_ground, SKY)
        which = np.full(len(rays), -1)
        for i, box in enumerate(self.boxes):
            to_box = box.hit(self.pose.origin, rays)
            nearer = to_box < along
            along = np.minimum(along, to_box)
            labels = np.where(nearer, box.label, labels)
            which = np.where(nearer, i, which)
        with np.errstate(invalid='ignore'):
            hits = self.pose.origin + along[:, None] * rays
        for name, value in (('labels', labels.astype(np.uint8).reshape(c.height, c.width)),
                            ('hits', hits.reshape(c.height, c.width, 3)),
                            ('which', which.reshape(c.height, c.width))):
            object.__setattr__(self, name, value)

    def sees(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether no box is between the camera and points of the ground, any shape."""
        points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
        rays = points - self.pose.origin
        blocked = np.zeros(len(rays), bool)
        for box in self.boxes:
            blocked |= box.hit(self.pose.origin, rays) < 1 - 1e-9
        return ~blocked.reshape(x.shape)


@functools.cache  # of a lens with distortion it takes longer than all else of a scene
def camera_rays(camera: Camera) -> np.ndarray:
    """Give every pixel's ray, (N, 3), by OpenCV, and make sure that it is one."""
    k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    d = np.array(camera.d)
    pixels = np.stack(np.meshgrid(np.arange(float(camera.width)),
                                  np.arange(float(camera.height))), -1).reshape(-1, 1, 2)
    if camera.model == 'equidistant':
        plane = cv2.fisheye.undistortPoints(pixels, k, d if d.size else np.zeros(4))[:, 0]
    elif d.size:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-12)
        if hasattr(cv2, 'undistortPointsIter'):
            plane = cv2.undistortPointsIter(pixels, k, d, np.eye(3), np.eye(3), criteria)[:, 0]
        else:
            plane = cv2.undistortPoints(pixels, k, d, criteria=criteria)[:, 0]
    else:
        plane = ((pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy])[:, 0]
    rays = np.column_stack([plane, np.ones(len(plane))])
    assert np.abs(opencv_pixels(camera, rays) - pixels[:, 0]).max() < 0.01
    rays.flags.writeable = False  # they are shared
    return rays


def opencv_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Project points of the camera's frame, (N, 3), by OpenCV."""
    k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    d = np.array(camera.d)
    if camera.model == 'equidistant':
        d = d if d.size else np.zeros(4)
        return cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), k, d)[0][:, 0]
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, d)[0][:, 0]


def make_camera(
    model: str = 'plumb_bob', d: tuple[float, ...] = (), height: int = 512, width: int = 1024,
    focal: float = 560.0,
) -> Camera:
    scale = width / 1024
    return Camera(focal * scale, focal * scale, width / 2 - 3.3, height / 2 + 5.1, height, width,
                  model, d)


LENSES = {
    'pinhole': make_camera(),
    'plumb_bob': make_camera(d=(-0.28, 0.08, 0.001, -0.0008, -0.01)),
    'rational': make_camera('rational_polynomial',
                            (0.3, 0.05, 0.0005, 0.0003, 0.005, 0.55, 0.12, 0.01)),
    'equidistant': make_camera('equidistant', (0.02, -0.006, 0.002, -0.0004), focal=450.0),
}
POSES = {
    'level': Pose.of_camera(1.5),
    'pitch 20': Pose.of_camera(1.5, pitch=np.radians(20)),
    'pitch 10, roll 20': Pose.of_camera(1.5, roll=np.radians(20), pitch=np.radians(10)),
    'up 5, roll -20, turned': Pose.of_camera(
        1.5, roll=np.radians(-20), pitch=np.radians(-5), yaw=np.radians(35), x=0.4, y=-0.2),
    'pitch 20, roll -20': Pose.of_camera(
        1.5, roll=np.radians(-20), pitch=np.radians(20), x=0.3, y=0.1),
}
