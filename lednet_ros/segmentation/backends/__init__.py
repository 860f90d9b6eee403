# SPDX-License-Identifier: Apache-2.0
"""What runs the network, behind one small protocol, chosen by name."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import SelfCheck

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendResult:
    """Labels of one batch at the network's size, owned by the caller."""

    labels: np.ndarray             # uint8 (N, H, W), class ids
    confidence: np.ndarray | None  # uint8 (N, H, W), 255 x softmax of the chosen class
    run_ms: float                  # the network itself
    prepare_ms: float = 0.0        # what a GPU still had to prepare when run() was called


class Backend(Protocol):
    """The graph on one device. Used by one thread at a time, closed once."""

    name: str    # what, device and precision: 'torch cpu fp32'
    reason: str  # why this one was chosen
    self_check: SelfCheck | None  # how far it agrees with torch in fp32; None: not asked
    build_s: float | None  # how long the program took to build; 0: cached; None: none is needed

    def prepare(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Any:
        """Fit camera frames, uint8 (H, W, 3), rows possibly padded, into a batch for `run`.

        Where they are fitted is the backend's choice: `fit.place_all` does it on the CPU.
        """
        ...

    def run(self, frames: Any, confidence: bool) -> BackendResult:
        """Segment what `prepare` gave, or uint8 (N, H, W, 3) RGB frames of the network's size."""
        ...

    def close(self) -> None:
        """Give back the device's memory."""
        ...


def make_backend(checkpoint: Checkpoint, config: SegmenterConfig) -> Backend:
    """Choose and set up what runs the network.

    Raises BackendUnavailable or OutOfMemory with the remedy where a backend asked for by name
    cannot run; 'auto' takes the next one instead and keeps what was amiss as the reason.
    """
    if config.backend != 'auto':
        return _load(config.backend)(checkpoint, config, 'asked for')
    from lednet_ros.segmentation.backends.cuda_runner import why_no_gpu
    from lednet_ros.segmentation.backends.torch import choose_device
    on_cpu = replace(config, device='cpu')
    attempts = [('onnxruntime', on_cpu), ('torch', on_cpu)]
    amiss = [config.no_tensorrt] if config.no_tensorrt else []
    if choose_device(config.device).type == 'cuda':
        why, but = 'a CUDA GPU', ', but '
        asked_for_gpu = config.device != 'auto' or config.precision == 'fp16'
        attempts = [*([] if amiss else [('tensorrt', config)]), ('torch', config),
                    *([] if asked_for_gpu else attempts)]
    else:
        why, but = 'device is cpu' if config.device == 'cpu' else why_no_gpu(), ', and '
    for i, (name, how) in enumerate(attempts):
        reason = why + but + ', and '.join(amiss) if amiss else why
        if name == 'tensorrt':
            reason += ' and torch_tensorrt are there'
        try:
            backend = _load(name)(checkpoint, how, reason)
        except (BackendUnavailable, OutOfMemory) as error:
            if i == len(attempts) - 1:
                raise
            _log.warning('%s', error)
            if str(error) not in amiss:
                amiss.append(str(error))
        else:
            break
    _log.info('backend %s: %s', backend.name, backend.reason)
    return backend


# Loaded by name, so that a library that is not there is an answer and not a crash. Each is made
# from (checkpoint, config, reason).
_LOCATIONS = {
    'tensorrt': ('lednet_ros.segmentation.backends.tensorrt', 'TensorRTBackend'),
    'torch': ('lednet_ros.segmentation.backends.torch', 'TorchBackend'),
    'onnxruntime': ('lednet_ros.segmentation.backends.onnxruntime', 'OnnxRuntimeBackend'),
}


def _load(name: str) -> Callable[[Checkpoint, SegmenterConfig, str], Backend]:
    module, backend_class = _LOCATIONS[name]
    return getattr(importlib.import_module(module), backend_class)
