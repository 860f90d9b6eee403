# SPDX-License-Identifier: Apache-2.0
"""
How far the ground is seen to be free, by bearing: the scan of ground_node.

semantic_cloud_node's is in cloud_scan.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from lednet_ros.projection.traversability import FREE, OUT, together
from lednet_ros.projection.view import NOWHERE, View, resample

_APART_M = 0.05   # ranges of a beam, or half a pixel where that is more
_SECTORS = 72     # of a full circle, tried for lines that are in view


class GroundScan:
    """
    Makes scans of images of codes, of one view or several. What it gives it uses again.

    A beam goes over the ground from the robot's origin. Its range is that of the first ground
    that is not seen to be free: blocked, hidden by an obstacle or standing under it, unknown; the
    nearest that is in view, if that already is. Infinite: free up to `range_max`. NaN: the beam
    leaves the views before, is never in view, or comes into it from the side, so that it says
    nothing of what is nearer. Ground too near to be in view is not judged, as by any scanner.
    """

    def __init__(self, views: Sequence[View], angle_increment: float) -> None:
        self.views = list(views)
        self.angle_increment = angle_increment
        self.beams = max(1, round(2 * np.pi / angle_increment))
        self.angle_min = -np.pi
        # Of a beam, a pixel apart, so that no thin obstacle passes between two.
        self._lines = max(1, ceil(angle_increment / min(view.pixel_rad for view in views)))
        # No farther than any camera's own max_range, whatever the direction.
        self.range_max = min(max(view.max_range - float(np.hypot(view.x, view.y)),
                                 view.max_range / 10) for view in views)
        bearings = self.angle_min + (
            np.arange(self.beams * self._lines) - (self._lines - 1) / 2
        ) * angle_increment / self._lines
        ranges = _some_ranges(max(views, key=lambda view: view.height / view.pixel_rad),
                              self.range_max)
        self._kept = np.flatnonzero(np.any(
            [_may_be_in_view(view, len(bearings)) for view in views], axis=0))
        maps = [map_of_beams(view, bearings[self._kept], ranges) for view in views]
        in_view = np.any([map_[..., 0] != NOWHERE for map_ in maps], axis=0)
        enters = enters_from_below(views, bearings[self._kept], ranges, in_view)
        self._kept, in_view = self._kept[enters], in_view[enters]
        self._maps = [map_[enters] for map_ in maps]
        self.range_min = float(ranges[in_view.any(0).argmax()]) if in_view.any() else 0.0
        # Between the last that is free and the first that is not; the first in view: its own.
        self._ranges = ranges.astype(np.float32)
        self._half_steps = (np.diff(ranges, prepend=0.0) / 2).astype(np.float32)
        shape = in_view.shape
        self._codes, self._more = np.empty((2, *shape), np.uint8)
        self._seen, self._stops = np.empty((2, *shape), bool)
        self._leaves = np.empty((shape[0], max(0, shape[1] - 1)), bool)
        self._all = np.full(self.beams * self._lines, np.nan, np.float32)

    def make(self, *codes: np.ndarray) -> np.ndarray:
        """
        Return the beams' ranges in m, float32 (beams,), counter-clockwise from angle_min.

        The codes are each view's, in their order.
        """
        if self._kept.size:
            resample(codes[0], self._maps[0], self._codes, OUT)
            for more, map_ in zip(codes[1:], self._maps[1:], strict=True):
                resample(more, map_, self._more, OUT)
                self._codes[:] = together(self._codes, self._more)
            self._all[self._kept] = self._of_lines()
        lines = self._all.reshape(self.beams, self._lines)
        ranges = np.fmin.reduce(lines, axis=1)
        ranges[np.isposinf(ranges) & np.isnan(lines).any(1)] = np.nan
        return ranges

    def _of_lines(self) -> np.ndarray:
        seen, stops, leaves = self._seen, self._stops, self._leaves
        np.not_equal(self._codes, OUT, out=seen)
        np.not_equal(self._codes, FREE, out=stops)
        stops &= seen
        np.greater(seen[:, :-1], seen[:, 1:], out=leaves)
        every = np.arange(len(seen))
        first, stop, leave = seen.argmax(1), stops.argmax(1), leaves.argmax(1)
        stopped, left = stops[every, stop], leaves[every, leave]
        ranges = np.where(stopped, self._ranges[stop] - np.where(
            stop > first, self._half_steps[stop], 0), np.float32(np.inf))
        ranges[(left & ~(stopped & (stop <= leave))) | ~seen[every, first]] = np.nan
        return ranges


def _some_ranges(view: View, range_max: float) -> np.ndarray:
    """Return a beam's ranges, in m, so close that no pixel's ground lies between two."""
    half_pixel = view.pixel_rad / 2
    # From where on half a pixel, range^2 / height of ground a rad, is more than _APART_M.
    far = min(np.sqrt(_APART_M * view.height / half_pixel), range_max)
    near = np.linspace(0, far, ceil(far / _APART_M) + 1)[1:]
    # Ground is height / depression away, nearly: even steps of that.
    count = ceil(view.height * (1 / far - 1 / range_max) / half_pixel)
    return np.concatenate([near, 1 / np.linspace(1 / far, 1 / range_max, count + 1)[1:]])


def _may_be_in_view(view: View, lines: int) -> np.ndarray:
    """Return which lines of a full circle to try: most are nowhere near the ground in view."""
    down = view.some_directions
    down = down[down[:, 2] < 0]
    x, y = (o + view.height * d / -down[:, 2] for o, d in zip(
        (view.x, view.y), down[:, :2].T, strict=True))
    near = np.hypot(x - view.x, y - view.y) <= view.max_range
    counts, _ = np.histogram(np.arctan2(y[near], x[near]), _SECTORS, (-np.pi, np.pi))
    # The sectors beside them too, around the circle.
    tried = counts + np.roll(counts, 1) + np.roll(counts, -1) > 0
    return tried[(np.arange(lines) * _SECTORS // lines) % _SECTORS]


def map_of_beams(view: View, bearings: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Return the pixels that see beams' ground, as View.map_of does: int16 (beams, ranges, 2)."""
    return view.map_of_ground(*(np.multiply.outer(side, ranges).astype(np.float32)
                                for side in (np.cos(bearings), np.sin(bearings))))


def enters_from_below(
    views: Sequence[View], bearings: np.ndarray, ranges: np.ndarray, in_view: np.ndarray,
) -> np.ndarray:
    """
    Return which lines come into view, where ground is too near to be seen, not from the side.

    Just before it, a little further away from a camera is in its view. `in_view` is bool (beams,
    ranges), of all views.
    """
    first = in_view.argmax(1)
    before = np.where(first > 0, ranges[np.maximum(first - 1, 0)], 0.0)
    below = np.zeros(len(bearings), bool)
    for view in views:
        x, y = before * np.cos(bearings) - view.x, before * np.sin(bearings) - view.y
        for further in (1.02, 1.05, 1.1, 1.2):
            there = view.map_of_ground(*((further * d + c).astype(np.float32)[:, None]
                                         for d, c in ((x, view.x), (y, view.y))))
            below |= there[:, 0, 0] != NOWHERE
    return in_view.any(1) & (below | (first == 0))
