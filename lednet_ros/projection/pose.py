# SPDX-License-Identifier: Apache-2.0
"""Where a camera is above the ground and where it looks: frames as in REP 103."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin

import numpy as np

# A camera's optical frame (x right, y down, z forward) in its body frame (x forward, z up).
_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Pose:
    """
    A frame in another: `rotation` takes its vectors there, `origin` is where it is, in m.

    Of a camera: its optical frame in the robot's, which lies on the ground (z = 0) and has x
    forward, y left and z up.
    """

    rotation: np.ndarray  # float64 (3, 3)
    origin: np.ndarray    # float64 (3,)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Pose) and np.array_equal(self.rotation, other.rotation)
                and np.array_equal(self.origin, other.origin))

    __hash__ = None  # type: ignore[assignment]

    @property
    def yaw(self) -> float:
        """The heading of its x axis, in rad, seen from above."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    def of(self, other: Pose) -> Pose:
        """Return the pose of `other` in this frame, where both are in the same one."""
        return Pose(self.rotation.T @ other.rotation,
                    self.rotation.T @ (other.origin - self.origin))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Return where points are in the other frame, float32 (3, N), of float32 (3, N)."""
        return _turned(self.rotation, points, self.origin)

    def points_back(self, points: np.ndarray) -> np.ndarray:
        """Return where points of the other frame are in this one, float32 (3, N)."""
        return _turned(self.rotation.T, points, -self.rotation.T @ self.origin)

    @classmethod
    def of_camera(
        cls, height: float, roll: float = 0.0, pitch: float = 0.0, yaw: float = 0.0,
        x: float = 0.0, y: float = 0.0,
    ) -> Pose:
        """Make a camera's pose, in m and rad about fixed axes: pitch above 0 looks down."""
        return cls(_rotation(roll, pitch, yaw) @ _OPTICAL, np.array([x, y, height]))

    @classmethod
    def from_quaternion(cls, xyzw: Sequence[float], origin: Sequence[float]) -> Pose:
        """Make a pose of what TF says. Its quaternion need not have length 1; NaN if it is 0."""
        with np.errstate(invalid='ignore'):
            x, y, z, w = np.asarray(xyzw, float) / np.linalg.norm(xyzw)
        return cls(np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]),
            np.asarray(origin, float))


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    about_x = np.array([[1, 0, 0], [0, cos(roll), -sin(roll)], [0, sin(roll), cos(roll)]])
    about_y = np.array([[cos(pitch), 0, sin(pitch)], [0, 1, 0], [-sin(pitch), 0, cos(pitch)]])
    about_z = np.array([[cos(yaw), -sin(yaw), 0], [sin(yaw), cos(yaw), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _turned(rotation: np.ndarray, points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """
    Return rotation @ points + start, float32 (3, N).

    Not by BLAS: OpenBLAS's other threads wait busily for some 20 ms after each large product.
    """
    x, y, z = points
    turned = np.empty((3, x.size), np.float32)
    with np.errstate(invalid='ignore', over='ignore'):  # points that are none
        for out, (to_x, to_y, to_z), here in zip(
                turned, rotation.astype(np.float32), start.astype(np.float32), strict=True):
            np.multiply(x, to_x, out=out)
            out += y * to_y
            out += z * to_z
            out += here
    return turned
