# SPDX-License-Identifier: Apache-2.0
"""The protocol of what runs the network, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import SelfCheck


@dataclass(frozen=True)
class BackendInfo:
    """What runs the network."""

    kind: str       # its name in registry.BACKENDS
    device: str     # 'cpu' or 'cuda:0'
    precision: str  # 'fp16' or 'fp32'
    reason: str     # why this one was chosen

    @property
    def name(self) -> str:
        """Return it in three words: 'torch cpu fp32'."""
        return f'{self.kind} {self.device} {self.precision}'

    def __str__(self) -> str:
        return f'{self.name} ({self.reason})'


@dataclass(frozen=True)
class BackendResult:
    """Labels of one batch at the network's size, owned by the caller."""

    labels: np.ndarray             # uint8 (N, H, W), class ids
    confidence: np.ndarray | None  # uint8 (N, H, W), 255 x softmax of the chosen class
    inference_ms: float            # the network itself
    preprocess_ms: float = 0.0     # what a GPU still had to prepare when run() was called


class Backend(Protocol):
    """The graph on one device. Used by one thread at a time, closed once."""

    info: BackendInfo
    self_check: SelfCheck | None  # how far it agrees with torch in fp32; None: not asked
    build_s: float | None  # how long the program took to build; 0: cached; None: none is needed

    def preprocess(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Any:
        """
        Fit camera frames, uint8 (H, W, 3), rows possibly padded, into a batch for `run`.

        Where they are fitted is the backend's choice: `letterbox.place_all` does it on the CPU.
        Resizing only: mean and std are part of the graph, see graph.ScoreGraph.
        """
        ...

    def run(self, frames: Any, confidence: bool) -> BackendResult:
        """Segment what `preprocess` gave, or uint8 (N, H, W, 3) RGB frames of input size."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...
