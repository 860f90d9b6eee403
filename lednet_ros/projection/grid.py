# SPDX-License-Identifier: Apache-2.0
"""The ground around the robot as cells: free, occupied or unknown, forgotten as time goes by."""

from __future__ import annotations

from math import ceil, cos, sin

import cv2
import numpy as np

from lednet_ros.projection.traversability import BLOCKED, FREE, OUT
from lednet_ros.projection.view import View, resample

FREE_CELL, OCCUPIED_CELL, UNKNOWN_CELL = 0, 100, -1  # as in nav_msgs/OccupancyGrid

_FREE_STEP = np.float32(0.34)  # of evidence: an obstacle is gone when three frames see free ground
_NODES_APART_M = 0.05  # at most, so that nothing lies between them unseen


def nodes_per_cell(resolution: float) -> int:
    """Give how many steps of the lattice make a cell's side: an even number."""
    return 2 * max(1, ceil(resolution / 2 / _NODES_APART_M - 1e-6))


class Sampled:
    """Codes of the ground around the robot, denser than cells, of one view.

    A lattice holds each cell's middle, edges and corners, of large cells more; (k n + 1) squared
    nodes of n squared cells, k to a cell's side, in the robot's frame, rows along y.
    """

    def __init__(self, view: View, resolution: float, cells: int) -> None:
        k = nodes_per_cell(resolution)
        line = ((np.arange(k * cells + 1) - k * cells // 2) * resolution / k).astype(np.float32)
        self._map = view.map_of_ground(*np.meshgrid(line, line))
        self._codes = np.empty((len(line), len(line)), np.uint8)

    def look(self, codes: np.ndarray) -> np.ndarray:
        """Give the lattice's codes, uint8, to be used again; OUT where the image does not see."""
        resample(codes, self._map, self._codes, OUT)
        return self._codes


class Grid:
    """Cells around the robot in a frame that stays, or in the robot's own.

    A cell is occupied as soon as an obstacle stands in it or a part of it is blocked ground;
    free when all of it is seen to be free, and no longer when a part of it is hidden or unknown
    again. Evidence lasts `decay_s` after it was last seen, at most; 0: none is kept from one
    frame to the next. The grid rolls along with the robot. A cell has `per_cell` lattice steps.
    """

    def __init__(self, resolution: float, cells: int, decay_s: float, per_cell: int = 0) -> None:
        self.resolution = resolution
        self.cells = cells
        self._per_cell = per_cell or nodes_per_cell(resolution)
        self._window = np.ones((self._per_cell + 1,) * 2, np.uint8)
        self._decay_s = decay_s
        self._evidence = np.zeros((cells, cells), np.float32)  # -1 free, 0 unknown, 1 occupied
        self._spare = np.zeros_like(self._evidence)
        self._free, self._occupied = np.empty((2, cells, cells), bool)
        self._corner = np.zeros(2, int)  # of the grid, in cells from the frame's origin
        self._stamp_s: float | None = None
        self._lattice, self._dilated, self._blocked = np.empty(
            (3, self._per_cell * cells + 1, self._per_cell * cells + 1), np.uint8)
        self.values = np.full((cells, cells), UNKNOWN_CELL, np.int8)
        """What the last `add` made of it: row by row from the corner, as OccupancyGrid has it."""

    @property
    def origin(self) -> tuple[float, float]:
        """Where the first cell's outer corner is in the frame, in m."""
        x, y = self._corner * self.resolution
        return float(x), float(y)

    def add(
        self, sampled: np.ndarray, contacts: np.ndarray, stamp_s: float,
        x: float = 0.0, y: float = 0.0, yaw: float = 0.0,
    ) -> np.ndarray:
        """Take a frame, and where the robot is in the grid's frame; give `values`.

        `sampled` are the lattice's codes and `contacts` (N, 2) where obstacles stand, in the
        robot's frame.
        """
        self._roll(np.round(np.array([x, y]) / self.resolution).astype(int) - self.cells // 2)
        self._fade(stamp_s)
        sampled = self._placed(sampled, x, y, yaw)
        # Of a cell's nodes the largest code; FREE is the least of all.
        cv2.dilate(sampled, self._window, self._dilated)
        middles = slice(self._per_cell // 2, None, self._per_cell)
        largest = self._dilated[middles, middles]
        free = np.equal(largest, FREE, out=self._free)
        # What is in view and hidden or unknown now is not free any more.
        not_known = np.greater(largest, OUT, out=self._occupied)
        np.copyto(self._evidence, np.maximum(self._evidence, 0, out=self._spare), where=not_known)
        np.equal(sampled, BLOCKED, out=self._blocked.view(bool))
        cv2.dilate(self._blocked, self._window, self._dilated)
        occupied = np.not_equal(self._dilated[middles, middles], 0, out=self._occupied)
        turned = contacts @ np.array([[cos(yaw), sin(yaw)], [-sin(yaw), cos(yaw)]]) + (x, y)
        column, row = (np.floor(turned / self.resolution).astype(int) - self._corner).T
        inside = (column >= 0) & (row >= 0) & (column < self.cells) & (row < self.cells)
        occupied[row[inside], column[inside]] = True

        evidence = self._evidence
        np.subtract(evidence, _FREE_STEP, out=self._spare)
        np.maximum(self._spare, -1, out=self._spare)
        np.copyto(evidence, self._spare, where=free)
        np.copyto(evidence, 1, where=occupied)
        self.values[:] = UNKNOWN_CELL
        np.copyto(self.values, FREE_CELL, where=np.less(evidence, 0, out=free))
        np.copyto(self.values, OCCUPIED_CELL, where=np.greater(evidence, 0, out=occupied))
        return self.values

    def _roll(self, corner: np.ndarray) -> None:
        """Move the grid to a corner; what comes in is unknown."""
        (dx, dy), n = corner - self._corner, self.cells
        self._corner = corner
        if not (dx or dy):
            return
        self._spare[:] = 0
        if abs(dx) < n and abs(dy) < n:
            to, from_ = (tuple(slice(max(0, s * d), n + min(0, s * d)) for d in (dy, dx))
                         for s in (-1, 1))
            self._spare[to] = self._evidence[from_]
        self._evidence, self._spare = self._spare, self._evidence

    def forget(self) -> None:
        """Take nothing for known any more."""
        self._stamp_s = None
        self._evidence[:] = 0

    def _fade(self, stamp_s: float) -> None:
        """Let evidence fade; all of it when time stands still, as without stamps, or jumped."""
        elapsed_s = stamp_s - self._stamp_s if self._stamp_s is not None else 0.0
        self._stamp_s = stamp_s
        if not 0 < elapsed_s < self._decay_s:
            self._evidence[:] = 0
            return
        faded = np.float32(elapsed_s / self._decay_s)
        np.abs(self._evidence, out=self._spare)
        self._spare -= faded
        np.maximum(self._spare, 0, out=self._spare)
        np.copysign(self._spare, self._evidence, out=self._evidence)

    def _placed(self, sampled: np.ndarray, x: float, y: float, yaw: float) -> np.ndarray:
        """Turn and move a lattice from the robot's frame to this grid's; nodes to the nearest."""
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
            sampled, to_robot, sampled.shape[::-1], self._lattice,
            cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT, OUT)
