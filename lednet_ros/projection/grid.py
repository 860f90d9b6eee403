# SPDX-License-Identifier: Apache-2.0
"""
The ground around the robot as cells: free, occupied or unknown.

How long a cell keeps what was seen of it is in evidence.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, cos, sin
from typing import ClassVar

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.projection.evidence import (
    FREE_CELL,
    OCCUPIED_CELL,
    UNKNOWN_CELL,
    Belief,
    Evidence,
)
from lednet_ros.projection.traversability import (
    BLOCKED,
    CODE_OF_RANK,
    FREE,
    OUT,
    RANK,
    UNKNOWN,
)
from lednet_ros.projection.view import View, resample

__all__ = ['FREE_CELL', 'OCCUPIED_CELL', 'UNKNOWN_CELL', 'AreaConfig', 'Belief', 'Grid', 'Sampled',
           'Sighting']

_MOST_CELLS = 2000     # along a side
_NODES_APART_M = 0.05  # at most, so that nothing lies between them unseen


def nodes_per_cell(resolution: float) -> int:
    """Return how many steps of the lattice make a cell's side: an even number."""
    return 2 * max(1, ceil(resolution / 2 / _NODES_APART_M - 1e-6))


@dataclass(frozen=True)
class AreaConfig:
    """What is looked at around the robot, and how closely, in m, s and rad. Checked when made."""

    min_range: float = 0.0          # nearer is left out
    max_range: float = 20.0         # and farther
    grid_resolution: float = 0.1
    grid_size: float = 20.0         # of a side; the robot is in the middle
    grid_decay_s: float = 0.0       # 0: each frame's grid is of that frame alone
    grid_belief: Belief = field(default_factory=Belief)  # of a grid that remembers
    angle_increment: float = np.pi / 360  # between two beams of the scan
    _fewest_cells: ClassVar[int] = 2      # along a side

    def __post_init__(self) -> None:
        if not 0 <= self.min_range < self.max_range:
            raise ConfigError(f'min_range is {self.min_range:g} m and max_range '
                              f'{self.max_range:g} m: give 0 <= min_range < max_range')
        if not self._fewest_cells <= self.grid_cells <= _MOST_CELLS:
            raise ConfigError(f'a grid of {self.grid_size:g} m by {self.grid_resolution:g} m has '
                              f'{self.grid_cells} cells a side: make it {self._fewest_cells} to '
                              f'{_MOST_CELLS}')

    @property
    def grid_cells(self) -> int:
        """How many cells a side of the grid has: an even number."""
        return 2 * round(self.grid_size / self.grid_resolution / 2)

    def grid(self) -> Grid:
        """Make the grid."""
        return Grid(self.grid_resolution, self.grid_cells, self.grid_decay_s,
                    belief=self.grid_belief)


