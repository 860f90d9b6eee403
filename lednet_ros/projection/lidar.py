# SPDX-License-Identifier: Apache-2.0
"""Clouds that know nothing of pixels, a LiDAR's above all, painted by a label image."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.projection.camera import Camera
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.view import reach_of

# A point is hidden where something nearer is both above and below it, no farther off than
# neighbours in a scan are. Below alone will not do: so lies all ground that is seen at an angle.
_NEARER, _NEARER_M = 0.05, 0.3  # by which something has to be nearer: a part of the distance, in m
_BLOCKS = 4        # to the mean distance between points in view: the blocks of the nearest depths
_REACH = 6         # blocks up and down: half as much again as that distance, for rings lie far
_BESIDE = 1        # blocks to both sides: points of a ring lie close


class Painted(NamedTuple):
    """What a label image says of points, each array (N,)."""

    labels: np.ndarray             # uint8: 255 unlabelled
    confidence: np.ndarray | None  # uint8
    beside: np.ndarray             # bool: no pixel looks there


class Painter:
    """Paints points by the label images of one lens."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        rays = camera.rays()
        self._reach = reach_of(rays.reshape(-1, 3), camera.model)

    def paint(
        self, points: np.ndarray, pose: Pose, labels: np.ndarray,
        confidence: np.ndarray | None = None, leave_out_hidden: bool = True, border: int = 0,
    ) -> Painted:
        """
        Return labels and confidences of points: float32 (3, N), in m.

        `pose` is the camera's in the points' frame. What no pixel sees is 255 with confidence 0:
        beside the image, behind the camera, NaN, hidden by something nearer, and within `border`
        pixels of where classes meet, where a point's class is a matter of chance.
        """
        painted = np.full(points.shape[1], UNLABELLED, np.uint8)
        sure = None if confidence is None else np.zeros_like(painted)
        which, u, v, depth = self._in_view(points, pose)
        beside = np.ones(points.shape[1], bool)
        beside[which] = False
        if not which.size:
            return Painted(painted, sure, beside)
        columns, rows = (np.rint(part).astype(np.intp) for part in (u, v))
        kept = np.ones(which.size, bool)
        if leave_out_hidden:
            kept &= ~_hidden(u, v, depth, *labels.shape)
        if border:
            kept &= ~_where_classes_meet(labels, border)[rows, columns]
        which, rows, columns = which[kept], rows[kept], columns[kept]
        painted[which] = labels[rows, columns]
        if sure is not None and confidence is not None:
            sure[which] = confidence[rows, columns]
        return Painted(painted, sure, beside)

    def _in_view(self, points: np.ndarray, pose: Pose) -> tuple[np.ndarray, ...]:
        """Return which points lie in the image, and their u, v and distance along the axis."""
        x, y, z = pose.points_back(points)
        with np.errstate(invalid='ignore'):  # points that are none
            ahead = np.flatnonzero((z > 0) & np.isfinite(x) & np.isfinite(y))
        x, y, z = x[ahead], y[ahead], z[ahead]
        u, v = self.camera.project(x, y, z, self._reach)
        seen = ((u > -0.5) & (u < self.camera.width - 0.5)
                & (v > -0.5) & (v < self.camera.height - 0.5))
        return ahead[seen], u[seen], v[seen], z[seen]


def _hidden(u: np.ndarray, v: np.ndarray, depth: np.ndarray, height: int, width: int,
            ) -> np.ndarray:
    """Return which points in view lie behind something nearer, bool (N,)."""
    block = max(1.0, np.sqrt(height * width / len(u)) / _BLOCKS)
    rows, columns = (((part + 0.5) / block).astype(np.intp) for part in (v, u))
    nearest = np.full((int(height / block) + 1, int(width / block) + 1), np.inf, np.float32)
    np.minimum.at(nearest.reshape(-1), rows * nearest.shape[1] + columns, depth)
    limit = (depth - np.float32(_NEARER_M)) / np.float32(1 + _NEARER)
    hidden = np.ones(len(u), bool)
    for above in (True, False):
        hidden &= _nearest_beside(nearest, above)[rows, columns] < limit
    return hidden


def _nearest_beside(nearest: np.ndarray, above: bool) -> np.ndarray:
    """Return the least of the blocks above, or below, each block; infinite where none is."""
    window = np.zeros((2 * _REACH + 1, 2 * _BESIDE + 1), np.uint8)
    window[:_REACH if above else None] = 1
    if not above:
        window[:_REACH + 1] = 0
    return cv2.erode(nearest, window, borderType=cv2.BORDER_CONSTANT, borderValue=float('inf'))


def _where_classes_meet(labels: np.ndarray, border: int) -> np.ndarray:
    window = np.ones((2 * border + 1,) * 2, np.uint8)
    return cv2.dilate(labels, window) != cv2.erode(labels, window)
