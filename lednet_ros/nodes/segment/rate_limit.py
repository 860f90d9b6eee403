# SPDX-License-Identifier: Apache-2.0
"""How often something may happen. `camera_io.Camera.receive` applies it, before decoding."""

from __future__ import annotations

_LONGEST_S = 1e9  # between two: with an endless time no rate that is set later would hold


class RateLimit:
    """Lets through at most so many a second on average, evenly. Times are monotonic, in s."""

    def __init__(self) -> None:
        self._due_s = float('-inf')

    def allows(self, now_s: float, max_hz: float) -> bool:
        """Whether one may pass now; 0: each may."""
        if max_hz <= 0:
            return True
        period_s = min(1 / max_hz, _LONGEST_S)
        self._due_s = min(self._due_s, now_s + period_s)  # a rate raised meanwhile holds now
        if now_s < self._due_s:
            return False
        # A camera's own rate seldom divides: what came late is made up for, by up to a period.
        self._due_s = max(self._due_s, now_s - period_s) + period_s
        return True
