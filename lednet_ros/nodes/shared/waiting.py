# SPDX-License-Identifier: Apache-2.0
"""
What has to wait for something that may still come, in order and not for ever.

camera_rounds.py has label images wait here for the transform of their stamp, up to tf_timeout_s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar('T')

HELD = 30  # the newest


class WaitingLine(Generic[T]):
    """
    First in, first out. Each waits until its time is up by all of several clocks.

    So neither simulated time that runs fast, nor slowly, cuts it short. Nobody waits in a call:
    `work` is to be called again.
    """

    def __init__(self, now_s: Callable[[], Sequence[float]]) -> None:
        self._now_s = now_s
        self._items: deque[tuple[T, tuple[float, ...]]] = deque()

    def put(self, item: T, timeout_s: float) -> None:
        """Add an item, which may wait so long from now on."""
        self._items.append((item, tuple(now_s + timeout_s for now_s in self._now_s())))

    def work(self, handle: Callable[[T, bool], bool]) -> None:
        """
        Have items handled, the oldest first, as long as `handle(item, may_wait)` is done.

        One that may wait no longer, or has too many behind it, is done with in any case.
        """
        while self._items:
            item, until_s = self._items[0]
            may_wait = len(self._items) <= HELD and any(
                now_s < end_s for now_s, end_s in zip(self._now_s(), until_s, strict=True))
            if not handle(item, may_wait) and may_wait:
                return
            self._items.popleft()

    def clear(self) -> int:
        """Forget what waits; return how many that were."""
        count = len(self._items)
        self._items.clear()
        return count

    def __len__(self) -> int:
        return len(self._items)
