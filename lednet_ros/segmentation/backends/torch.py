# SPDX-License-Identifier: Apache-2.0
"""The network in plain PyTorch, on the CPU or a CUDA GPU: the reference for every other way."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.segmentation.backends.base import BackendInfo, BackendResult
from lednet_ros.segmentation.backends.cuda_runner import CudaRunner, Program
from lednet_ros.segmentation.backends.graph import make_graph
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.device_errors import explained
from lednet_ros.segmentation.devices import (
    choose_device,
    choose_precision,
    is_gpu,
    require_code_for,
)
from lednet_ros.segmentation.letterbox import Fit, place_all
from lednet_ros.segmentation.self_check import (
    SelfCheck,
    require_finite_scores,
    self_check,
)
from lednet_ros.segmentation.torch_threads import Threads

_log = logging.getLogger(__name__)


class TorchBackend:
    """
    Runs the graph eagerly, channels last (which halves the time of its convolutions).

    On a CUDA GPU it is replayed from CUDA graphs: small kernels wait for their launches otherwise.
    There fp16 is compared with fp32 first; where it differs and precision is auto, fp32 runs.
    Raise BackendUnavailable, OutOfMemory, or CheckpointError where scores are not finite.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: SegmenterConfig, reason: str = 'asked for'
    ) -> None:
        self._device = choose_device(config.device)
        self._size = config.input_size(checkpoint)
        self._floors = config.score_floors(checkpoint)
        self.self_check: SelfCheck | None = None  # fp32 is what others are checked against
        self.build_s = None
        self._reason = reason
        self._runner: CudaRunner | None = None
        self._threads = Threads(self._device)
        precision = choose_precision(config, self._device)
        if is_gpu(self._device):
            self._start_on_gpu(checkpoint, config, precision)
        else:
            require_finite_scores(checkpoint, *self._size)
            self._make_graphs(checkpoint, precision)

    def _make_graphs(self, checkpoint: Checkpoint, precision: str) -> None:
        self.info = BackendInfo('torch', str(self._device), precision, self._reason)
        self._graphs = {
            confidence: make_graph(
                checkpoint, confidence, self._device, precision, self._floors).to(
                memory_format=torch.channels_last)  # type: ignore[call-overload]
            for confidence in (False, True)}

    def _start_on_gpu(
        self, checkpoint: Checkpoint, config: SegmenterConfig, precision: str
    ) -> None:
        """Record the CUDA graph of the labels, so that no camera frame waits for that."""
        try:
            with explained(f'torch {self._device} {precision}: starting', self._device,
                           'choose device cpu'):
                require_code_for(self._device)
                self._make_graphs(checkpoint, precision)
                self._runner = runner = CudaRunner(
                    self.info.name, self._device, *self._size, self._program)
                if precision == 'fp32':
                    require_finite_scores(checkpoint, *self._size)
                    runner.run(np.zeros((1, *self._size, 3), np.uint8), False)
                    return
                found = self_check(
                    checkpoint, lambda frames: [runner.run(frames, False).labels], *self._size)
        except Exception:
            with contextlib.suppress(Exception):  # of what is broken
                self.close()
            raise
        if not found.refusal:
            self.self_check = found
            return
        self.close()
        if config.precision == 'fp16':
            raise BackendUnavailable(
                f'{self.info.name}: {found.refusal}: choose precision auto or fp32')
        _log.warning('%s: %s: going on in fp32, slower', self.info.name, found.refusal)
        self._start_on_gpu(checkpoint, config, 'fp32')

    def preprocess(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> np.ndarray | Tensor:
        """Fit camera frames into a batch for `run`, on the device that runs it."""
        if self._runner:
            return self._runner.preprocess(frames, are_rgb, fits)
        return place_all(frames, are_rgb, fits)

    def _program(self, confidence: bool) -> Program:
        graph = self._graphs[confidence]

        def program(pixels: Tensor) -> Sequence[Tensor]:
            # Without TF32: fp32 shall mean fp32.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return graph(pixels)

        return program

    @torch.no_grad()
    def run(self, frames: np.ndarray | Tensor, confidence: bool) -> BackendResult:
        """Segment what `preprocess` gave, or uint8 (N, H, W, 3) RGB frames of input size."""
        if self._runner:
            return self._runner.run(frames, confidence)
        started_s = perf_counter()
        pixels = frames if isinstance(frames, Tensor) else torch.from_numpy(frames)
        self._threads.follow()
        try:
            outputs = [x.to(torch.uint8).numpy() for x in self._graphs[confidence](pixels)]
        finally:
            self._threads.restore()  # what else the process computes is not ours to slow down
        return BackendResult(
            outputs[0], outputs[1] if confidence else None,
            inference_ms=(perf_counter() - started_s) * 1e3)

    def close(self) -> None:
        """Release the device's memory."""
        self._graphs.clear()
        if self._runner:
            self._runner.close()