class Sampled:
    """
    Codes of the ground around the robot, denser than cells, of one view.

    A lattice holds each cell's middle, edges and corners, of large cells more; (k n + 1) squared
    nodes of n squared cells, k to a cell's side, in the robot's frame, rows along y.
    """

    def __init__(self, view: View, resolution: float, cells: int) -> None:
        k = nodes_per_cell(resolution)
        line = ((np.arange(k * cells + 1) - k * cells // 2) * resolution / k).astype(np.float32)
        self._map = view.map_of_ground(*np.meshgrid(line, line))
        self._codes, self._certainty = np.empty((2, len(line), len(line)), np.uint8)

    def look(self, codes: np.ndarray) -> np.ndarray:
        """Return the lattice's codes, uint8, a reused array; OUT where the image does not see."""
        resample(codes, self._map, self._codes, OUT)
        return self._codes

    def certainty(self, confidence: np.ndarray) -> np.ndarray:
        """Return the lattice's confidences, uint8, to be used again, of the image's."""
        resample(confidence, self._map, self._certainty, 0)
        return self._certainty


@dataclass(frozen=True)
class Sighting:
    """What one view shows, and where the robot was at that moment in the grid's frame."""

    codes: np.ndarray     # of the lattice, in the robot's frame
    contacts: np.ndarray  # float64 (N, 2): where obstacles stand, in the robot's frame
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    certainty: np.ndarray | None = None           # uint8, of the lattice's nodes; None: all 255
    contact_certainty: np.ndarray | None = None   # uint8 (N,)


class Grid:
    """
    Cells around the robot in a frame that stays, or in the robot's own.

    A cell is seen to be occupied where an obstacle stands in it or a part of it is blocked
    ground, and to be free where all of it is; Evidence says what becomes of that from frame to
    frame. The grid rolls along with the robot. A cell has `per_cell` lattice steps.
    """

    def __init__(
        self, resolution: float, cells: int, decay_s: float, per_cell: int = 0,
        belief: Belief | None = None,
    ) -> None:
        self.resolution = resolution
        self.cells = cells
        self._per_cell = per_cell or nodes_per_cell(resolution)
        self._window = np.ones((self._per_cell + 1,) * 2, np.uint8)
        self._evidence = Evidence(cells, decay_s, belief)
        self._corner = np.zeros(2, int)  # of the grid, in cells from the frame's origin
        self._flags = np.empty((3, cells, cells), bool)
        nodes = self._per_cell * cells + 1
        self._lattice, self._certainty, self._dilated, self._blocked = np.empty(
            (4, nodes, nodes), np.uint8)

    @property
    def values(self) -> np.ndarray:
        """Return what is known: int8, row by row from the corner, as OccupancyGrid has it."""
        return self._evidence.values

    @property
    def origin(self) -> tuple[float, float]:
        """Where the first cell's outer corner is in the frame, in m."""
        x, y = self._corner * self.resolution
        return float(x), float(y)

    @property
    def apart_s(self) -> float:
        """Return how far apart the last two frames were, where that is too far to remember; 0."""
        return self._evidence.apart_s

    def forget(self) -> None:
        """Take nothing for known any more."""
        self._evidence.forget()

    def add_all(
        self, sightings: Sequence[Sighting], stamp_s: float, may_repeat: bool = False,
    ) -> np.ndarray:
        """
        Take what several views show, the newest last, as one frame; give `values`.

        A stamp that comes again means that time stands still, unless it `may_repeat`.
        """
        self._move(sightings[-1].x, sightings[-1].y)
        self._evidence.age(stamp_s, may_repeat)
        codes, certainty = self._together(sightings)
        # Of a cell's nodes the largest code; FREE is the least of all.
        largest, (free, hidden, occupied) = self._of_cells(cv2.dilate, codes), self._flags
        np.equal(largest, FREE, out=free)
        np.greater(largest, OUT, out=hidden)
        np.equal(codes, BLOCKED, out=self._blocked.view(bool))
        np.not_equal(self._of_cells(cv2.dilate, self._blocked), 0, out=occupied)
        sure = None
        if certainty is not None:
            sure = self._of_cells(cv2.erode, certainty).copy()
            self._blocked *= certainty
            np.copyto(sure, self._of_cells(cv2.dilate, self._blocked), where=occupied)
        self._take_contacts(sightings, occupied, sure)
        return self._evidence.take(
            free, occupied, hidden, None if sure is None else sure * np.float32(1 / 255))

    def add_cells(
        self, cells: np.ndarray, stamp_s: float, x: float = 0.0, y: float = 0.0,
        in_view: np.ndarray | None = None, may_repeat: bool = False,
    ) -> np.ndarray:
        """
        Take a frame that is judged by cells already, in the grid's frame; give `values`.

        `cells` are codes, uint8 (cells, cells), with OUT for what nobody sees: hidden, where it is
        `in_view`, bool of that shape. Codes that it does not know change nothing. The robot is at
        x and y. The stamp is as for `add_all`.
        """
        self._move(x, y)
        self._evidence.age(stamp_s, may_repeat)
        hidden = cells == UNKNOWN
        if in_view is not None:
            hidden |= in_view & (cells == OUT)
        return self._evidence.take(cells == FREE, cells == BLOCKED, hidden)

    def _move(self, x: float, y: float) -> None:
        corner = np.round(np.array([x, y]) / self.resolution).astype(int) - self.cells // 2
        self._evidence.roll(*(corner - self._corner))
        self._corner = corner

    def _of_cells(self, pick: Callable[..., object], lattice: np.ndarray) -> np.ndarray:
        """Return the most or the least of each cell's nodes, uint8 (cells, cells); reused."""
        pick(lattice, self._window, self._dilated)
        middles = slice(self._per_cell // 2, None, self._per_cell)
        return self._dilated[middles, middles]

    def _together(
        self, sightings: Sequence[Sighting],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the codes and certainties of all views in the grid's frame, by node."""
        weighed = any(one.certainty is not None for one in sightings)
        if len(sightings) == 1:
            [one] = sightings
            return self._placed(one.codes, one, self._lattice), (
                self._placed(one.certainty, one, self._certainty, 0)
                if one.certainty is not None else None)
        best = np.zeros(self._lattice.shape, np.uint16)  # the rank, then the certainty
        for one in sightings:
            keys = RANK[self._placed(one.codes, one, self._lattice)].astype(np.uint16) << 8
            keys |= (self._placed(one.certainty, one, self._certainty, 0)
                     if one.certainty is not None else np.uint16(255))
            np.maximum(best, keys, out=best)
        return CODE_OF_RANK[best >> 8], best.astype(np.uint8) if weighed else None

    def _take_contacts(
        self, sightings: Sequence[Sighting], occupied: np.ndarray, sure: np.ndarray | None,
    ) -> None:
        """Mark the cells where obstacles stand, and how certain that is."""
        for one in sightings:
            c, s = cos(one.yaw), sin(one.yaw)
            turned = one.contacts @ np.array([[c, s], [-s, c]]) + (one.x, one.y)
            column, row = (np.floor(turned / self.resolution).astype(int) - self._corner).T
            inside = (column >= 0) & (row >= 0) & (column < self.cells) & (row < self.cells)
            row, column = row[inside], column[inside]
            if sure is not None:
                sure[row, column] *= occupied[row, column]  # of free ground until now
                np.maximum.at(sure, (row, column), np.uint8(255) if one.contact_certainty is None
                              else one.contact_certainty[inside])
            occupied[row, column] = True

    def _placed(
        self, sampled: np.ndarray, one: Sighting, out: np.ndarray, outside: int = OUT,
    ) -> np.ndarray:
        """Turn and move a lattice from the robot's frame to this grid's; nodes to the nearest."""
        x, y, yaw = one.x, one.y, one.yaw
        step = self.resolution / self._per_cell
        left, bottom = self._corner * self.resolution
        c, s, middle = cos(yaw), sin(yaw), self.cells * self._per_cell // 2
        if np.allclose((yaw, left + middle * step - x, bottom + middle * step - y), 0, atol=1e-9):
            return sampled  # the robot's own frame
        # From this lattice's (column, row) to the robot's: x' = c (X - x) + s (Y - y), ...
        to_robot = np.array([
            [c, s, (c * (left - x) + s * (bottom - y)) / step + middle],
            [-s, c, (c * (bottom - y) - s * (left - x)) / step + middle]])
        return cv2.warpAffine(
            sampled, to_robot, sampled.shape[::-1], out,
            cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT, outside)
