# SPDX-License-Identifier: Apache-2.0
"""The network in plain PyTorch, on the CPU or a CUDA GPU: the reference for every other way."""

from __future__ import annotations

import copy
from time import perf_counter

import numpy as np
import torch

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.errors import BackendUnavailable, ConfigError
from lednet_ros.segmentation.backends import BackendResult
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.graph import LabelGraph


def choose_device(device: str) -> torch.device:
    """Give the device that a setting names. Raises BackendUnavailable with the remedy."""
    if device == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    chosen = torch.device(device)
    if chosen.type == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            build = f'torch {torch.__version__}'
            raise BackendUnavailable(
                f'device {device}: {build} sees {count} CUDA devices: install the driver and a '
                'CUDA build of torch, or choose device auto or cpu')
        return torch.device('cuda', chosen.index or 0)
    return chosen


class TorchBackend:
    """Runs the graph eagerly, channels last (which halves the time of its convolutions)."""

    def __init__(self, checkpoint: Checkpoint, config: SegmenterConfig) -> None:
        self._device = choose_device(config.device)
        on_gpu = self._device.type == 'cuda'
        if config.precision == 'fp16' and not on_gpu:
            raise ConfigError('precision is fp16 but the device is the CPU, which would only be '
                              'slower: choose precision auto or fp32')
        precision = config.precision if config.precision != 'auto' else ('fp32', 'fp16')[on_gpu]
        dtype = torch.float16 if precision == 'fp16' else torch.float32
        network = copy.deepcopy(checkpoint.network)  # the caller's stays as it is
        self._graphs = {}
        for confidence in (False, True):  # two endings of one network
            graph = LabelGraph(network, checkpoint.preprocessing, confidence)
            graph = graph.to(self._device, dtype).eval()
            self._graphs[confidence] = graph.to(
                memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.name = f'torch {self._device} {precision}'
        self.reason = 'asked for' if config.backend == 'torch' else (
            'a CUDA GPU is there' if on_gpu else 'no CUDA GPU')

    @torch.inference_mode()
    def run(self, frames: np.ndarray, confidence: bool) -> BackendResult:
        """Segment uint8 (N, H, W, 3) RGB frames, contiguous, of the network's size."""
        started_s = perf_counter()
        pixels = torch.from_numpy(frames).to(self._device)
        outputs = [x.to(torch.uint8).cpu().numpy() for x in self._graphs[confidence](pixels)]
        return BackendResult(
            outputs[0], outputs[1] if confidence else None,
            run_ms=(perf_counter() - started_s) * 1e3, finish_ms=0.0)

    def close(self) -> None:
        """Give back the device's memory."""
        del self._graphs
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
