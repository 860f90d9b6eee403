# SPDX-License-Identifier: Apache-2.0
"""What became of each camera's frames: every one is segmented, dropped or rejected, once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CameraCounts:
    """A camera's record at one moment. Times are of the monotonic clock, in seconds."""

    received: int = 0
    segmented: int = 0
    dropped: int = 0
    rejected: int = 0
    odd_stamps: int = 0
    last_rejection: str = ''
    last_odd_stamp: str = ''
    ends_in_rejection: bool = False  # of those segmented or rejected, the last was rejected
    last_received_s: float | None = None
    size: str = ''                   # 'WIDTHxHEIGHT' of the last image
    encoding: str = ''


class CameraTally:
    """Counts for one camera; any thread ticks, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = CameraCounts()

    def received(self, now_s: float, size: str, encoding: str) -> None:
        """An image reached the callback."""
        with self._lock:
            self._counts = replace(
                self._counts, received=self._counts.received + 1, last_received_s=now_s,
                size=size, encoding=encoding)

    def segmented(self) -> None:
        """Its labels were published, or nobody listened to them."""
        with self._lock:
            self._counts = replace(self._counts, segmented=self._counts.segmented + 1,
                                   ends_in_rejection=False)

    def dropped(self) -> None:
        """A newer image came before its turn, or it came sooner than max_rate_hz allows."""
        with self._lock:
            self._counts = replace(self._counts, dropped=self._counts.dropped + 1)

    def rejected(self, reason: str) -> None:
        """It could not be used."""
        with self._lock:
            self._counts = replace(
                self._counts, rejected=self._counts.rejected + 1, last_rejection=reason,
                ends_in_rejection=True)

    def odd_stamp(self, problem: str) -> None:
        """Its stamp tells no age, or goes back."""
        with self._lock:
            self._counts = replace(
                self._counts, odd_stamps=self._counts.odd_stamps + 1, last_odd_stamp=problem)

    @property
    def counts(self) -> CameraCounts:
        """The record now."""
        with self._lock:
            return self._counts
