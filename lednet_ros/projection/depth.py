# SPDX-License-Identifier: Apache-2.0
"""Depth images (REP 118) to points: metres along the optical axis, edges left out."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np

from lednet_ros.common.errors import DataError
from lednet_ros.projection.camera import Camera
from lednet_ros.projection.labelled_points import DepthImage, LabelledPoints
from lednet_ros.projection.pixel_codes import PixelCodes
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import FREE, Traversability

_NO_GAPS_BEFORE = 0.6    # of the distance at which two pixels of level ground are as far apart
_ENOUGH = 8              # points along a cell's side
_MOST_BETWEEN = 16       # points put between two rows of free ground
_MOST_APART = 2.5        # two rows of free ground, to what a pixel is of level ground there
_FAR_M = 100.0           # a median beyond is in millimetres: no depth camera sees so far
_NEAR_MM = 30            # and one below it in metres: none sees so near
_OF_SHAPE = 0.01         # by which the sides' ratios of one camera's images may differ
_ASTRAY = 0.02           # of an image's width: points off their pixels are of another image
_CONTINUES = 1.5         # a surface's slope over five pixels against that over three


class BadDepth(DataError):
    """A depth image that says nothing of use about the label image; its text names the cause."""


def metres(depth: np.ndarray, height: int, width: int, nearest: float, farthest: float,
           edge_jump: float = 0.0) -> np.ndarray:
    """
    Return depth as float32 (height, width) in m, NaN where there is none.

    `depth` is uint16 in mm or float32 in m, of any size of the same shape: pixels to the nearest,
    never mixed. Zero, negative, NaN, infinite and what is not from `nearest` to `farthest` is no
    depth, nor are edges: see leave_out_edges. Raise BadDepth.
    """
    _judge_size(depth, height, width)
    _judge_units(depth)
    # Of the smaller size: a pixel of depth is alone in the air where it is not repeated.
    if depth.size > height * width:
        depth = _resized(depth, height, width)
    found = _in_range(depth, nearest, farthest)
    leave_out_edges(found, edge_jump)
    return found if found.shape == (height, width) else _resized(found, height, width)


def _resized(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.intp)
                     for n, m in zip((height, width), depth.shape, strict=True))
    return depth[rows[:, None], columns]


def _in_range(depth: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """Return depth in m, float32, NaN for what is not from `nearest` to `farthest`."""
    found = depth.astype(np.float32)
    if depth.dtype == np.uint16:
        found *= np.float32(1e-3)
    with np.errstate(invalid='ignore'):
        missing = found >= max(nearest, 1e-6)
        missing &= found <= farthest
    np.logical_not(missing, out=missing)
    # Several times as fast as np.copyto.
    cv2.copyTo(np.full_like(found, np.nan), missing.view(np.uint8), found)
    return found


def leave_out_edges(depth: np.ndarray, edge_jump: float) -> None:
    """
    Make NaN of what lies on the farther side of a jump, or in the air between the two sides.

    A jump is larger than `edge_jump` times the distance. On a plane, however steeply it is seen,
    1 / distance goes in even steps, so that slopes are none. 0: all stays.
    """
    if not edge_jump:
        return
    inverse = 1 / depth
    cv2.patchNaNs(inverse, 0.0)
    nearest = cv2.dilate(inverse, np.ones((3, 3), np.uint8))
    # Few have something beside them that is nearer by a jump: only they may be edges.
    places = np.flatnonzero(nearest > inverse * np.float32(1 + 0.99 * edge_jump))
    places = places[inverse.take(places) > 0]
    here = inverse.take(places)
    jump = here * np.float32(edge_jump)
    before, behind = nearest.take(places) - here, here - _farthest_beside(inverse, places)
    is_edge = before - behind > jump  # on the farther side
    between = np.flatnonzero((before > jump) & (behind > jump))
    if between.size:
        is_edge[between[_in_the_air(inverse, places[between], jump[between])]] = True
    np.put(depth, places[is_edge], np.nan)


def _farthest_beside(inverse: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the least of 3 x 3 pixels around each place, float32 (N,); 0 is no depth."""
    height, width = inverse.shape
    row, column = np.divmod(places.astype(np.int32), np.int32(width))
    farthest = inverse.take(places)
    for r in (np.maximum(row - 1, 0), row, np.minimum(row + 1, height - 1)):
        for c in (np.maximum(column - 1, 0), column, np.minimum(column + 1, width - 1)):
            beside = inverse.take(r * width + c)
            np.minimum(farthest, beside, out=farthest, where=beside > 0)
    return farthest


