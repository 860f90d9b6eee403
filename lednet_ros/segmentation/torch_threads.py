# SPDX-License-Identifier: Apache-2.0
"""
How many of torch's threads compute: one for each core that other processes leave free.

Those are counted by common/free_cores.py; ONNX Runtime follows in backends/onnx_sessions.py.

oneDNN's threads wait for each other in loops that never sleep. Where one of them has to share its
core, the others burn theirs until it is its turn again, some hundred times a step, whatever OpenMP
is told: docs/measurements.md has the times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import torch

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.free_cores import WINDOW_S, FreeThreads


class Threads:
    """
    Keeps torch's threads as many as the cores that are free for them.

    A first look at these cores takes `first_window_s`; without it they are all used at first.
    """

    def __init__(self, device: torch.device, first_window_s: float = 0.0) -> None:
        self.most = torch.get_num_threads()
        self._is_fixed = device.type != 'cpu' or self.most == 1 or are_given()
        if not self._is_fixed:
            self._free = FreeThreads(self.most)
            if first_window_s:
                time.sleep(first_window_s)
                self.follow(first_window_s)

    def follow(self, window_s: float = WINDOW_S) -> int:
        """Look, if not for so long, how many cores are free; return how many threads there are."""
        if self._is_fixed:
            return torch.get_num_threads()
        count = self._free.look(window_s)
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        return count

    def restore(self) -> None:
        """Use as many threads as in the beginning, until `follow` is called again."""
        if torch.get_num_threads() != self.most:
            torch.set_num_threads(self.most)


def are_given(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user, or torchrun, says how many threads there are; a quota's are ours."""
    count, cores = environment.get('OMP_NUM_THREADS'), usable_cores()
    is_ours = count == str(cores) and cores < len(os.sched_getaffinity(0))
    return bool((count and not is_ours) or environment.get('MKL_NUM_THREADS'))
