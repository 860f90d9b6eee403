# SPDX-License-Identifier: Apache-2.0
"""
Scores at a stride to labels at full size, exactly, without upsampling what cannot matter.

Between four neighbouring scores, which span a cell (at 1/8 of about 8x8 pixels), a bilinear value
is a convex combination of the four. Two things follow for each cell:

- If one class is the argmax at all four corners, it is at every pixel between. No class before
  it reaches it (or it would be the argmax of a corner), and a later one that ties at all four
  goes through the same arithmetic and ties everywhere, where the first wins here as in torch.
- Elsewhere a class whose best corner is below another class's worst corner cannot win.

So only cells on class borders are interpolated, and only for the two to four classes that could
win there. The result equals upsampling and argmax but for pixels where rounding decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CELLS_AT_ONCE = 512  # keeps the working arrays (81 pixels a cell, fp32) in a core's L2 cache


@dataclass(frozen=True)
class _Axis:
    """Where the pixels of one axis lie between the scores."""

    cell: np.ndarray      # intp (pixels,): the cell a pixel lies in
    fraction: np.ndarray  # float32 (pixels,): how far into it, 0 to 1
    pixels: np.ndarray    # int32 (K, cells): each cell's pixels; a shorter cell's last repeated

    @classmethod
    def make(cls, scores: int, pixels: int, aligned: bool) -> _Axis:
        if aligned:
            position = np.arange(pixels) * ((scores - 1) / (pixels - 1))
        else:  # pixels have an extent; beyond the outermost scores' middles these go on
            position = np.clip((np.arange(pixels) + 0.5) * (scores / pixels) - 0.5, 0, scores - 1)
        cell = np.minimum(position.astype(np.intp), scores - 2)
        first = np.searchsorted(cell, np.arange(scores - 1))
        last = np.append(first[1:], pixels) - 1
        longest = int((last - first).max()) + 1
        members = np.minimum(first + np.arange(longest)[:, None], last)
        return cls(cell, (position - cell).astype(np.float32), members.astype(np.int32))


class Upsampling:
    """
    From scores of one size to labels of another. Not for two threads at once.

    Sizes are (height, width) in pixels; scores at least 2x2, and no larger than the labels.
    """

    def __init__(
        self, scores_size: tuple[int, int], labels_size: tuple[int, int], aligned: bool = True
    ) -> None:
        self._size = labels_size
        self._y, self._x = (_Axis.make(*sizes, aligned)
                            for sizes in zip(scores_size, labels_size, strict=True))

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """Return the class of each pixel, uint8 (H, W), from float32 scores (C, h, w)."""
        winner = argmax(scores)
        corner = winner[:-1, :-1]
        labels = corner.take(self._x.cell, 1).take(self._y.cell, 0)
        is_border = ((corner != winner[:-1, 1:]) | (corner != winner[1:, :-1])
                     | (corner != winner[1:, 1:]))
        rows, columns = np.nonzero(is_border)
        if len(rows):
            self._fill(scores, rows, columns, labels)
        return labels

    def _fill(
        self, scores: np.ndarray, rows: np.ndarray, columns: np.ndarray, labels: np.ndarray
    ) -> None:
        """Interpolate the cells at (rows, columns) and write their pixels into `labels`."""
        flat = scores.reshape(len(scores), -1)
        at = rows * scores.shape[2] + columns
        corners = [flat.take(at + offset, 1)  # each float32 (C, cells)
                   for offset in (0, 1, scores.shape[2], scores.shape[2] + 1)]
        low = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
        high = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
        can_win = high >= low.max(0)
        count = can_win.sum(0)
        # Cells with most candidates first: those that have a k-th one are then a leading slice.
        order = np.argsort(-count, kind='stable')
        count = count[order]
        # Row k: each cell's k-th candidate, in the order of class ids.
        candidates = np.argsort(~can_win[:, order], axis=0, kind='stable')[:count[0]]
        for start in range(0, len(order), _CELLS_AT_ONCE):
            part = slice(start, start + _CELLS_AT_ONCE)
            cells = order[part]
            pixel_y, pixel_x = self._y.pixels[:, rows[cells]], self._x.pixels[:, columns[cells]]
            fraction_y = self._y.fraction[pixel_y][:, None]  # (K, 1, cells)
            fraction_x = self._x.fraction[pixel_x]           # (K, cells)
            shape = (len(pixel_y), *fraction_x.shape)
            best = np.full(shape, -np.inf, np.float32)
            winner = np.zeros(shape, np.uint8)
            for k in range(count[start]):
                n = int(np.searchsorted(-count[part], -k))   # cells with more than k candidates
                index = candidates[k, start:start + n]
                a, b, c, d = (corner[index, cells[:n]] for corner in corners)
                top = a + (b - a) * fraction_x[:, :n]
                value = (c + (d - c) * fraction_x[:, :n] - top) * fraction_y[:, :, :n]
                value += top
                np.copyto(winner[:, :, :n], index.astype(np.uint8),
                          where=value > best[:, :, :n])
                np.maximum(best[:, :, :n], value, out=best[:, :, :n])
            labels.reshape(-1)[pixel_y[:, None] * self._size[1] + pixel_x] = winner

    def confidence(
        self, scores: np.ndarray, temperature: float = 1.0, floors: Sequence[float] = ()
    ) -> np.ndarray:
        """
        255 x softmax of the best class at each pixel, uint8 (H, W).

        Scores are divided by the temperature: before the upsampling, which is linear. 0 where the
        best class's is below its floor.
        """
        if temperature != 1:
            scores = scores * np.float32(1 / temperature)
        lowest = _cooled(floors, temperature)
        left = scores[:, :, self._x.cell]
        wide = left + (scores[:, :, self._x.cell + 1] - left) * self._x.fraction  # (C, h, W)
        out = np.empty(self._size, np.uint8)
        for cell in range(scores.shape[1] - 1):
            pixels = self._y.pixels[:, cell]
            top, bottom = wide[:, cell, None], wide[:, cell + 1, None]
            value = top + (bottom - top) * self._y.fraction[pixels][:, None]      # (C, K, W)
            out[pixels] = _certainty(value, lowest)
        return out


class NoUpsampling:
    """The same for scores that are of the labels' size already."""

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """Return the class of each pixel, uint8 (H, W), from float32 scores (C, H, W)."""
        return argmax(scores)

    def confidence(
        self, scores: np.ndarray, temperature: float = 1.0, floors: Sequence[float] = ()
    ) -> np.ndarray:
        """255 x softmax of the best class at each pixel, uint8 (H, W); 0 below its floor."""
        return _certainty(scores * np.float32(1 / temperature), _cooled(floors, temperature))


