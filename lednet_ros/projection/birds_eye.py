# SPDX-License-Identifier: Apache-2.0
"""The ground seen from above, for people: a grid's cells, how far is free, range rings."""

from __future__ import annotations

import cv2
import numpy as np

from lednet_ros.projection.grid import FREE_CELL, OCCUPIED_CELL

UNKNOWN, FREE, OCCUPIED = (32, 35, 42), (58, 130, 84), (232, 96, 64)  # RGB
CAPTION = 'ground: green free, red occupied'
_RING, _EDGE, _ROBOT = (86, 92, 104), (240, 242, 245), (250, 204, 70)
_RING_EVERY_M = 5.0
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def birds_eye(
    cells: np.ndarray, origin: tuple[float, float], resolution: float, reach: float,
    height: int, width: int, beams: np.ndarray | None = None,
) -> np.ndarray:
    """
    Draw a grid of the robot's frame as uint8 (height, width, 3) RGB, forward upwards.

    `cells` are int8 (rows along y, columns along x) as nav_msgs has them, from the corner
    `origin`; what is up to `reach` m ahead is shown. `beams` are the ends of free ground, float
    (N, 2), NaN where a beam has none.
    """
    scale = (height - 12) / reach  # pixels a metre
    middle, bottom = width / 2, height - 8

    def at(x: float, y: float) -> tuple[int, int]:
        return round(middle - y * scale), round(bottom - x * scale)

    colors = np.full((*cells.shape, 3), UNKNOWN, np.uint8)
    colors[cells == FREE_CELL] = FREE
    colors[cells == OCCUPIED_CELL] = OCCUPIED
    # A cell (column, row) of the grid lies at x = origin + (column + 1/2) resolution.
    step = resolution * scale
    to_picture = np.array([
        [0.0, -step, middle - (origin[1] + resolution / 2) * scale],
        [-step, 0.0, bottom - (origin[0] + resolution / 2) * scale]])
    picture = cv2.warpAffine(colors, to_picture, (width, height), flags=cv2.INTER_NEAREST,
                             borderValue=UNKNOWN)
    for ring in np.arange(_RING_EVERY_M, reach + 0.1, _RING_EVERY_M):
        cv2.circle(picture, at(0, 0), round(ring * scale), _RING, 1, cv2.LINE_AA)
        cv2.putText(picture, f'{ring:g} m', (round(middle) + 4, at(ring, 0)[1] + 11), _FONT, 0.33,
                    _EDGE, 1, cv2.LINE_AA)
    for x, y in beams if beams is not None else ():
        if np.isfinite(x):
            cv2.circle(picture, at(x, y), 1, _EDGE, cv2.FILLED)
    tip, left, right = at(8 / scale, 0), at(-6 / scale, 6 / scale), at(-6 / scale, -6 / scale)
    cv2.fillPoly(picture, [np.array([tip, left, right])], _ROBOT, cv2.LINE_AA)
    return picture
