# SPDX-License-Identifier: Apache-2.0
"""
Where obstacles stand: the ground contact of each, found along bearings from below the camera.

A vertical plane through the camera holds one bearing of the ground and all that stands on it,
whatever the camera's roll and distortion, while an image's column does so only for a level
camera. So labels are resampled to columns that are bearings and rows that are depression angles,
nearest first. Going up a column, an obstacle that follows ground touches it there. One that
follows another obstacle is hidden at its foot, and stands nobody knows where.
"""

from __future__ import annotations

import cv2
import numpy as np

from lednet_ros.projection.traversability import OBSTACLE, OUT, UNKNOWN
from lednet_ros.projection.view import NOWHERE, View, resample

# Rows are half a pixel apart where there is ground, which is what a contact's range depends on;
# above it two pixels, for the upper parts of what stands there.
_GROUND_ROW, _UPPER_ROW = 0.5, 2.0
_MOST_COLUMNS, _MOST_GROUND_ROWS, _MOST_UPPER_ROWS = 2048, 1024, 512
# A column along an obstacle's upright edge leaves and meets its jagged pixels again far above the
# foot: it takes the nearest contact that the obstacle has beside it, in the next column or, if
# that is this far below (in entries, two a row), the one after. More would eat into faces that
# are seen nearly edge-on.
_BESIDE = (-2, -1, 1, 2)
_FAR_BELOW = 24
_LOWEST_ROWS = (0, 1, 2, 4)  # of an obstacle: which tell how certain it is
_FULL_CIRCLE_GAP = np.radians(10)  # a wider gap in the bearings is outside the view


