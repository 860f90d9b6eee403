# SPDX-License-Identifier: Apache-2.0
"""Every pixel's point on the ground: where its ground is, where its obstacle stands, or NaN."""

from __future__ import annotations

import cv2
import numpy as np

from lednet_ros.model.labels import LabelSet
from lednet_ros.projection.contacts import Contacts
from lednet_ros.projection.traversability import OUT
from lednet_ros.projection.view import View


class GroundPoints:
    """Makes organised points of images of codes, of one view. What it gives it uses again."""

    def __init__(self, view: View, contacts: Contacts, labels: LabelSet) -> None:
        self._view = view
        self._contacts = contacts
        self._pixels = contacts.map_of_pixels()
        x, y, z = np.moveaxis(view.directions, 2, 0)
        side = np.hypot(x, y)
        with np.errstate(divide='ignore', invalid='ignore'):
            ranges = np.where(z < 0, view.height * side / -z, np.nan)
            ranges[(ranges < view.min_range) | (ranges > view.max_range)] = np.nan
            self._cos, self._sin = (
                np.where(side > 0, axis / side, 0).astype(np.float32) for axis in (x, y))
        self._ground = np.ascontiguousarray(ranges, np.float32)
        self._colors = packed_colors(labels)
        shape = self._ground.shape
        self._entries = np.empty(shape, np.int16)
        self._index = np.empty(shape, np.intp)
        self._mask = np.empty(shape, np.uint8)
        self._range, self._x, self._y, self._z, self._color = np.empty((5, *shape), np.float32)

    def make(self, labels: np.ndarray, codes: np.ndarray, points: np.ndarray) -> None:
        """
        Fill `points`, float32 (H, W, 4): x, y and z in the robot's frame and colour.

        `contacts` has looked at `codes`. Ground lies where it is seen; an obstacle's pixels all
        lie where it stands. NaN in x, y and z: above the horizon, out of range, unknown, and
        obstacles whose foot is hidden. Colours are as RViz and PCL want 'rgb'.
        """
        self._contacts.of_pixels(self._pixels, codes, self._entries, self._mask)
        np.copyto(self._index, self._entries)  # else it is copied to new memory
        ranges = self._contacts.ranges(self._index, self._range)
        np.less(codes, OUT, out=self._mask.view(bool))
        cv2.copyTo(self._ground, self._mask, ranges)
        np.multiply(ranges, self._cos, out=self._x)
        np.multiply(ranges, self._sin, out=self._y)
        self._x += self._view.x
        self._y += self._view.y
        np.multiply(ranges, 0, out=self._z)
        cv2.LUT(labels, self._colors, self._color)
        cv2.merge((self._x, self._y, self._z, self._color), points)


def packed_colors(labels: LabelSet) -> np.ndarray:
    """Return every label's colour as the bits 0x00RRGGBB of a float32, (256,)."""
    red, green, blue = labels.palette.astype(np.uint32).T
    return (red << 16 | green << 8 | blue).view(np.float32)
