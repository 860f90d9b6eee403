# SPDX-License-Identifier: Apache-2.0
"""
Points to cells by height and class: free ground, what is not, what nobody has seen.

No flat ground is assumed. Each cell's ground is the mean of what is labelled as ground in it;
between cells that have some, the nearest one's holds. From where the robot stands, ground goes on
as long as no step between neighbours is larger than `max_step`: what lies beyond a larger one, as
a hole's bottom does, is never free.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin, tan
from typing import NamedTuple

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.projection.depth import between, enough
from lednet_ros.projection.labelled_points import LabelledPoints
from lednet_ros.projection.traversability import BLOCKED, FREE, OBSTACLE, OUT, UNKNOWN

_NEAR_GROUND_M = 1.0   # within which ground tells how high an unlabelled thing stands
_SLOPE_OVER_M = 0.5    # nearly: the length over which a slope is measured
_BEHIND_M = 0.5        # what stands: ground seen there may have something above it
_SURE = 2              # points that stand in a cell: one may be a sensor's whim, and is unknown
_IN_THE_WAY = 2        # of cv2.floodFill's mask: any but 0 and 1
BESIDE = OBSTACLE     # a cell's code, of which no obstacle's class has a use: see Heights.judge
_DEEPEST_M = 50.0      # below the robot: farther down is no place


@dataclass(frozen=True)
class HeightsConfig:
    """What a robot gets over, and under, in m and rad. Checked when made."""

    obstacle_height: float = 0.2  # above the ground beside it
    max_step: float = 0.15        # between two neighbouring cells
    max_slope: float = 0.44       # of the ground: 25 degrees
    max_clearance: float = 2.0    # what hangs higher is no obstacle

    def __post_init__(self) -> None:
        if not 0 < self.obstacle_height < self.max_clearance:
            raise ConfigError(f'obstacle_height is {self.obstacle_height:g} m and max_clearance '
                              f'{self.max_clearance:g} m: give 0 < obstacle_height < '
                              'max_clearance')
        if self.max_step <= 0 or not 0 < self.max_slope < 1.5:
            raise ConfigError(f'max_step is {self.max_step:g} m and max_slope '
                              f'{self.max_slope:g} rad: give max_step above 0 and max_slope '
                              'between 0 and 1.5')


@dataclass(frozen=True)
class Place:
    """Where cells lie: the robot in their frame, and the first cell's corner, in cells."""

    resolution: float
    cells: int
    corner: tuple[int, int]
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    @classmethod
    def around(cls, resolution: float, cells: int, x: float = 0.0, y: float = 0.0,
               yaw: float = 0.0) -> Place:
        """Make a place with the robot in its middle, its cells at whole steps of its frame."""
        corner = (round(x / resolution) - cells // 2, round(y / resolution) - cells // 2)
        return cls(resolution, cells, corner, x, y, yaw)

    def columns_and_rows(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where points of the robot's frame lie, float32, in cells from the corner."""
        c, s = (np.float32(f(self.yaw) / self.resolution) for f in (cos, sin))
        left, bottom = (np.float32(here / self.resolution - corner) for here, corner in zip(
            (self.x, self.y), self.corner, strict=True))
        if s == 0:
            return x * c + left, y * c + bottom
        return x * c - y * s + left, x * s + y * c + bottom

    def middles(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells' middles in the robot's frame, float32 (cells, cells)."""
        line = np.arange(self.cells) + 0.5
        x, y = np.meshgrid(*((line + corner) * self.resolution - here for corner, here in zip(
            self.corner, (self.x, self.y), strict=True)))
        c, s = cos(self.yaw), sin(self.yaw)
        return (x * c + y * s).astype(np.float32), (y * c - x * s).astype(np.float32)

    def bounds(self) -> tuple[float, float, float, float]:
        """Return the least and the largest x, then y, of the cells in the robot's frame, in m."""
        c, s = cos(self.yaw), sin(self.yaw)
        corners = [((i + left) * self.resolution - self.x, (j + bottom) * self.resolution - self.y)
                   for i in (0, self.cells) for j in (0, self.cells)
                   for left, bottom in [self.corner]]
        x = [x * c + y * s for x, y in corners]
        y = [y * c - x * s for x, y in corners]
        return min(x), max(x), min(y), max(y)

    @property
    def robot_cell(self) -> tuple[int, int]:
        """Return the row and the column that the robot is in."""
        column, row = self.columns_and_rows(*np.zeros((2, 1), np.float32))
        return int(row[0]), int(column[0])


class Part(NamedTuple):
    """Some of a sensor's points, each array (N,)."""

    cells: np.ndarray  # intp: their flat indices
    z: np.ndarray      # float32, in m
    codes: np.ndarray  # uint8
    sensor: int        # its number, in order
    is_beside: bool    # whether no pixel looks at them


class Heights:
    """Takes one moment's points, of any number of sensors, and judges the cells."""

    def __init__(self, place: Place, config: HeightsConfig) -> None:
        self.place = place
        self.config = config
        self.ground_z = np.nan  # of the nearest ground that was seen, in m; NaN: none
        self._parts: list[Part] = []
        self._origins: list[np.ndarray] = []

    def add(self, points: LabelledPoints) -> None:
        """Take points in the robot's frame. NaN and what lies beside the cells is left out."""
        self._origins.append(points.origin)
        x, y, z, codes = points.x, points.y, points.z, points.codes
        inside = self._inside(x, y, z)
        if points.image is not None:
            apart, cells = self.place.resolution, self.place.cells
            self._put(x, y, z, codes, inside & enough(points, points.image, apart))
            x, y, z = between(points, points.image, apart, inside, apart * cells * 0.71)
            self._put(x, y, z, np.full(x.shape, FREE, np.uint8), self._inside(x, y, z))
        elif points.beside is not None:
            self._put(x, y, z, codes, inside & ~points.beside)
            self._put(x, y, z, codes, inside & points.beside, True)
        else:
            self._put(x, y, z, codes, inside)

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return which points lie in the bounds of the cells, bool."""
        x_min, x_max, y_min, y_max = self.place.bounds()
        with np.errstate(invalid='ignore'):
            inside = x >= x_min
            inside &= x <= x_max
            inside &= y >= y_min
            inside &= y <= y_max
            inside &= z > -_DEEPEST_M
        return inside

    def _put(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, codes: np.ndarray,
             where: np.ndarray, is_beside: bool = False) -> None:
        n = self.place.cells
        kept = np.flatnonzero(where & (codes != OUT))
        column, row = self.place.columns_and_rows(x.take(kept), y.take(kept))
        inside = (column >= 0) & (column < n) & (row >= 0) & (row < n)
        if not inside.all():
            kept, column, row = (a.compress(inside) for a in (kept, column, row))
        # int32 on the way: several times as fast.
        index = row.astype(np.int32)
        index *= np.int32(n)
        index += column.astype(np.int32)
        self._parts.append(Part(index.astype(np.intp), z.take(kept), codes.take(kept),
                                len(self._origins) - 1, is_beside))

    def judge(self) -> np.ndarray:
        """
        Return a code for each cell, uint8 (cells, cells): rows along y.

        FREE, BLOCKED for all that is no way, UNKNOWN for what was seen and says too little, OUT
        for what nobody has seen. BESIDE is as UNKNOWN, but nothing contradicts what was known of
        it: no pixel looks there, and a LiDAR sees nothing that stands.
        """
        index, z, codes = self._all()
        ground, has_ground, rest = self._ground(index, z, codes)
        index, z, codes = index.take(rest), z.take(rest), codes.take(rest)
        far = self._is_far(index, has_ground)
        height = z - self._base(index, z, ground, far).take(index)
        in_the_way = height < self.config.max_clearance
        standing = in_the_way & (height > self.config.obstacle_height)
        # Several times faster than index[standing].
        stands = self._count(index.take(np.flatnonzero(standing)))
        blocked = stands >= _SURE
        of_class = ((codes >= OBSTACLE) | (codes == BLOCKED)) & in_the_way
        blocked |= self._any(index, of_class)
        blocked |= has_ground & self._is_rough(ground, has_ground)
        deep = self._any(index, height < -self.config.max_step)
        free = has_ground & ~blocked & (stands == 0) & ~deep
        free &= self._is_sure(index, rest, (codes == UNKNOWN) & in_the_way)
        free &= self._is_reached(ground, blocked) & ~self._behind(stands > 0)
        cells = np.full(free.shape, OUT, np.uint8)
        looked_at = in_the_way
        if any(part.is_beside for part in self._parts):
            looked_at = in_the_way & ~(self._beside().take(rest) & ~self._is_off(z, far))
        cells[self._any(index, in_the_way)] = BESIDE
        cells[has_ground | deep | (stands > 0) | self._any(index, looked_at)] = UNKNOWN
        cells[free] = FREE
        cells[blocked] = BLOCKED
        return cells

    def _is_sure(self, index: np.ndarray, rest: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """
        Return in which cells a sensor sees nothing that is not known, bool (cells, cells).

        Of several sensors one that sees ground besides: what another of them does not know does
        not count then. `rest` are the places of the points with these indices among all.
        """
        if len(self._origins) == 1:
            return ~self._any(index, unknown)
        sure = np.zeros((self.place.cells,) * 2, bool)
        first = 0
        for sensor in range(len(self._origins)):
            own = [part for part in self._parts if part.sensor == sensor]
            last = first + sum(part.cells.size for part in own)
            here = slice(*np.searchsorted(rest, (first, last)))
            ground = np.concatenate([part.cells[part.codes < OUT] for part in own])
            sure |= (self._count(ground) > 0) & ~self._any(index[here], unknown[here])
            first = last
        return sure

    def _all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = self._parts
        if len(parts) == 1:
            return parts[0].cells, parts[0].z, parts[0].codes
        return (np.concatenate([np.empty(0, np.intp), *(part.cells for part in parts)]),
                np.concatenate([np.empty(0, np.float32), *(part.z for part in parts)]),
                np.concatenate([np.empty(0, np.uint8), *(part.codes for part in parts)]))

    def _is_off(self, z: np.ndarray, far: np.ndarray) -> np.ndarray:
        """
        Return which points are off the level that the robot stands on, where no ground is near.

        What they are on is not known there: a wall that one ring meets has no height.
        """
        level = (z <= self.config.obstacle_height) & (z >= -self.config.max_step)
        return far & ~level

    def _beside(self) -> np.ndarray:
        """Return which points no pixel looks at, bool, as `_all` has them."""
        return np.repeat([part.is_beside for part in self._parts],
                         [part.cells.size for part in self._parts])

    def _count(self, index: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        n = self.place.cells
        return np.bincount(index, weights, minlength=n * n).reshape(n, n)

    def _any(self, index: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return which cells have a point there, bool (cells, cells)."""
        n = self.place.cells
        cells = np.zeros(n * n, bool)
        cells[index.take(np.flatnonzero(where))] = True
        return cells.reshape(n, n)

    def _ground(self, index: np.ndarray, z: np.ndarray, codes: np.ndarray,
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return each cell's ground, float32, the nearest one's where none is, and where is.

        The last are the places of the points that are to be judged one by one. The others' cells,
        which are most, are flat: all their points are free ground, and none stands or lies deep.
        """
        n = self.place.cells
        lowest = np.full(n * n, np.inf, np.float32)
        np.minimum.at(lowest, index, np.where(codes < OUT, z, np.float32(np.inf)))
        # What is higher in the same cell is no ground, whatever its label; nor is a cell that
        # hangs above all those around it.
        lowest[_hangs(lowest.reshape(n, n), self._reach(_NEAR_GROUND_M),
                      self.config.max_clearance).ravel()] = -np.inf
        flat_m = np.float32(min(self.config.max_step, self.config.obstacle_height))
        is_flat = np.ones(n * n, bool)
        is_flat[index.take(np.flatnonzero(
            (codes != FREE) | (z >= lowest.take(index) + flat_m)))] = False
        rest = np.flatnonzero(~is_flat.take(index))
        there, high = index.take(rest), z.take(rest)
        above = np.flatnonzero((codes.take(rest) >= OUT) | (
            high >= lowest.take(there) + np.float32(self.config.max_step)))
        there, high = there.take(above), high.take(above)
        count = self._count(index) - self._count(there)
        has_ground = count > 0
        mean = ((self._count(index, z) - self._count(there, high))
                / np.maximum(count, 1)).astype(np.float32)
        known = has_ground.copy()
        robot = self.place.robot_cell
        if not known[robot]:
            known[robot] = True  # it stands there
            mean[robot] = 0.0
        self.ground_z = self._nearest_ground(mean, has_ground, robot)
        return _spread(mean, known), has_ground, rest

    def _nearest_ground(
        self, mean: np.ndarray, has_ground: np.ndarray, robot: tuple[int, int],
    ) -> float:
        if not has_ground.any():
            return float('nan')
        row, column = ((np.arange(self.place.cells) - at) ** 2 for at in robot)
        distance2 = row[:, None] + column
        farthest = np.sqrt(distance2[has_ground].min()) + 1.0 / self.place.resolution
        return float(np.median(mean[has_ground & (distance2 <= farthest * farthest)]))

    def _base(self, index: np.ndarray, z: np.ndarray, ground: np.ndarray,
              far: np.ndarray) -> np.ndarray:
        """
        Return from where heights count: ground near by, or else the lowest point, (cells^2,).

        No ground is near behind a LiDAR's camera, where nothing has a label.
        """
        lowest = np.full(ground.size, np.inf, np.float32)
        out_there = np.flatnonzero(far)
        np.minimum.at(lowest, index.take(out_there), z.take(out_there))
        return np.where(np.isfinite(lowest), lowest, ground.ravel())

    def _is_far(self, index: np.ndarray, has_ground: np.ndarray) -> np.ndarray:
        """Return which points, of these cells, have no ground near by, bool (N,)."""
        reach = _NEAR_GROUND_M / self.place.resolution
        # Most lie in a square around some ground, which is told sooner than the distance.
        side = 2 * int(reach / np.sqrt(2)) + 1
        near = cv2.dilate(has_ground.view(np.uint8), np.ones((side, side), np.uint8))
        if near.take(index).all():
            return np.zeros(index.size, bool)
        return (_distance(has_ground) * self.place.resolution > _NEAR_GROUND_M).take(index)

    def _is_rough(self, ground: np.ndarray, has_ground: np.ndarray) -> np.ndarray:
        """Return where ground has a step to a neighbour that has ground, or is too steep."""
        rough = np.zeros_like(has_ground)
        rows, columns = (np.flatnonzero(has_ground.any(axis)) for axis in (1, 0))
        if not rows.size:
            return rough
        window = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        for turned in (False, True):
            # Copied where it is turned: steps through memory take longer.
            z, known = (np.ascontiguousarray(a[window].T) if turned else a[window]
                        for a in (ground, has_ground))
            out = np.zeros_like(known)
            self._mark_steps(z, known, out)
            self._mark_slopes(z, known, out)
            rough[window] |= out.T if turned else out
        return rough

    def _mark_steps(self, z: np.ndarray, known: np.ndarray, out: np.ndarray) -> None:
        """Mark both ends of a step along the first axis, or the cell that it goes through."""
        step = np.abs(z[1:] - z[:-1]) > self.config.max_step
        step &= known[1:] & known[:-1]
        out[1:] |= step
        out[:-1] |= step
        step = np.abs(z[2:] - z[:-2]) > self.config.max_step
        out[1:-1] |= step & known[2:] & known[:-2]

    def _mark_slopes(self, z: np.ndarray, known: np.ndarray, out: np.ndarray) -> None:
        """Mark what is too steep along the first axis, and no step."""
        reach = self._reach(_SLOPE_OVER_M / 2)
        apart = 2 * reach
        if len(z) <= apart:
            return
        steps = np.abs(z[1:] - z[:-1])
        largest = steps[:len(steps) - apart + 1].copy()
        for i in range(1, apart):
            np.maximum(largest, steps[i:len(steps) - apart + 1 + i], out=largest)
        rise = tan(self.config.max_slope) * apart * self.place.resolution
        steep = (np.abs(z[apart:] - z[:-apart]) > rise) & (largest <= self.config.max_step)
        out[reach:-reach] |= steep & known[apart:] & known[:-apart]

    def _behind(self, stands: np.ndarray) -> np.ndarray:
        """
        Return what is just behind things that stand, or hang, for each sensor.

        Ground may be seen below a thing whose lower side nobody sees.
        """
        behind = np.zeros_like(stands)
        rows, columns = np.nonzero(stands)
        for origin in self._origins:
            column, row = self.place.columns_and_rows(*origin[:2, None].astype(np.float32))
            away = np.stack([rows + 0.5 - row, columns + 0.5 - column])
            away /= np.maximum(np.hypot(*away), 1.0)
            steps = np.arange(1, self._reach(_BEHIND_M) + 0.5, 0.5)
            there = np.round(steps[:, None] * away[:, None]).astype(np.intp)
            there[0] += rows
            there[1] += columns
            np.clip(there, 0, self.place.cells - 1, out=there)
            behind[there[0], there[1]] = True
        return behind

    def _reach(self, length: float) -> int:
        """Return how many cells, at least one, make a length in m."""
        return max(1, round(length / self.place.resolution))

    def _is_reached(self, ground: np.ndarray, blocked: np.ndarray) -> np.ndarray:
        """Return where ground continues from the robot without a step, around what blocks."""
        row, column = self.place.robot_cell
        mask = np.zeros((ground.shape[0] + 2, ground.shape[1] + 2), np.uint8)
        mask[1:-1, 1:-1] = blocked * _IN_THE_WAY
        mask[row + 1, column + 1] = 0
        cv2.floodFill(ground, mask, (column, row), 0, self.config.max_step, self.config.max_step,
                      4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8)
        return mask[1:-1, 1:-1] == 1


def _hangs(lowest: np.ndarray, reach: int, clearance: float) -> np.ndarray:
    """Return which cells' lowest points are higher above those around than a robot is."""
    around = cv2.erode(lowest, np.ones((2 * reach + 1,) * 2, np.uint8),
                       borderType=cv2.BORDER_CONSTANT, borderValue=float('inf'))
    return np.isfinite(lowest) & (lowest > around + np.float32(clearance))


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return values where all cells that are not known have the nearest known one's."""
    _, label = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(label.max()) + 1, np.float32)
    of_label[label[known]] = values[known]
    return of_label[label]


def _distance(known: np.ndarray) -> np.ndarray:
    """Return how far the nearest known cell is, float32, in cells; very far where none is."""
    return cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5)
