# SPDX-License-Identifier: Apache-2.0
"""Which backends there are, and the choice among them. Imports no torch by itself."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory

if TYPE_CHECKING:
    from lednet_ros.model.checkpoint import Checkpoint
    from lednet_ros.segmentation.backends.base import Backend
    from lednet_ros.segmentation.config import SegmenterConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendSpec:
    """One backend: where its class is and what it runs on."""

    module: str                  # in this package; loaded when it is chosen, as its library may
    #                              be missing
    class_name: str              # made from (checkpoint, config, reason)
    devices: tuple[str, ...]     # 'cuda' and 'cpu', those it runs on
    builds_engine: bool = False  # for minutes, so that a node does it in a process of its own

    def load(self) -> Callable[[Checkpoint, SegmenterConfig, str], Backend]:
        """Return the class. Raise BackendUnavailable where a library is missing."""
        module = importlib.import_module(f'{__package__}.{self.module}')
        backend: Callable[[Checkpoint, SegmenterConfig, str], Backend] = getattr(
            module, self.class_name)
        return backend


# By name, in the order in which 'auto' tries them. Parameters, options and launch arguments offer
# these names.
BACKENDS = {
    'tensorrt': BackendSpec('tensorrt', 'TensorRTBackend', ('cuda',), builds_engine=True),
    'onnxruntime': BackendSpec('onnxruntime', 'OnnxRuntimeBackend', ('cpu',)),
    'torch': BackendSpec('torch', 'TorchBackend', ('cuda', 'cpu')),
}
CHOICES = ('auto', *BACKENDS)


def names(device: str) -> tuple[str, ...]:
    """Return the backends of 'cuda' or 'cpu', those to be tried first in front."""
    return tuple(name for name, spec in BACKENDS.items() if device in spec.devices)


def make_backend(checkpoint: Checkpoint, config: SegmenterConfig) -> Backend:
    """
    Choose and set up what runs the network.

    Raise BackendUnavailable or OutOfMemory with the remedy where a backend asked for by name
    cannot run; 'auto' takes the next one instead and keeps what was amiss as the reason.
    """
    if config.backend != 'auto':
        return BACKENDS[config.backend].load()(checkpoint, config, 'asked for')
    from lednet_ros.segmentation.devices import choose_device, why_no_gpu
    on_cpu = replace(config, device='cpu')
    attempts = [(name, on_cpu) for name in names('cpu')]
    amiss = [config.no_tensorrt] if config.no_tensorrt else []
    if choose_device(config.device).type == 'cuda':
        why, but = 'a CUDA GPU', ', but '
        asked_for_gpu = config.device != 'auto' or config.precision == 'fp16'
        attempts = [*[(name, config) for name in names('cuda')
                      if not (amiss and BACKENDS[name].builds_engine)],
                    *([] if asked_for_gpu else attempts)]
    else:
        why, but = 'device is cpu' if config.device == 'cpu' else why_no_gpu(), ', and '
    for i, (name, how) in enumerate(attempts):
        reason = why + but + ', and '.join(amiss) if amiss else why
        if BACKENDS[name].builds_engine:
            reason += ' and torch_tensorrt are there'
        try:
            backend = BACKENDS[name].load()(checkpoint, how, reason)
        except (BackendUnavailable, OutOfMemory) as error:
            if i == len(attempts) - 1:
                raise
            _log.warning('%s', error)
            if str(error) not in amiss:
                amiss.append(str(error))
        else:
            break
    _log.info('backend %s: %s', backend.info.name, backend.info.reason)
    return backend
