# SPDX-License-Identifier: Apache-2.0
"""
One slot a camera between the callbacks and the inference thread: the newest frame wins.

What it gives back is counted by `inference_worker`, by the causes of diagnostics.py.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestFrames(Generic[T]):
    """Holds at most one frame of each camera. Any thread may put; one thread takes."""

    def __init__(self) -> None:
        self._frames: dict[str, T] = {}
        self._changed = threading.Condition()
        self._closed = False
        self.abandoned = False  # set it: what was taken before is not wanted any more

    def put(self, camera: str, frame: T) -> T | None:
        """
        Leave a frame; return the one that will never be taken for it.

        That is the older one that had to go, the frame itself where `close` was called, or None.
        """
        with self._changed:
            if self._closed:
                return frame
            older = self._frames.get(camera)
            self._frames[camera] = frame
            self._changed.notify()
            return older

    def take(self, timeout_s: float | None = None) -> dict[str, T]:
        """Wait for a frame, then take what all cameras have; empty when closed or out of time."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout_s)
            frames, self._frames = self._frames, {}
            return frames

    def close(self) -> dict[str, T]:
        """End the waiting of `take` for good; give what was never taken."""
        with self._changed:
            self._closed = True
            frames, self._frames = self._frames, {}
            self._changed.notify_all()
            return frames

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
