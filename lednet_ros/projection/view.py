# SPDX-License-Identifier: Apache-2.0
"""A camera at a pose over flat ground: which pixel sees which direction of the world."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from lednet_ros.common.errors import LednetRosError
from lednet_ros.projection.camera import EQUIDISTANT, Camera
from lednet_ros.projection.pose import Pose

NOWHERE = -9  # a map's entry that no image holds
_NO_FRACTIONS = np.empty(0, np.uint16)  # of pixels, as maps are for the nearest one


class NoGround(LednetRosError):
    """The camera sees no ground; the text says why."""


class View:
    """
    Made anew when camera or pose change. Ground ranges are from the point below the camera.

    Raise NoGround when no ground between `min_range` and `max_range`, in m, is in view.
    """

    def __init__(
        self, camera: Camera, rays: np.ndarray, pose: Pose, min_range: float, max_range: float,
    ) -> None:
        self.camera = camera
        self.pose = pose
        self.min_range = min_range
        self.max_range = max_range
        self.x, self.y, self.height = map(float, pose.origin)
        if not (np.isfinite(pose.origin).all() and np.isfinite(pose.rotation).all()):
            raise NoGround("the camera's pose holds NaN or infinity: look at what publishes it")
        if self.height <= 0:
            raise NoGround(f"the camera's height above the ground is {self.height:g} m: give one "
                           'above 0')
        self._rays = rays
        border = np.concatenate([rays[0], rays[-1], rays[:, 0], rays[:, -1]])
        self._reach = reach_of(border if np.isfinite(border).any() else rays.reshape(-1, 3),
                             camera.model)
        self.pixel_rad = 2.0 / (camera.fx + camera.fy)  # of one pixel, at the image's middle
        ranges = self._some_ranges()
        inside = ranges[(ranges >= min_range) & (ranges <= max_range)]
        if not inside.size:
            raise NoGround(self._why_no_ground(ranges))
        self.nearest, self.farthest = float(inside.min()), float(inside.max())

    @cached_property
    def directions(self) -> np.ndarray:
        """Every pixel's direction in the robot's frame, float32 (H, W, 3); NaN where none."""
        return self._rays @ self.pose.rotation.T.astype(np.float32)

    @cached_property
    def some_directions(self) -> np.ndarray:
        """The border's and about 10,000 other pixels' directions, (N, 3), those that are known."""
        h, w = self._rays.shape[:2]
        rows, columns = (np.unique(np.r_[np.arange(0, n, max(1, n // 100)), n - 1])
                         for n in (h, w))
        rays = np.concatenate([
            self._rays[rows[:, None], columns].reshape(-1, 3), self._rays[0], self._rays[-1],
            self._rays[:, 0], self._rays[:, -1]])
        rays = rays[np.isfinite(rays[:, 0])]
        return rays @ self.pose.rotation.T.astype(np.float32)

    def map_of_ground(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Return the pixels that see ground points of the robot's frame, as `map_of` does.

        Points nearer than `min_range` or farther than `max_range` are seen by none.
        """
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        far2 = dx * dx + dy * dy
        outside = (far2 < self.min_range ** 2) | (far2 > self.max_range ** 2 * (1 + 1e-6))
        return self.map_of(dx, dy, np.full_like(dx, -self.height), outside)

    def map_of(
        self, dx: np.ndarray, dy: np.ndarray, dz: np.ndarray, outside: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Return the pixels that see directions of the robot's frame: a map for cv2.remap.

        Directions are float32 (A, B), of any length; the map is int16 (A, B, 2) for
        INTER_NEAREST, with NOWHERE for what is beside the image or `outside`.
        """
        r = self.pose.rotation.astype(np.float32)
        u, v = self.camera.project(
            r[0, 0] * dx + r[1, 0] * dy + r[2, 0] * dz,
            r[0, 1] * dx + r[1, 1] * dy + r[2, 1] * dz,
            r[0, 2] * dx + r[1, 2] * dy + r[2, 2] * dz, self._reach)
        # NaN compares as False.
        seen = ((u > -0.5) & (u < self.camera.width - 0.5)
                & (v > -0.5) & (v < self.camera.height - 0.5))
        if outside is not None:
            seen &= ~outside
        u[~seen] = v[~seen] = NOWHERE
        return cv2.convertMaps(u, v, cv2.CV_16SC2, nninterpolation=True)[0]

    def _some_ranges(self) -> np.ndarray:
        down = self.some_directions
        down = down[down[:, 2] < 0]
        return self.height * np.hypot(down[:, 0], down[:, 1]) / -down[:, 2]

    def _why_no_ground(self, ranges: np.ndarray) -> str:
        if not ranges.size or ranges.min() > self.max_range:
            nearest = f' (the nearest is {ranges.min():.0f} m away)' if ranges.size else ''
            return (f'the camera looks at the sky: no ground within {self.max_range:g} m is in '
                    f'view{nearest}: check its pose')
        return (f'all ground in view is nearer than min_range, {self.min_range:g} m: make it '
                "less, or check the camera's pose")


def resample(image: np.ndarray, map_: np.ndarray, out: np.ndarray, outside: int) -> None:
    """Fill `out` with an image's pixels by a map of `View.map_of`; `outside` where it has none."""
    cv2.remap(image, map_, _NO_FRACTIONS, cv2.INTER_NEAREST, out, cv2.BORDER_CONSTANT, outside)


def reach_of(rays: np.ndarray, model: str) -> float:
    """Return the largest angle between a ray and the optical axis, a thousandth more."""
    angle = float(np.arccos(np.clip(np.nanmin(rays[:, 2]), -1.0, 1.0))) * 1.001
    return angle if model == EQUIDISTANT else min(angle, np.pi / 2 - 1e-3)
