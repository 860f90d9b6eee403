# SPDX-License-Identifier: Apache-2.0
"""
How many threads compute: one for each core that other processes leave free.

oneDNN's threads wait for each other in loops that never sleep. Where one of them has to share its
core, the others burn theirs until it is its turn again, some hundred times a step, whatever OpenMP
is told: docs/measurements.md has the times.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from lednet_ros.common.cpu import usable_cores

WINDOW_S = 1.0      # over which free cores are counted; the system's clocks tick every 10 ms
FIRST_WINDOW_S = 0.3

Clocks = tuple[float, float, float]  # s: the time, of idleness of all our CPUs, of our own work


class Threads:
    """Keeps torch's threads as many as the cores that are free for them."""

    def __init__(self, device: torch.device) -> None:
        self.most = torch.get_num_threads()
        self._is_fixed = device.type != 'cpu' or self.most == 1 or are_given()
        if not self._is_fixed:
            self._cores = FreeCores()
            time.sleep(FIRST_WINDOW_S)
            self.follow(FIRST_WINDOW_S)

    def follow(self, window_s: float = WINDOW_S) -> int:
        """Look, if not for so long, how many cores are free; return how many threads there are."""
        cores = None if self._is_fixed else self._cores.count(window_s)
        if cores is not None:
            torch.set_num_threads(threads_for(cores, self.most))
        return torch.get_num_threads()

    def restore(self) -> None:
        """Use as many threads as in the beginning."""
        torch.set_num_threads(self.most)


def are_given(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user, or torchrun, says how many threads there are; a quota's are ours."""
    count, cores = environment.get('OMP_NUM_THREADS'), usable_cores()
    is_ours = count == str(cores) and cores < len(os.sched_getaffinity(0))
    return bool((count and not is_ours) or environment.get('MKL_NUM_THREADS'))


def threads_for(cores: float, most: int) -> int:
    """Return how many threads find a core of their own, at least for half of the time."""
    return max(1, min(most, int(cores + 0.5)))


class FreeCores:
    """Counts the cores that this process and its workers have, or could have."""

    def __init__(self, clocks: Callable[[], Clocks | None] | None = None) -> None:
        self._clocks = clocks or _clocks
        self._before = self._clocks()

    def count(self, window_s: float) -> float | None:
        """
        Return how many, on average since the last answer.

        None while that is not so long ago, or where the system does not tell.
        """
        before, now = self._before, self._clocks()
        if before is None or now is None or now[0] - before[0] < window_s:
            return None
        self._before = now
        wall_s, idle_s, own_s = (b - a for a, b in zip(before, now, strict=True))
        return (idle_s + max(own_s, 0.0)) / wall_s  # less than none: a worker has ended


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
