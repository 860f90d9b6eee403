# SPDX-License-Identifier: Apache-2.0
"""The outcome of each camera's frames: every one is segmented, dropped or rejected, once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

Cause = Literal['rate_limit', 'newer', 'deactivated', 'abandoned']

CAUSES: dict[Cause, str] = {  # why a frame was dropped, in words for people
    'rate_limit': 'sooner than max_rate_hz allows',
    'newer': 'a newer one came before its turn',
    'deactivated': 'waiting when the node was deactivated',
    'abandoned': 'in the network for too long after the node was deactivated',
}


@dataclass(frozen=True)
class CameraCounts:
    """A camera's record at one moment. Times are of the monotonic clock, in seconds."""

    received: int = 0
    segmented: int = 0
    dropped_rate_limit: int = 0
    dropped_newer: int = 0
    dropped_deactivated: int = 0
    dropped_abandoned: int = 0
    rejected: int = 0
    odd_stamps: int = 0
    last_rejection: str = ''
    last_odd_stamp: str = ''
    ends_in_rejection: bool = False  # of those segmented or rejected, the last was rejected
    last_received_s: float | None = None
    size: str = ''                   # 'WIDTHxHEIGHT' of the last image
    encoding: str = ''

    @property
    def dropped_by_cause(self) -> dict[str, int]:
        """How many were dropped for each of CAUSES."""
        return {cause: getattr(self, f'dropped_{cause}') for cause in CAUSES}

    @property
    def dropped(self) -> int:
        """How many were dropped for any cause."""
        return sum(self.dropped_by_cause.values())


class CameraTally:
    """Counts for one camera; any thread ticks, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = CameraCounts()

    def received(self, now_s: float) -> None:
        """Count an image that reached the callback: it has one of the three outcomes below."""
        with self._lock:
            self._counts = replace(
                self._counts, received=self._counts.received + 1, last_received_s=now_s)

    def segmented(self) -> None:
        """Count one whose labels were published, or would have been had anyone listened."""
        with self._lock:
            self._counts = replace(self._counts, segmented=self._counts.segmented + 1,
                                   ends_in_rejection=False)

    def dropped(self, cause: Cause) -> None:
        """Count one that was given up though nothing was wrong with it."""
        name = f'dropped_{cause}'
        with self._lock:
            count: dict[str, int] = {name: getattr(self._counts, name) + 1}
            self._counts = replace(self._counts, **count)  # type: ignore[arg-type]

    def rejected(self, reason: str) -> None:
        """Count one that could not be used."""
        with self._lock:
            self._counts = replace(
                self._counts, rejected=self._counts.rejected + 1, last_rejection=reason,
                ends_in_rejection=True)

    def looks(self, size: str, encoding: str) -> None:
        """Note what the last image claims to be."""
        with self._lock:
            self._counts = replace(self._counts, size=size, encoding=encoding)

    def odd_stamp(self, problem: str) -> None:
        """Count one whose stamp tells no age, or goes back."""
        with self._lock:
            self._counts = replace(
                self._counts, odd_stamps=self._counts.odd_stamps + 1, last_odd_stamp=problem)

    @property
    def counts(self) -> CameraCounts:
        """The record now."""
        with self._lock:
            return self._counts
