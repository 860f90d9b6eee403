# SPDX-License-Identifier: Apache-2.0
"""Ground points, grids and scans as messages. Their memory is used again: publish, then forget."""

from __future__ import annotations

import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from lednet_ros.projection.grid import UNKNOWN_CELL, Grid


class PointsMessage:
    """
    A PointCloud2 with x, y, z and rgb, and fields of a byte each, made once for a size.

    `points` are to be filled in place: float32 (height, width, F), the bytes in the last of F.
    """

    def __init__(self, height: int, width: int, byte_fields: Sequence[str] = ()) -> None:
        floats = ('x', 'y', 'z', 'rgb')
        self._fields = [PointField(name=name, offset=offset, datatype=datatype, count=1)
                        for name, offset, datatype in (
            *((name, 4 * i, PointField.FLOAT32) for i, name in enumerate(floats)),
            *((name, 16 + i, PointField.UINT8) for i, name in enumerate(byte_fields)))]
        self._floats = len(floats) + bool(byte_fields)
        self._resize(height, width)

    def parts(self, shapes: Sequence[tuple[int, int]], is_organised: bool) -> list[np.ndarray]:
        """
        Return what is to be filled of each of several images, float32 (H, W, F).

        The message is organised as the one image there is, or has the points of all in a row.
        """
        counts = [height * width for height, width in shapes]
        shape = shapes[0] if is_organised else (1, sum(counts))
        if self.points.shape[:2] != shape:
            self._resize(*shape)
        points = self.points.reshape(-1, self._floats)
        return [points[end - count:end].reshape(*shape, self._floats) for end, count, shape in zip(
            accumulate(counts), counts, shapes, strict=True)]

    def with_header(self, header: Header) -> PointCloud2:
        """Return the message."""
        self.message.header = header
        return self.message

    def _resize(self, height: int, width: int) -> None:
        step = 4 * self._floats
        self.message = PointCloud2(
            height=height, width=width, point_step=step, row_step=step * width, is_dense=False,
            fields=self._fields)
        self.message.data = array.array('B', bytes(step * height * width))
        # Of the message's own array: not every version of rclpy keeps the one that it is given.
        self.points = np.frombuffer(self.message.data, np.float32).reshape(
            height, width, self._floats)


class GridMessage:
    """An OccupancyGrid, made once for a size and filled in place."""

    def __init__(self, cells: int, resolution: float) -> None:
        self.message = OccupancyGrid()
        self.message.info.width = self.message.info.height = cells
        self.message.info.resolution = resolution
        self.message.info.origin.orientation.w = 1.0
        self.message.data = array.array('b', bytes(cells * cells))
        # The message's own: see above.
        self._values = np.frombuffer(self.message.data, np.int8).reshape(cells, cells)
        self._values[:] = UNKNOWN_CELL

    def fill(self, header: Header, grid: Grid) -> OccupancyGrid:
        """Return the grid as a message."""
        self.message.header = header
        self.message.info.map_load_time = header.stamp
        origin = self.message.info.origin.position
        origin.x, origin.y = grid.origin
        self._values[:] = grid.values
        return self.message


class Beams(Protocol):
    """Where a scan's beams go."""

    angle_increment: float
    angle_min: float
    beams: int
    range_min: float
    range_max: float


def make_scan(header: Header, free_space: Beams, ranges: np.ndarray) -> LaserScan:
    """Return a scan of float32 (beams,) as a message."""
    increment = free_space.angle_increment
    message = LaserScan(
        header=header, angle_min=free_space.angle_min, angle_increment=increment,
        angle_max=free_space.angle_min + increment * (free_space.beams - 1),
        range_min=free_space.range_min, range_max=free_space.range_max)
    message.ranges = array.array('f', ranges.tobytes())
    return message
