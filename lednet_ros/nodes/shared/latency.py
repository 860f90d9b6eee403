# SPDX-License-Identifier: Apache-2.0
"""Where a frame's time goes, over the last seconds, in constant memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

STAGES = ('transport', 'decode', 'queue', 'preprocess', 'inference', 'postprocess', 'projection',
          'publish')
"""
In the order of a frame's way: 'transport' is from the header's stamp to the callback, 'queue'
until the worker takes the frame, 'projection' what the ground and cloud nodes make of labels,
'publish' from the labels to the return of the last publish. All but 'transport' are of a
monotonic clock.
"""
TOTAL = 'total'  # from the stamp to the return of the last publish: 'transport' and what followed


class Quantiles(NamedTuple):
    """Of one stage, in ms."""

    p50: float
    p95: float
    p99: float
    max: float


class Latency:
    """A window over the newest frames' stages. Any thread adds, any thread reads."""

    def __init__(self, window_s: float = 10.0, most: int = 2048) -> None:
        self._lock = threading.Lock()
        self._window_s = window_s
        self._names = (*STAGES, TOTAL)
        self._ms = np.full((most, len(self._names)), np.nan, np.float32)
        self._added_s = np.full(most, -np.inf)
        self._count = 0

    def add(self, now_s: float, stages_ms: Mapping[str, float]) -> None:
        """Note one frame; a stage that could not be measured is left out."""
        row = [stages_ms.get(name, np.nan) for name in self._names]
        with self._lock:
            self._ms[self._count % len(self._ms)] = row
            self._added_s[self._count % len(self._ms)] = now_s
            self._count += 1

    def clear(self) -> None:
        """Forget all frames, as when their clock was set."""
        with self._lock:
            self._added_s[:] = -np.inf

    def quantiles(self, now_s: float) -> dict[str, Quantiles]:
        """Return each stage that was measured within the window. Times are monotonic, in s."""
        with self._lock:
            ms = self._ms[self._added_s > now_s - self._window_s]
        quantiles = {}
        for name, column in zip(self._names, ms.T, strict=True):
            known = column[~np.isnan(column)]
            if known.size:
                p50, p95, p99 = np.percentile(known, (50, 95, 99))
                quantiles[name] = Quantiles(
                    float(p50), float(p95), float(p99), float(known.max()))
        return quantiles
