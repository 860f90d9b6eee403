# SPDX-License-Identifier: Apache-2.0
"""What is known of each cell: log odds that add up, sighting by sighting, until they are old."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from lednet_ros.common.errors import ConfigError

FREE_CELL, OCCUPIED_CELL, UNKNOWN_CELL = 0, 100, -1  # as in nav_msgs/OccupancyGrid

_MOST_PROBABLE = 0.97  # of any cell: else what was seen for long would stay for as long


@dataclass(frozen=True)
class Belief:
    """
    How sightings become the probability that a cell is occupied. Checked when made.

    `hit` is that of one certain sighting of an obstacle or of blocked ground, `miss` that of one
    of free ground; a sighting that is less certain counts for its share of the log odds. A cell
    is occupied once it is more probable than `occupied_above`, until it is no longer more
    probable than not; free while less probable than `free_below`; else unknown.
    """

    hit: float = 0.9
    miss: float = 0.3
    occupied_above: float = 0.7
    free_below: float = 0.25

    def __post_init__(self) -> None:
        if not 0.5 <= self.occupied_above < self.hit <= _MOST_PROBABLE:
            raise ConfigError(
                f'hit is {self.hit:g} and occupied_above {self.occupied_above:g}: give 0.5 <= '
                f'occupied_above < hit <= {_MOST_PROBABLE:g}, so that an obstacle shows when it '
                'is first seen')
        if not 1 - _MOST_PROBABLE <= self.free_below < 0.5 or not 0 < self.miss < 0.5:
            raise ConfigError(
                f'miss is {self.miss:g} and free_below {self.free_below:g}: give a miss between '
                f'0 and 0.5, and {1 - _MOST_PROBABLE:g} <= free_below < 0.5')


class Evidence:
    """
    Of square cells, row by row. Evidence is kept for `decay_s` after it was last seen.

    0: none is kept, and one sighting decides.
    """

    def __init__(self, cells: int, decay_s: float, belief: Belief | None = None) -> None:
        belief = belief or Belief()
        self._cells, self._decay_s = cells, decay_s
        self._hit, self._miss, self._occupied, self._free, self._most = (
            np.float32(log(p / (1 - p))) for p in (
                belief.hit, belief.miss, belief.occupied_above, belief.free_below,
                _MOST_PROBABLE))
        # Log odds of being occupied, s until they are forgotten, 1 while it counts as occupied.
        self._planes = np.zeros((3, cells, cells), np.float32)
        self._spare = np.zeros_like(self._planes)
        self._stamp_s: float | None = None
        self.apart_s = 0.0  # of the last two sightings, where that is too long to remember
        self.values = np.full((cells, cells), UNKNOWN_CELL, np.int8)
        """What the last `take` made of it: FREE_CELL, OCCUPIED_CELL or UNKNOWN_CELL."""

    def roll(self, dx: int, dy: int) -> None:
        """Move by some cells along x and y; what comes in is unknown."""
        n = self._cells
        if not (dx or dy):
            return
        self._spare[:] = 0
        if abs(dx) < n and abs(dy) < n:
            to, from_ = (tuple(slice(max(0, s * d), n + min(0, s * d)) for d in (dy, dx))
                         for s in (-1, 1))
            self._spare[(slice(None), *to)] = self._planes[(slice(None), *from_)]
        self._planes, self._spare = self._spare, self._planes

    def age(self, stamp_s: float, may_repeat: bool = False) -> None:
        """
        Forget what is too old at a stamp, and all when time jumped.

        All, too, when time stands still, as without stamps, unless the stamp `may_repeat`.
        """
        elapsed_s = stamp_s - self._stamp_s if self._stamp_s is not None else 0.0
        self._stamp_s = stamp_s
        self.apart_s = elapsed_s if elapsed_s >= self._decay_s > 0 else 0.0
        if not (0 < elapsed_s < self._decay_s or (may_repeat and elapsed_s == 0)):
            self._planes[:] = 0
            return
        left = self._planes[1]
        left -= np.float32(elapsed_s)
        self._planes *= np.greater(left, 0)

    def forget(self) -> None:
        """Take nothing for known any more."""
        self._stamp_s = None
        self._planes[:] = 0

    def take(
        self, free: np.ndarray, occupied: np.ndarray, hidden: np.ndarray,
        certainty: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Add a sighting; return `values`.

        Bool (cells, cells): seen to be free, seen to be occupied, which wins, and in view but
        hidden or unknown. `certainty` is float32 of that shape, 0 to 1; None: 1.
        """
        odds, left, held = self._planes
        if self._decay_s:
            seen = free | occupied
            # What is in view and not known to be free any more is not free any more.
            np.maximum(odds, 0, out=odds, where=hidden | occupied)
            step = np.where(occupied, self._hit, self._miss)
            np.add(odds, step if certainty is None else step * certainty, out=odds, where=seen)
            np.clip(odds, -self._most, self._most, out=odds)
            np.copyto(left, np.float32(self._decay_s), where=seen)
            held[:] = (odds > self._occupied) | ((held > 0) & (odds > 0))
            free, occupied = odds < self._free, held > 0
        self.values[:] = UNKNOWN_CELL
        np.copyto(self.values, FREE_CELL, where=free)
        np.copyto(self.values, OCCUPIED_CELL, where=occupied)
        return self.values
