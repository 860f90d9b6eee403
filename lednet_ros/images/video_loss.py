# SPDX-License-Identifier: Apache-2.0
"""How many frames a video lacks, told by its count and by the times of those that it has."""

from __future__ import annotations

from array import array

import numpy as np

COUNTED = ('.mp4', '.m4v', '.mov', '.3gp')  # their headers count the frames


class FrameTimes:
    """The times of a video's frames, as they are decoded."""

    def __init__(self) -> None:
        self._times_s = array('d')
        self._faults: list[int] = []  # frames before which decoding failed

    def note(self, at_s: float, is_after_fault: bool) -> None:
        """Note a frame."""
        if is_after_fault:
            self._faults.append(len(self._times_s))
        self._times_s.append(at_s)

    def missing(self, count: int, rate_hz: float, suffix: str) -> int:
        """
        Return about how many of its frames the video lacks; few are left open, if unsure.

        `count` is what its container says, 0 where it says nothing.
        """
        decoded = len(self._times_s)
        deficit = max(0, count - decoded)
        if suffix == '.avi':  # counted, and timed by counting
            return deficit
        # Where a container has no count it is estimated, by duration and rate: the sound may be
        # longer than the pictures, and the rate may vary, so the time reached counts too. A
        # trimmed film has frames that are not meant to be shown.
        reached = round(self._times_s[-1] * rate_hz) + 1 if decoded else 0
        at_end = count - max(decoded, reached)
        if at_end <= max(5.0, rate_hz) + count / 100:
            at_end = 0
        return at_end + self._inside(deficit, suffix)

    def _inside(self, deficit: int, suffix: str) -> int:
        """Count frames between others by the gaps: sure after a fault, else at an even pace."""
        steps = np.diff(np.frombuffer(self._times_s)) if len(self._times_s) > 1 else np.zeros(0)
        usual = float(np.median(steps)) if len(steps) else 0.0
        if usual <= 0.0:
            return len(self._faults)
        lacking = np.maximum(np.rint(steps / usual) - 1, 0).astype(int)
        faulty = np.isin(np.arange(1, len(steps) + 1), self._faults)
        sure = int(np.maximum(lacking[faulty], 1).sum())
        is_even = np.mean(np.abs(steps / usual - 1) < 0.1) >= 0.9
        if not is_even:
            return sure
        if suffix in COUNTED:
            return max(sure, min(deficit, int(lacking.sum())))
        # One or two may never have been recorded.
        return max(sure, int(lacking[faulty | (lacking >= 3)].sum()))
