# SPDX-License-Identifier: Apache-2.0
"""A camera's lens: pixels to rays and back, by the distortion models of OpenCV and ROS."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lednet_ros.common.errors import LednetRosError

EQUIDISTANT = 'equidistant'
MODELS = {'plumb_bob': (0, 4, 5), 'rational_polynomial': (0, 8, 12, 14), EQUIDISTANT: (0, 4)}
"""Names as in sensor_msgs/CameraInfo, and how many coefficients each takes."""

_NEWTON_STEPS = 20
_CLOSE = 1e-6  # of a focal length: far below a pixel


class BadCamera(LednetRosError):
    """Numbers that describe no camera."""


@dataclass(frozen=True)
class Camera:
    """A lens and its image's size; a pixel's centre is at whole numbers. Checked when made."""

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int
    model: str = 'plumb_bob'
    d: tuple[float, ...] = ()  # in OpenCV's order

    def __post_init__(self) -> None:
        if not np.isfinite([self.fx, self.fy, self.cx, self.cy, *self.d]).all():
            raise BadCamera('its numbers hold NaN or infinity: calibrate the camera')
        if self.fx <= 0 or self.fy <= 0:
            raise BadCamera('its focal length is not above 0: calibrate the camera')
        if self.height < 1 or self.width < 1:
            raise BadCamera(f'its image is {self.width}x{self.height}: give its size')
        if self.model not in MODELS:
            raise BadCamera(f'its distortion model is {self.model!r}: '
                            f'{", ".join(MODELS)} are known')
        if len(self.d) not in MODELS[self.model]:
            raise BadCamera(f'{self.model} has {len(self.d)} coefficients: '
                            f'{" or ".join(map(str, MODELS[self.model][1:]))} are known')
        if any(self.d[12:]):
            raise BadCamera('its sensor is tilted (coefficients 13 and 14): not supported, '
                            'rectify its images')

    def rays(self) -> np.ndarray:
        """
        Return every pixel's direction, float32 (H, W, 3), x right, y down, z forward, length 1.

        NaN where the distortion's polynomial has no direction for the pixel.
        """
        u, v = np.meshgrid(np.arange(self.width, dtype=float), np.arange(self.height, dtype=float))
        seen = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], -1).reshape(-1, 2)
        plane = self._undistorted(seen)
        if self.model == EQUIDISTANT:
            angle = np.hypot(*plane.T)
            scale = np.sinc(angle / np.pi)  # sin(angle) / angle
            rays = np.column_stack([plane * scale[:, None], np.cos(angle)])
        else:
            rays = np.column_stack([plane, np.ones(len(plane))])
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        return rays.reshape(self.height, self.width, 3).astype(np.float32)

    def project(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, reach: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the pixels (u, v) of points in the camera's frame; float32, any shape.

        `reach` is the largest angle, in rad, between the optical axis and a ray of the image: far
        beyond, the polynomials fold back into it. NaN there and behind the camera.
        """
        # NaN, not a warning, for what lies at the camera itself or beside it.
        with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
            if self.model == EQUIDISTANT:
                side = np.hypot(x, y)
                angle = np.arctan2(side, z)
                scale = angle / np.maximum(side, np.float32(1e-12))
                a, b = self._distorted(x * scale, y * scale)
                outside = angle > reach
            else:
                a, b = x / z, y / z
                outside = (z <= 0) | (a * a + b * b > np.float32(np.tan(reach) ** 2))
                a, b = self._distorted(a, b)
            u = a * np.float32(self.fx) + np.float32(self.cx)
            v = b * np.float32(self.fy) + np.float32(self.cy)
        u[outside] = np.nan
        return u, v

    def _distorted(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Distort points of the plane at distance 1, as OpenCV documents it.

        For an equidistant lens the plane is that of the angles. Faster by far than projectPoints,
        which is why it is written out: a gimbal moves with every frame.
        """
        if not any(self.d):
            return a, b
        r2 = a * a + b * b
        if self.model == EQUIDISTANT:
            k = [a.dtype.type(c) for c in self.d]
            radial = 1 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * k[3])))
            return a * radial, b * radial
        d = [a.dtype.type(c) for c in (*self.d, *(0.0,) * (14 - len(self.d)))]
        radial = 1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))
        if any(self.d[5:8]):
            radial /= 1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7]))
        ab2 = 2 * a * b
        return (a * radial + d[2] * ab2 + d[3] * (r2 + 2 * a * a) + r2 * (d[8] + r2 * d[9]),
                b * radial + d[2] * (r2 + 2 * b * b) + d[3] * ab2 + r2 * (d[10] + r2 * d[11]))

    def _undistorted(self, seen: np.ndarray) -> np.ndarray:
        """Turn distorted (N, 2) around: OpenCV's answer, made exact by Newton's method."""
        if not any(self.d):
            return seen
        eye = np.eye(3)
        if self.model == EQUIDISTANT:
            tangents = cv2.fisheye.undistortPoints(seen[:, None], eye, np.array(self.d))[:, 0]
            length = np.hypot(*tangents.T)
            plane = tangents * (np.arctan(length) / np.maximum(length, 1e-12))[:, None]
        else:
            plane = cv2.undistortPoints(seen[:, None], eye, np.array(self.d))[:, 0]
        plane = plane.astype(float)
        # Where OpenCV gave up, from the pixel itself.
        lost = ~np.isfinite(plane).all(1) | (np.abs(plane) > 10).any(1)
        plane[lost] = seen[lost]
        x, y = plane.T.copy()
        h = 1e-6
        with np.errstate(all='ignore'):
            for _ in range(_NEWTON_STEPS):
                fx, fy = self._distorted(x, y)
                fx_x, fy_x = ((p - q) / h for p, q in zip(
                    self._distorted(x + h, y), (fx, fy), strict=True))
                fx_y, fy_y = ((p - q) / h for p, q in zip(
                    self._distorted(x, y + h), (fx, fy), strict=True))
                det = fx_x * fy_y - fx_y * fy_x
                dx, dy = fx - seen[:, 0], fy - seen[:, 1]
                is_done = (np.hypot(dx, dy) < _CLOSE) & (det > 0) & (fx_x + fy_y > 0)
                if is_done.all():
                    break
                x = x - (fy_y * dx - fx_y * dy) / det
                y = y - (fx_x * dy - fy_x * dx) / det
        plane = np.column_stack([x, y])
        plane[~is_done] = np.nan  # beyond the fold: no direction, or two
        return plane