def _cooled(floors: Sequence[float], temperature: float) -> np.ndarray | None:
    """Return floors for scores that were divided by a temperature: float32 (C, 1, 1)."""
    if not floors:
        return None
    return np.array(floors, np.float32)[:, None, None] / np.float32(temperature)


def _certainty(value: np.ndarray, floors: np.ndarray | None) -> np.ndarray:
    """255 x softmax of the best of (C, h, w), uint8; 0 below its floor. Overwrites `value`."""
    best = value.max(0)
    value -= best
    unfamiliar = None
    if floors is not None:  # only the best class is not behind: is the least of both at least 0
        unfamiliar = np.minimum(value, value + best - floors).max(0) < 0
    np.exp(value, out=value)
    certainty = np.rint(255 / value.sum(0)).astype(np.uint8)
    if unfamiliar is not None:
        certainty[unfamiliar] = 0
    return certainty


def make_upsampling(
    scores_size: tuple[int, int], labels_size: tuple[int, int], aligned: bool
) -> Upsampling | NoUpsampling:
    """Return what brings scores to labels, each of a (height, width)."""
    if scores_size == labels_size:
        return NoUpsampling()
    return Upsampling(scores_size, labels_size, aligned)


def argmax(scores: np.ndarray) -> np.ndarray:
    """Return the best of (C, h, w), uint8 (h, w), of equal ones the first: faster than numpy's."""
    best = scores[0].copy()
    winner = np.zeros(best.shape, np.uint8)
    for index in range(1, len(scores)):
        np.copyto(winner, index, where=scores[index] > best)
        np.maximum(best, scores[index], out=best)
    return winner
