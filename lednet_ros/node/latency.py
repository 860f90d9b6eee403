# SPDX-License-Identifier: Apache-2.0
"""Where a frame's time goes, over the last few hundred frames, in constant memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

STAGES = ('transport', 'wait', 'prepare', 'run', 'finish', 'publish', 'total')
"""In the order of a frame's way. 'transport' is from the header's stamp to the callback, 'total'
from the stamp to the return of the last publish; the rest is measured by a monotonic clock."""


class Quantiles(NamedTuple):
    """Of one stage, in ms."""

    p50: float
    p95: float
    p99: float
    max: float


class Latency:
    """A window over the newest frames' stages. Ticked by one thread, read by any."""

    def __init__(self, window: int = 300) -> None:
        self._lock = threading.Lock()
        self._ms = np.full((window, len(STAGES)), np.nan, np.float32)
        self._count = 0

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """Note one frame; a stage that could not be measured is left out."""
        row = [stages_ms.get(stage, np.nan) for stage in STAGES]
        with self._lock:
            self._ms[self._count % len(self._ms)] = row
            self._count += 1

    def quantiles(self) -> dict[str, Quantiles]:
        """Give each stage that was measured within the window."""
        with self._lock:
            ms = self._ms.copy()
        quantiles = {}
        for stage, column in zip(STAGES, ms.T, strict=True):
            known = column[~np.isnan(column)]
            if known.size:
                p50, p95, p99 = np.percentile(known, (50, 95, 99))
                quantiles[stage] = Quantiles(
                    float(p50), float(p95), float(p99), float(known.max()))
        return quantiles
