# SPDX-License-Identifier: Apache-2.0
"""Messages of several topics that belong together, by equal stamps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HELD = 10         # of the first topic, images, for partners that are late
HELD_STAMPS = 60  # in all: CameraInfos come before the network has seen their image


class StampJoin:
    """Holds what has come until its partners come. Sets leave in the order of their stamps."""

    def __init__(self) -> None:
        self._held: dict[int, dict[str, Any]] = {}
        self._first = ''
        self.unmatched = 0  # of the first topic, whose partners never came

    def put(
        self, name: str, stamp_ns: int, message: Any, names: Collection[str],
    ) -> dict[str, Any] | None:
        """Take a message; give the set, by topic, once `names` are all there."""
        held = self._held.setdefault(stamp_ns, {})
        self._first = first = next(iter(names))
        self.unmatched += name == first and name in held  # the same stamp again
        held[name] = message
        if held.keys() >= set(names):
            # Each topic comes in order, so what is older waits in vain.
            for older in [stamp for stamp in self._held if stamp <= stamp_ns]:
                self.unmatched += older != stamp_ns and first in self._held[older]
                del self._held[older]
            return held
        waiting = sum(first in parts for parts in self._held.values())
        while waiting > HELD or len(self._held) > HELD_STAMPS:
            lost = first in self._held.pop(next(iter(self._held)))
            self.unmatched += lost
            waiting -= lost
        return None

    def clear(self) -> None:
        """Forget what waits: it is unmatched."""
        self.unmatched += sum(self._first in parts for parts in self._held.values())
        self._held.clear()