def _in_the_air(inverse: np.ndarray, places: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Return which pixels lie alone between two sides, along a row or a column; slopes go on."""
    flat, last = inverse.ravel(), inverse.size - 1
    here = flat[places]
    alone = np.zeros(places.size, bool)
    for step in (1, inverse.shape[1]):
        near, far = (np.stack([flat[np.clip(places + n * step, 0, last)] for n in ns])
                     for ns in ((-1, 1), (-2, 2)))
        high, low = near.max(0), near.min(0)
        wider = np.maximum(high, far.max(0)) - np.minimum(low, far.min(0))
        alone |= ((high - here > jump) & (here - low > jump) & (wider < _CONTINUES * (high - low)))
    return alone


class DepthCamera:
    """Makes points of depth and label images of one lens. What it gives it uses again."""

    def __init__(self, camera: Camera, traversability: Traversability) -> None:
        self.camera = camera
        self.rays = camera.rays()
        # Depth tells what stands in rows without a label too.
        self._codes = PixelCodes(traversability, camera.height, camera.width, has_bars=False)
        with np.errstate(divide='ignore', invalid='ignore'):
            # Of length 1 along the optical axis, as depth counts; beside and behind it, none.
            self._ratios = np.where(self.rays[..., 2:] > 1e-3, self.rays / self.rays[..., 2:],
                                    np.float32(np.nan))
        self._pose: Pose | None = None
        self._directions: Sequence[np.ndarray] = ()
        self._planes = np.empty((3, camera.height, camera.width), np.float32)

    def is_registered(self, points: np.ndarray) -> bool:
        """
        Return whether points, float32 (3, h, w) in this camera's frame, lie on their pixels' rays.

        So do not those of a cloud that another camera's image has organised.
        """
        sides = self.camera.height, self.camera.width
        if not _is_of_shape(points.shape[2], points.shape[1], self.camera.width,
                            self.camera.height):
            return False
        at = [np.arange(0, n, max(1, n // 64)) for n in points.shape[1:]]
        x, y, z = points[:, at[0][:, None], at[1]]
        rows, columns = (((places + 0.5) * side / n).astype(np.intp) for places, side, n in zip(
            at, sides, points.shape[1:], strict=True))
        to_x, to_y, _ = np.moveaxis(self._ratios[rows[:, None], columns], 2, 0)
        with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
            astray = np.hypot((x / z - to_x) * self.camera.fx, (y / z - to_y) * self.camera.fy)
        astray = astray[np.isfinite(astray) & (z > 0)]
        return not astray.size or bool(np.median(astray) <= _ASTRAY * self.camera.width)

    def look(
        self, depth: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None, pose: Pose,
        min_confidence: float = 0.0,
    ) -> LabelledPoints:
        """Return the points of a frame: depth as `metres` gives it, uint8 labels of its size."""
        if pose != self._pose:
            turned = cv2.transform(self._ratios, pose.rotation.astype(np.float32))
            self._directions = [np.asarray(plane) for plane in cv2.split(turned)]
            self._pose = pose
        for plane, direction, start in zip(
                self._planes, self._directions, pose.origin, strict=True):
            np.multiply(direction, depth, out=plane)
            plane += np.float32(start)
        codes = self._codes.make(labels, confidence, min_confidence)
        x, y, z = self._planes
        return LabelledPoints(x, y, z, labels, codes, pose.origin, confidence,
                              DepthImage(depth, self.camera.fx, self.camera.fy))


def enough(points: LabelledPoints, image: DepthImage, apart: float) -> np.ndarray:
    """
    Return which points are enough for cells of a side `apart`, in m, bool (H, W).

    Near ones lie close: every other row and column.
    """
    # Across, and along ground that is seen at an angle: two rows in a cell at least.
    near = min(apart / _ENOUGH / 2 * image.fx,
               sqrt(apart * max(points.origin[2], 0.0) * image.fy) / 2)
    with np.errstate(invalid='ignore'):
        needed = image.depth > near
    needed[::2, ::2] = True
    return needed


def between(points: LabelledPoints, image: DepthImage, apart: float, inside: np.ndarray,
            reach: float) -> np.ndarray:
    """
    Return points between pixels of free ground that are neighbours in a column, float32 (3, M).

    Rows of a surface that is seen at an angle lie farther `apart`, in m, than cells want them. Not
    where more than a pixel's ground is between them, as before a hole. `inside`, bool (H, W), are
    the pixels that are asked for, `reach` is how far away they are at most.
    """
    # Nearer, pixels of level ground lie closer. Of columns, enough.
    near = _NO_GAPS_BEFORE * sqrt(apart * max(points.origin[2], 0.0) * image.fy)
    columns = np.s_[:, ::max(1, int(apart / 2 * image.fx / reach))]
    with np.errstate(invalid='ignore'):
        may_be = image.depth[columns] > near
    may_be &= inside[columns]
    may_be &= points.codes[columns] == FREE
    rows = np.flatnonzero(may_be.any(1))
    if not rows.size:
        return np.empty((3, 0), np.float32)
    band = (slice(max(0, rows[0] - 1), rows[-1] + 2), columns[1])
    x, y, z, codes, inside = (plane[band] for plane in (
        points.x, points.y, points.z, points.codes, inside))
    step_x, step_y = x[1:] - x[:-1], y[1:] - y[:-1]
    distance2 = step_x * step_x
    distance2 += step_y * step_y
    with np.errstate(invalid='ignore'):
        is_gap = distance2 > apart * apart
    is_gap &= np.maximum(codes[1:], codes[:-1]) == FREE
    is_gap &= inside[1:] | inside[:-1]
    kept = np.flatnonzero(is_gap)
    first, last = (np.stack([plane[part].take(kept) for plane in (x, y, z)])
                   for part in (np.s_[:-1], np.s_[1:]))
    away = last - points.origin.astype(np.float32)[:, None]
    most = ((away * away).sum(0) * np.float32(_MOST_APART / image.fy)
            / np.maximum(-away[2], np.float32(0.01)))
    distance = np.sqrt(distance2.take(kept))
    counts = np.minimum(distance / apart, _MOST_BETWEEN).astype(int)
    counts[distance >= most] = 0
    which = np.repeat(np.arange(counts.size), counts)
    nth = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
    part = ((nth + 1) / (counts + 1).take(which)).astype(np.float32)
    return first.take(which, 1) + part * (last - first).take(which, 1)


def _judge_size(depth: np.ndarray, height: int, width: int) -> None:
    """Refuse a depth image of another shape: its pixels are of other directions."""
    h, w = depth.shape
    if not _is_of_shape(w, h, width, height):
        raise BadDepth(f'depth is {w}x{h} and label {width}x{height}, of another shape: publish '
                       'depth that is registered to the camera, or labels of its shape '
                       '(output_size of segment_node)')


def _is_of_shape(w: int, h: int, width: int, height: int) -> bool:
    """
    Return whether one size is the other, scaled and rounded to whole pixels, or nearly so.

    As a planner's 424x240 is 1280x720: each side is scaled by itself, as the labels' lens is.
    """
    return abs(w * height - h * width) <= max(w, h, width, height, _OF_SHAPE * w * height)


def _judge_units(depth: np.ndarray) -> None:
    """Refuse numbers that can only be of the other unit, by some thousand of them."""
    some = depth[::max(1, depth.shape[0] // 64), ::max(1, depth.shape[1] // 64)]
    some = some[some > 0] if depth.dtype == np.uint16 else some[np.isfinite(some) & (some > 0)]
    if not some.size:
        return
    median = float(np.partition(some, some.size // 2)[some.size // 2])
    if depth.dtype == np.uint16 and median < _NEAR_MM:
        raise BadDepth(f'depth is 16UC1 with a median of {median:g} mm: these are no millimetres: '
                       'publish 32FC1 for metres')
    if depth.dtype != np.uint16 and median > _FAR_M:
        raise BadDepth(f'depth is 32FC1 with a median of {median:g} m: these look like '
                       'millimetres: publish metres, or 16UC1 for millimetres (REP 118)')
