# SPDX-License-Identifier: Apache-2.0
"""Messages of two rates that belong together: the nearest in time, within a tolerance."""

from __future__ import annotations

from typing import Any, NamedTuple

_BACK_NS = 1_000_000_000
HELD = 30  # of each kind: a depth image waits for labels as long as a network takes


class Pair(NamedTuple):
    """What belongs together."""

    first: Any
    second: Any


class NearestJoin:
    """
    Pairs first ones, labels, with the nearest second one, depth. The newest pair wins.

    A first one that is passed by, or that no second one is near to, is `unmatched`. Near is within
    `tolerance_ms`: semantic_cloud_node's sync_tolerance_ms.
    """

    def __init__(self) -> None:
        self._firsts: dict[int, Any] = {}
        self._seconds: dict[int, Any] = {}
        self.unmatched = 0
        self.apart_ms: float | None = None
        """How far the nearest second one was from the last first one that was given up."""

    def put_first(self, stamp_ns: int, message: Any, tolerance_ms: float) -> Pair | None:
        """Take a first one; give the pair that is complete."""
        self.unmatched += stamp_ns in self._firsts
        self._firsts[stamp_ns] = message
        while len(self._firsts) > HELD:
            self._give_up(next(iter(self._firsts)))
        return self._pair(tolerance_ms)

    def put_second(self, stamp_ns: int, message: Any, tolerance_ms: float) -> Pair | None:
        """Take a second one; give the pair that is complete."""
        # They come in order: what is much later is of before time jumped back, or of a stamp that
        # was wrong. With it here no first one would wait for its partner.
        for later in [other for other in self._seconds if other > stamp_ns + _BACK_NS]:
            del self._seconds[later]
        self._seconds[stamp_ns] = message
        while len(self._seconds) > HELD:
            del self._seconds[next(iter(self._seconds))]
        return self._pair(tolerance_ms)

    def clear(self) -> None:
        """Forget what waits: it is unmatched."""
        self.unmatched += len(self._firsts)
        self._firsts.clear()
        self._seconds.clear()

    def _pair(self, tolerance_ms: float) -> Pair | None:
        if not self._seconds:
            return None
        newest = max(self._seconds)
        for stamp_ns in sorted(self._firsts, reverse=True):
            nearest = self._nearest(stamp_ns)
            if abs(nearest - stamp_ns) <= tolerance_ms * 1e6:
                return self._take(stamp_ns, nearest)
            if newest > stamp_ns + tolerance_ms * 1e6:  # no nearer one can come
                self._give_up(stamp_ns)
        return None

    def _take(self, first_ns: int, second_ns: int) -> Pair:
        pair = Pair(self._firsts.pop(first_ns), self._seconds[second_ns])
        self.apart_ms = None
        for older in [stamp for stamp in self._firsts if stamp < first_ns]:
            del self._firsts[older]
            self.unmatched += 1
        for older in [stamp for stamp in self._seconds if stamp < second_ns]:
            del self._seconds[older]
        return pair

    def _give_up(self, stamp_ns: int) -> None:
        del self._firsts[stamp_ns]
        self.unmatched += 1
        if self._seconds:
            self.apart_ms = abs(self._nearest(stamp_ns) - stamp_ns) / 1e6

    def _nearest(self, stamp_ns: int) -> int:
        return min(self._seconds, key=lambda other: abs(other - stamp_ns))
