# SPDX-License-Identifier: Apache-2.0
"""Ground points, grids and scans as messages. Their memory is used again: publish, then forget."""

from __future__ import annotations

import array
from typing import Protocol

import numpy as np
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from lednet_ros.projection.grid import UNKNOWN_CELL, Grid


class PointsMessage:
    """An organised PointCloud2 with x, y, z and rgb, made once for a size and filled in place."""

    def __init__(self, height: int, width: int) -> None:
        self.message = PointCloud2(
            height=height, width=width, point_step=16, row_step=16 * width, is_dense=False,
            fields=[PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                    for i, name in enumerate(('x', 'y', 'z', 'rgb'))])
        self.message.data = array.array('B', bytes(16 * height * width))
        # Of the message's own array: not every version of rclpy keeps the one that it is given.
        self.points = np.frombuffer(self.message.data, np.float32).reshape(height, width, 4)
        self.points[:] = np.nan


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
