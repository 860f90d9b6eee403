# SPDX-License-Identifier: Apache-2.0
"""What runs the network, behind one small protocol, chosen by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.segmentation.config import SegmenterConfig


@dataclass(frozen=True)
class BackendResult:
    """Labels of one batch at the network's size, owned by the caller."""

    labels: np.ndarray             # uint8 (N, H, W), class ids
    confidence: np.ndarray | None  # uint8 (N, H, W), 255 x softmax of the chosen class
    run_ms: float                  # the network itself
    finish_ms: float               # from scores to labels, where that is a step of its own


class Backend(Protocol):
    """The graph on one device. Used by one thread, closed once."""

    name: str    # as diagnostics show it: 'torch cpu fp32'
    reason: str  # why this one was chosen

    def run(self, frames: np.ndarray, confidence: bool) -> BackendResult:
        """Segment uint8 (N, H, W, 3) RGB frames, contiguous, of the network's size."""
        ...

    def close(self) -> None:
        """Give back the device's memory."""
        ...


def make_backend(checkpoint: Checkpoint, config: SegmenterConfig) -> Backend:
    """Choose and set up what runs the network. Raises BackendUnavailable with the remedy."""
    from lednet_ros.segmentation.backends.torch import TorchBackend
    return TorchBackend(checkpoint, config)
