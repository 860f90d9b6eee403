# SPDX-License-Identifier: Apache-2.0
"""How far cells are free, by bearing: the scan of semantic_cloud_node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lednet_ros.projection.ground_scan import enters_from_below, map_of_beams
from lednet_ros.projection.heights import Place
from lednet_ros.projection.traversability import BLOCKED, FREE, OUT
from lednet_ros.projection.view import NOWHERE, View

_STEPS = 2            # of a beam, to a cell
_MARGIN_M = 0.5       # within which of the nearest ground in view a beam has to begin


class CloudScan:
    """
    Makes scans of cells around the robot.

    A beam goes from the robot's origin. Its range is that of the first cell that is not free:
    blocked, unknown, or unseen though something farther off was seen, as a hole is. Infinite: free
    up to `range_max`. NaN, no claim: nothing is seen where the beam comes into view, or it comes
    into it from the side, or nothing is seen from where the free ground ends. Ground too near to
    be in view is not judged, as by any scanner.
    """

    def __init__(self, resolution: float, range_max: float, angle_increment: float) -> None:
        self.angle_increment = angle_increment
        self.beams = max(1, round(2 * np.pi / angle_increment))
        self.angle_min = -np.pi
        self.range_max = range_max
        self.range_min = 0.0
        step = resolution / _STEPS
        self._ranges = np.arange(step, range_max, step)
        self._bearings = self.angle_min + np.arange(self.beams) * angle_increment
        self._x, self._y = (np.outer(side, self._ranges).astype(np.float32)
                            for side in (np.cos(self._bearings), np.sin(self._bearings)))
        self._place: Place | None = None
        self._index = np.empty(0, np.intp)

    def begins_in(self, view: View) -> np.ndarray:
        """
        Return where each beam comes into a camera's view of flat ground, in m, (beams,).

        NaN where it never does, or does so from the side.
        """
        in_view = map_of_beams(view, self._bearings, self._ranges)[..., 0] != NOWHERE
        enters = enters_from_below([view], self._bearings, self._ranges, in_view)
        return np.where(enters, self._ranges[in_view.argmax(1)], np.nan)

    def make(self, cells: np.ndarray, place: Place, begins: np.ndarray | None = None,
             origins: Sequence[np.ndarray] = (np.zeros(3),)) -> np.ndarray:
        """
        Return the beams' ranges in m, float32 (beams,), counter-clockwise from angle_min.

        `begins` as `begins_in` gives it, of all cameras the least; None: of what looks around from
        `origins`, as a LiDAR does, whose nearest ground is nearly as far away on all sides.
        """
        which, index = np.arange(self.beams), self._indices(place)
        if begins is not None:  # of a camera's beams, most are never in view
            which = np.flatnonzero(np.isfinite(begins))
            index = index.take(which, 0)
        codes = np.append(cells.ravel(), np.uint8(OUT)).take(index)
        is_seen = codes != OUT
        first, some = is_seen.argmax(1), is_seen.any(1)
        nearest = self._ranges[first]
        if begins is None:
            begins = self._begins_around(origins, codes, first, some)
            self.range_min = float(nearest[some].min()) if some.any() else 0.0
        else:
            begins = begins.take(which)
            self.range_min = float(begins.min()) if begins.size else 0.0
        begun = some & (nearest <= begins + _MARGIN_M)
        stops = (codes != FREE) & (np.arange(codes.shape[1]) >= first[:, None])
        stop, is_stopped = stops.argmax(1), stops.any(1)
        last = codes.shape[1] - 1 - is_seen[:, ::-1].argmax(1)
        ranges = np.full(self.beams, np.nan, np.float32)
        ranges[which[begun & ~is_stopped]] = np.inf
        claims = begun & is_stopped & (stop <= last)
        ranges[which[claims]] = self._ranges[stop[claims]]
        return ranges

    def _begins_around(
        self, origins: Sequence[np.ndarray], codes: np.ndarray, first: np.ndarray,
        some: np.ndarray,
    ) -> np.ndarray:
        """
        Return where each beam leaves the circles that sensors are blind in, in m, (beams,).

        Their radius is how far from a sensor the nearest ground is seen by most beams: not what
        stands nearer in some directions, the robot itself for one, nor strays.
        """
        every = np.arange(self.beams)
        lies = some & (codes[every, first] != BLOCKED)
        which = lies if lies.any() else some
        x, y = self._x[every, first], self._y[every, first]
        away = np.min([np.hypot(x - o[0], y - o[1]) for o in origins], axis=0)
        radius = np.median(away[which]) if which.any() else np.nan
        along = [np.cos(self._bearings) * o[0] + np.sin(self._bearings) * o[1] for o in origins]
        return np.min([a + np.sqrt(np.maximum(radius ** 2 - o[0] ** 2 - o[1] ** 2 + a ** 2, 0))
                       for a, o in zip(along, origins, strict=True)], axis=0)

    def _indices(self, place: Place) -> np.ndarray:
        """Return each sample's flat cell; the one after the last beside all cells."""
        if place != self._place:
            n = place.cells
            column, row = place.columns_and_rows(self._x, self._y)
            inside = (column >= 0) & (row >= 0) & (column < n) & (row < n)
            self._index = np.full(inside.shape, n * n)
            self._index[inside] = (row[inside].astype(np.intp) * n
                                   + column[inside].astype(np.intp))
            self._place = place
        return self._index