class Contacts:
    """Finds contacts in images of codes, of one view."""

    def __init__(self, view: View) -> None:
        self._view = view
        some = view.some_directions
        self._first, span = _sector(np.arctan2(some[:, 1], some[:, 0]))
        columns = int(np.clip(np.ceil(span / view.pixel_rad), 16, _MOST_COLUMNS))
        self._step = span / columns
        self._is_circle = span > 2 * np.pi - 1e-6
        bearings = self._first + (np.arange(columns) + 0.5) * self._step
        self._cos, self._sin = np.cos(bearings), np.sin(bearings)
        depressions = self._rows(np.arctan2(-some[:, 2], np.hypot(some[:, 0], some[:, 1])))
        x, y, z = (np.multiply.outer(a, b).astype(np.float32) for a, b in (
            (np.cos(depressions), self._cos), (np.cos(depressions), self._sin),
            (-np.sin(depressions), np.ones(columns))))
        self._map = view.map_of(x, y, z)
        self._depressions = depressions
        rows = len(depressions)
        # A column's entry is 2 i + 1 from row i on, where a contact lies between it and the row
        # before, and 2 i from where one does not.
        between = np.concatenate([depressions[:1], (depressions[1:] + depressions[:-1]) / 2])
        with np.errstate(divide='ignore'):
            ranges = view.height / np.tan(between)
        ranges[(between <= 0) | (ranges > view.max_range * (1 + 1e-6))] = np.nan
        self._range_of_entry = np.full(2 * rows, np.nan, np.float32)
        self._range_of_entry[1::2] = ranges
        self._row_entries = (2 * np.arange(rows, dtype=np.int16))[:, None]
        # One row more, in front: what comes before the first is beside the picture.
        self._codes = np.full((rows + 1, columns), OUT, np.uint8)
        self._flags = np.empty((3, rows, columns), bool)
        self._entries = np.empty((rows, columns), np.int16)
        self._begins = np.empty((2, 0), int)  # rows and columns where obstacles begin

    def look(self, codes: np.ndarray) -> None:
        """Take the next image of codes, uint8 (H, W)."""
        now, before = self._codes[1:], self._codes[:-1]
        resample(codes, self._map, now, OUT)
        news, stands, other = self._flags
        # A run of what is not ground, after ground: its first row is where it stands. An
        # obstacle after what is unknown goes on with what that had: it may stand there already.
        np.less_equal(before, OUT, out=stands)
        np.greater(now, OUT, out=other)
        stands &= other
        np.greater_equal(now, OBSTACLE, out=other)
        other &= np.equal(before, UNKNOWN, out=news)
        np.logical_not(other, out=other)
        other &= np.not_equal(now, before, out=news)
        np.multiply(other, self._row_entries, out=self._entries)
        self._entries += stands
        for nearer, row in zip(self._entries[:-1], self._entries[1:], strict=True):
            np.maximum(nearer, row, out=row)
        np.greater_equal(now, OBSTACLE, out=other)
        other &= np.less(before, OBSTACLE, out=news)
        begins = np.flatnonzero(other)
        rows, columns = begins // now.shape[1], begins % now.shape[1]
        has_contact = (self._entries[rows, columns] & 1) == 1
        self._begins = np.stack([rows[has_contact], columns[has_contact]])
        self._take_nearest_beside()

    def _take_nearest_beside(self) -> None:
        now, entries, (rows, columns) = self._codes[1:], self._entries, self._begins
        own = nearest = entries[rows, columns]
        is_alone, touches_other = np.ones(len(rows), bool), np.zeros(len(rows), bool)
        is_hidden = np.zeros(len(rows), bool)
        for shift in _BESIDE:
            beside = np.clip(columns + shift, 0, entries.shape[1] - 1)
            there = entries[rows, beside]
            is_same = now[rows, beside] == now[rows, columns]
            touches_other |= ~is_same & (now[rows, beside] >= OBSTACLE)
            if abs(shift) == 1:
                is_hidden |= is_same & ((there & 1) == 0) & (own > there)
            is_same &= (there & 1) == 1
            is_alone &= ~is_same
            if abs(shift) > 1:
                is_same &= own - there > _FAR_BELOW
            nearest = np.where(is_same, np.minimum(nearest, there), nearest)
        # A sliver at another obstacle's edge, or at an edge of one whose foot is hidden: its rest,
        # foot included, is hidden there, and begins below what seems to be its contact.
        nearest = np.where((is_alone & touches_other) | is_hidden, own - 1, nearest)
        moved = np.flatnonzero(nearest != own)
        if not moved.size:
            return
        # All that has the old entry in such a column gets the new one.
        touched, place = np.unique(columns[moved], return_inverse=True)
        table = np.repeat(np.arange(2 * len(entries), dtype=np.int16)[:, None], len(touched), 1)
        table[own[moved], place] = nearest[moved]
        entries[:, touched] = table[entries[:, touched], np.arange(len(touched))]

    def points(self) -> np.ndarray:
        """Return the obstacles' contacts, float64 (N, 2), x and y in the robot's frame."""
        rows, columns = self._begins
        ranges = self._range_of_entry[self._entries[rows, columns]]
        known = np.isfinite(ranges)
        ranges, columns = ranges[known], columns[known]
        return np.column_stack([self._view.x + ranges * self._cos[columns],
                                self._view.y + ranges * self._sin[columns]])

    def certainty(self, confidence: np.ndarray) -> np.ndarray:
        """
        Return how certain the obstacles of `points` are, uint8 (N,), of the image's confidences.

        The largest of an obstacle's lowest pixels, as the very edge of a class is never certain.
        """
        rows, columns = self._begins
        known = np.isfinite(self._range_of_entry[self._entries[rows, columns]])
        rows, columns = rows[known], columns[known]
        now = self._codes[1:]
        found = np.zeros(len(rows), np.uint8)
        for above in _LOWEST_ROWS:
            there = np.minimum(rows + above, len(now) - 1)
            u, v = self._map[there, columns].T.astype(int)
            same = (now[there, columns] == now[rows, columns]) & (u >= 0) & (v >= 0)
            found[same] = np.maximum(found[same], confidence[v[same], u[same]])
        return found

    def map_of_pixels(self) -> np.ndarray:
        """Return where each pixel lies in columns and rows, int16 (H, W, 2), for `of_pixels`."""
        x, y, z = np.moveaxis(self._view.directions, 2, 0)
        with np.errstate(invalid='ignore'):
            column = np.mod(np.arctan2(y, x) - self._first, 2 * np.pi) / self._step - 0.5
            if self._is_circle:
                column = np.mod(column + 0.5, self._entries.shape[1]) - 0.5
            depression = np.arctan2(-z, np.hypot(x, y))
        # Nearer than the first row: nowhere; higher than the last one: nowhere.
        row = np.interp(-depression, -self._depressions, np.arange(len(self._depressions)),
                        left=NOWHERE, right=NOWHERE).astype(np.float32)
        lost = ~np.isfinite(x)
        column[lost] = row[lost] = NOWHERE
        return cv2.convertMaps(column.astype(np.float32), row, cv2.CV_16SC2,
                               nninterpolation=True)[0]

    def of_pixels(
        self, pixels: np.ndarray, codes: np.ndarray, entries: np.ndarray, same: np.ndarray,
    ) -> None:
        """
        Fill `entries`, int16 (H, W), for `ranges`; 0, for none, where a pixel is no obstacle.

        `pixels` are as from `map_of_pixels`, `codes` what was looked at. 0 as well at an edge
        where the column shows something else than the pixel. `same` is room, uint8 (H, W).
        """
        resample(self._codes[1:], pixels, same, OUT)
        np.equal(same, codes, out=same.view(bool))
        resample(self._entries, pixels, entries, 0)
        entries *= same
        entries *= np.greater_equal(codes, OBSTACLE, out=same.view(bool))

    def ranges(self, entries: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return the range in m of the contact of each entry (intp), float32; NaN for none."""
        return np.take(self._range_of_entry, entries, out=out, mode='clip')

    def _rows(self, depressions: np.ndarray) -> np.ndarray:
        """Return the rows' depression angles in rad, falling: the ground's, then those above."""
        view = self._view
        pixel = view.pixel_rad
        lowest = float(depressions.max()) + pixel
        if view.map_of(*(np.full((1, 1), v, np.float32) for v in (0, 0, -1)))[0, 0, 0] != NOWHERE:
            lowest = np.pi / 2  # the point below the camera is in view
        nearest = np.arctan2(view.height, view.min_range)
        lowest = min(lowest, nearest, np.pi / 2)
        farthest = np.arctan2(view.height, view.max_range)
        highest = max(-np.pi / 2, min(float(depressions.min()), farthest) - pixel)
        count = np.clip(np.ceil((lowest - farthest) / (_GROUND_ROW * pixel)), 2,
                        _MOST_GROUND_ROWS)
        upper = np.clip(np.ceil((farthest - highest) / (_UPPER_ROW * pixel)), 1,
                        _MOST_UPPER_ROWS)
        return np.concatenate([np.linspace(lowest, farthest, int(count)),
                               np.linspace(farthest, highest, int(upper) + 1)[1:]])


def _sector(bearings: np.ndarray) -> tuple[float, float]:
    """Return the first bearing and the span, in rad, of the sector that holds them all."""
    bearings = np.sort(bearings)
    gaps = np.diff(bearings, append=bearings[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    if gaps[widest] < _FULL_CIRCLE_GAP:
        return -np.pi, 2 * np.pi
    first = bearings[(widest + 1) % len(bearings)]
    return float(first), float(2 * np.pi - gaps[widest])
