# SPDX-License-Identifier: Apache-2.0
"""
How many cores other processes leave free, and so how many threads find one of their own.

Threads that share a layer wait for the slowest. Where one of them has to share its core with
another process, the others wait as long, layer by layer: beside busy processes fewer threads are
faster (benchmarks/busy.py). torch follows in segmentation/torch_threads.py, ONNX Runtime in
segmentation/backends/onnx_sessions.py.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

WINDOW_S = 1.0  # over which free cores are counted; the system's clocks tick every 10 ms

Clocks = tuple[float, float, float]  # s: the time, of idleness of all our CPUs, of our own work


class FreeCores:
    """Counts the cores that this process and its workers have, or could have."""

    def __init__(
        self, clocks: Callable[[], Clocks | None] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clocks, self._now_s = clocks or _clocks, now_s
        self._before = self._clocks()

    def count(self, window_s: float) -> float | None:
        """
        Return how many, on average since the last answer.

        None while that is not so long ago, or where the system does not tell.
        """
        before = self._before
        # The time first: asked for each frame, the system's clocks are files to read.
        if before is None or self._now_s() - before[0] < window_s:
            return None
        now = self._clocks()
        if now is None:
            return None
        self._before = now
        wall_s, idle_s, own_s = (b - a for a, b in zip(before, now, strict=True))
        return (idle_s + max(own_s, 0.0)) / wall_s  # less than none: a worker has ended


class FreeThreads:
    """
    Says how many threads find a core of their own, at least for half of the time; at first `most`.

    `looks` in a row have to say the same before it changes.
    """

    def __init__(self, most: int, looks: int = 1, cores: FreeCores | None = None) -> None:
        self.count, self._most, self._looks = most, most, looks
        self._cores = cores or FreeCores()
        self._found, self._times = most, 0

    def look(self, window_s: float = WINDOW_S) -> int:
        """Look how many cores are free, if the last look is `window_s` ago; return `count`."""
        cores = self._cores.count(window_s)
        if cores is not None:
            found = max(1, min(self._most, int(cores + 0.5)))
            self._times = self._times + 1 if found == self._found else 1
            self._found = found
            if self._times >= self._looks:
                self.count = found
        return self.count


def _clocks() -> Clocks | None:
    tick_s = 1 / os.sysconf('SC_CLK_TCK')
    cpus = {f'cpu{number}' for number in os.sched_getaffinity(0)}
    own_s = time.process_time()
    try:
        lines = Path('/proc/stat').read_text(encoding='utf-8').splitlines()
        fields = [line.split() for line in lines if line.startswith('cpu')]
        idle = sum(int(f[4]) + int(f[5]) for f in fields if f[0] in cpus)  # waiting for disks too
        for worker in multiprocessing.active_children():
            stat = Path(f'/proc/{worker.pid}/stat').read_text(encoding='utf-8', errors='replace')
            used = stat.rpartition(') ')[2].split()[11:13]
            own_s += tick_s * sum(map(int, used))
    except (OSError, ValueError, IndexError):
        return None
    return time.monotonic(), tick_s * idle, own_s
