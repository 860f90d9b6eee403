# SPDX-License-Identifier: Apache-2.0
"""How a program runs on a CUDA GPU: one stream, memory allocated once, only uint8 on the bus."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from lednet_ros.common.errors import first_line
from lednet_ros.segmentation.backends.base import BackendResult
from lednet_ros.segmentation.backends.gpu_letterbox import place_on_gpu
from lednet_ros.segmentation.device_errors import explained, is_out_of_memory
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import make_frames

Program = Callable[[Tensor], Sequence[Tensor]]
"""uint8 (1, H, W, 3) RGB -> integer (1, H, W) labels and, in the other variant, confidence."""

MIN_REPLAYED = 0.999  # of a graph's pixels, those equal to the program's own

_CAPTURING = threading.Lock()  # torch waits for the whole GPU before it captures, which no other
#                                capture of this process survives

_log = logging.getLogger(__name__)


@dataclass
class _Captured:
    """One variant of the program: labels alone, or confidence too."""

    program: Program
    graph: torch.cuda.CUDAGraph | None  # None: not capturable, run step by step
    outputs: list[Tensor]               # uint8 (1, H, W) on the GPU, written by each replay


class CudaRunner:
    """
    Runs a program on frames of one size, one after another. Used by one thread at a time.

    `program` returns a variant of the program (True: with confidence). It is asked once for each,
    and what it returns is then replayed from a CUDA graph. Frames of a batch take turns, so that
    several cameras take the memory of one (docs/decisions.md).
    """

    def __init__(
        self, name: str, device: torch.device, height: int, width: int,
        program: Callable[[bool], Program],
    ) -> None:
        self._name, self._device = name, device
        self._size = height, width
        self._program = program
        with explained(f'{name}: starting', device, 'choose device cpu'), \
                torch.cuda.device(device):
            # Of its own: on the default stream it would wait for everyone else's work.
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # Blocking: to wait for a frame shall not keep a core busy.
            self._from, self._until = (
                torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
                for _ in range(2))
            self._pool = torch.cuda.graph_pool_handle()
            # What the CUDA graphs read.
            self._input = torch.zeros((1, height, width, 3), dtype=torch.uint8, device=device)
        self._pixels = self._input[:0]  # a batch, prepared
        self._staging: list[tuple[Tensor, Tensor]] = []  # pinned and on the GPU, one per frame
        self._host: dict[tuple[int, int], Tensor] = {}  # pinned, by frame and output
        self._captured: dict[bool, _Captured] = {}

    @torch.no_grad()
    def preprocess(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Tensor:
        """
        Copy camera frames to the GPU and fit them there: the batch to give to `run`.

        Frames are uint8 (H, W, 3) of any sizes, rows possibly padded. Returns before the GPU is
        done with it.
        """
        with self._on_stream('preparing'):
            self._stream.synchronize()  # the pinned memory may still be read from
            if len(self._pixels) < len(frames):
                self._pixels = torch.zeros(
                    (len(frames), *self._size, 3), dtype=torch.uint8, device=self._device)
            for i, (frame, rgb, fit) in enumerate(zip(frames, are_rgb, fits, strict=True)):
                place_on_gpu(self._upload(i, frame), rgb, fit, self._pixels[i])
            return self._pixels[:len(frames)]

    @torch.no_grad()
    def run(self, frames: np.ndarray | Tensor, confidence: bool) -> BackendResult:
        """Segment what `preprocess` gave, or uint8 (N, H, W, 3) RGB frames of input size."""
        from_s = perf_counter()
        with self._on_stream('running'):
            captured = self._capture(confidence)
            if isinstance(frames, np.ndarray):
                self._stream.synchronize()  # the pinned memory may still be read from
            self._from.record()
            for i, frame in enumerate(frames):
                self._input[0].copy_(
                    frame if isinstance(frame, Tensor) else self._upload(i, frame))
                if captured.graph:
                    captured.graph.replay()
                else:
                    captured.outputs = _step(captured.program, self._input)
                for which, output in enumerate(captured.outputs):
                    self._host_for(i, which).copy_(output[0], non_blocking=True)
            self._until.record()
            self._until.synchronize()
        wall_ms = (perf_counter() - from_s) * 1e3
        inference_ms = self._from.elapsed_time(self._until)
        labels, *others = (
            np.stack([self._host[i, which].numpy() for i in range(len(frames))])
            for which in range(len(captured.outputs)))
        return BackendResult(
            labels, others[0] if confidence else None, inference_ms=inference_ms,
            preprocess_ms=max(0.0, wall_ms - inference_ms))

    def close(self) -> None:
        """Release the GPU's memory."""
        with torch.cuda.device(self._device):
            self._stream.synchronize()
            self._captured.clear()
            self._pixels = self._input = torch.empty(0)
            self._staging.clear()
            self._host.clear()
            torch.cuda.empty_cache()

    @contextmanager
    def _on_stream(self, doing: str) -> Iterator[None]:
        size = 'x'.join(map(str, reversed(self._size)))
        with (explained(f'{self._name}: {doing} at {size}', self._device),
              torch.cuda.device(self._device), torch.cuda.stream(self._stream)):
            yield

    def _upload(self, slot: int, frame: np.ndarray) -> Tensor:
        """Copy a frame, rows possibly padded, to the GPU through pinned memory."""
        if slot == len(self._staging) or self._staging[slot][0].numel() < frame.size:
            host = torch.empty(frame.size, dtype=torch.uint8, pin_memory=True)
            self._staging[slot:slot + 1] = [(host, torch.empty_like(host, device=self._device))]
        host, gpu = (part[:frame.size].view(frame.shape) for part in self._staging[slot])
        np.copyto(host.numpy(), frame)
        return gpu.copy_(host, non_blocking=True)

    def _host_for(self, slot: int, output: int) -> Tensor:
        if (slot, output) not in self._host:
            self._host[slot, output] = torch.empty(
                self._size, dtype=torch.uint8, pin_memory=True)
        return self._host[slot, output]

    def _capture(self, confidence: bool) -> _Captured:
        """Record a variant of the program, or find what was recorded."""
        if confidence in self._captured:
            return self._captured[confidence]
        program = self._program(confidence)
        # Two, so that no memory holds the right answer from what ran before. The first steps
        # allocate work space and pick kernels, which no graph can hold.
        frames = [torch.from_numpy(frame) for frame in make_frames(2, *self._size)]
        expected = []
        for frame in frames:
            self._input[0].copy_(frame)
            for _ in range(2):
                outputs = _step(program, self._input)
            expected.append([output.to('cpu', copy=True) for output in outputs])
        captured = _Captured(program, None, outputs)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (another camera's node in this process) may use CUDA meanwhile.
            with _CAPTURING, torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream,
                    capture_error_mode='thread_local'):
                outputs = _step(program, self._input)
            equal = min(self._replayed(graph, outputs, frame, right)
                        for frame, right in zip(frames, expected, strict=True))
            if equal >= MIN_REPLAYED:
                captured = _Captured(program, graph, outputs)
            why = (f'it gives {equal:.2%} of the pixels as the program itself does, at least '
                   f'{MIN_REPLAYED:.1%} are needed')
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            why = first_line(error)
        if not captured.graph:
            _log.warning('%s: no CUDA graph (%s): running without, slower', self._name, why)
        self._captured[confidence] = captured
        return captured

    def _replayed(
        self, graph: torch.cuda.CUDAGraph, outputs: list[Tensor], frame: Tensor,
        expected: list[Tensor],
    ) -> float:
        """
        Return the share of pixels that a replay gives as expected; the worst output's.

        TensorRT may refuse to be captured and torch_tensorrt not say so: the graph then writes
        nothing, or passes on whatever lay in the memory.
        """
        self._input[0].copy_(frame)
        for output in outputs:
            output.fill_(255)  # the id of no class
        graph.replay()
        self._stream.synchronize()
        # Confidence, the second, may be rounded otherwise.
        return min(((found.cpu().int() - right.int()).abs() <= slack).float().mean().item()
                   for found, right, slack in zip(
                       outputs, expected, (0, 2)[:len(outputs)], strict=True))


def _step(program: Program, pixels: Tensor) -> list[Tensor]:
    return [output.to(torch.uint8) for output in program(pixels)]
