# SPDX-License-Identifier: Apache-2.0
"""Points in space with the label, the confidence and the code of the pixel that sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lednet_ros.model.labels import UNLABELLED, LabelSet
from lednet_ros.projection.points import packed_colors
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import BLOCKED, OBSTACLE, RANK

POINT_FLOATS = 5  # x, y, z, rgb, and one of bytes: label, confidence and two of padding


@dataclass(frozen=True)
class DepthImage:
    """What points were made of, one for each pixel."""

    depth: np.ndarray  # float32 (H, W), in m along the optical axis; NaN: none
    fx: float          # the focal lengths, in pixels
    fy: float


@dataclass(frozen=True)
class LabelledPoints:
    """
    What one sensor has seen at one moment, in the output's frame; planes of one shape.

    An image's (H, W) where the points are organised, else (1, N). NaN in x, y and z: no point.
    """

    x: np.ndarray           # float32, in m, as y and z
    y: np.ndarray
    z: np.ndarray
    labels: np.ndarray      # uint8, 255: unlabelled
    codes: np.ndarray       # uint8, of traversability
    origin: np.ndarray      # float64 (3,): where the sensor is
    confidence: np.ndarray | None = None  # uint8
    image: DepthImage | None = None       # of which they are made; None: of none
    beside: np.ndarray | None = None      # bool: the points that no pixel looks at; None: none

    @property
    def shape(self) -> tuple[int, int]:
        """Return the planes' shape."""
        return self.x.shape

    def every(self, stride: int) -> LabelledPoints:
        """Return each so many-th row and column, of no image then."""
        if stride == 1:
            return self
        some = np.s_[::stride, ::stride]
        x, y, z, labels, codes = (np.ascontiguousarray(plane[some]) for plane in (
            self.x, self.y, self.z, self.labels, self.codes))
        confidence = None if self.confidence is None else np.ascontiguousarray(
            self.confidence[some])
        return LabelledPoints(x, y, z, labels, codes, self.origin, confidence)

    def moved(self, pose: Pose) -> LabelledPoints:
        """Return them in another frame, in which `pose` is theirs."""
        x, y, z = pose.points(np.stack([plane.ravel() for plane in (self.x, self.y, self.z)]))
        return replace(
            self, x=x.reshape(self.shape), y=y.reshape(self.shape), z=z.reshape(self.shape),
            origin=pose.rotation @ self.origin + pose.origin)

    def fill(self, labels: LabelSet, out: np.ndarray) -> None:
        """
        Fill `out`, float32 (..., 5): x, y, z, the class's colour, and bytes.

        The bytes are label, confidence (0 where it is not known) and two that are 0.
        """
        colors = cv2.LUT(self.labels, packed_colors(labels))
        none = np.zeros_like(self.labels)
        confidence = none if self.confidence is None else self.confidence
        tail = cv2.merge((self.labels, confidence, none, none))
        cv2.merge((self.x, self.y, self.z, colors, tail.view(np.float32)), out)


def fused(seen: Sequence[LabelledPoints]) -> LabelledPoints:
    """
    Return the same points, labelled by several cameras, as the last one has them.

    Each has the label that says most: what blocks the way before free ground, and that before
    what is not known.
    """
    best = seen[-1]
    for one in seen[:-1]:
        is_better = _says(one) > _says(best)
        labels, codes = (np.where(is_better, ours, theirs) for ours, theirs in (
            (one.labels, best.labels), (one.codes, best.codes)))
        confidence = best.confidence
        if confidence is not None and one.confidence is not None:
            confidence = np.where(is_better, one.confidence, confidence)
        beside = best.beside
        if beside is not None and one.beside is not None:
            beside = beside & one.beside
        best = replace(best, labels=labels, codes=codes, confidence=confidence, beside=beside)
    return best


def _says(points: LabelledPoints) -> np.ndarray:
    """Return how much each point's label says of the way."""
    rank = 2 * np.where(points.codes >= OBSTACLE, RANK[BLOCKED], RANK[points.codes])
    return rank + (points.labels != UNLABELLED)
