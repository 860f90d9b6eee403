# SPDX-License-Identifier: Apache-2.0
"""How a program runs on a CUDA GPU: one stream, memory allocated once, only uint8 on the bus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lednet_ros.errors import LednetRosError, OutOfMemory, first_line
from lednet_ros.segmentation.backends import BackendResult
from lednet_ros.segmentation.fit import Fit

Program = Callable[[Tensor], Sequence[Tensor]]
"""uint8 (N, H, W, 3) RGB -> integer (N, H, W) labels and, by the other ending, confidence."""

_log = logging.getLogger(__name__)


@contextmanager
def out_of_memory_explained(doing: str, device: torch.device) -> Iterator[None]:
    """Turn what CUDA and TensorRT say of exhausted memory into one OutOfMemory with sizes."""
    try:
        yield
    except LednetRosError:
        raise
    except Exception as error:  # TensorRT has no type of its own for it
        text = str(error).lower().replace(' ', '')
        if not isinstance(error, torch.cuda.OutOfMemoryError) and 'outofmemory' not in text:
            raise
        free = ''
        with suppress(RuntimeError):  # so full that even asking fails
            torch.cuda.empty_cache()
            free = ', {} of {} MiB are free'.format(
                *(n >> 20 for n in torch.cuda.mem_get_info(device)))
        raise OutOfMemory(
            f'{doing}: out of memory on {device}{free}: end other programs on this GPU, or choose '
            'a smaller input_height and input_width or fewer cameras') from error


def place_on_gpu(frame: Tensor, rgb: bool, fit: Fit, out: Tensor) -> None:
    """Write a camera frame, uint8 (H, W, 3), into `out` as RGB: what Fit.place does on the CPU.

    Equal to it where nothing is resized, else within one grey level.
    """
    bottom, right = fit.top + fit.height, fit.left + fit.width
    if frame.shape[:2] != (fit.height, fit.width):
        resized = frame.float()
        if fit.height * 2 < frame.shape[0] or fit.width * 2 < frame.shape[1]:
            resized = _average(_average(resized, min(fit.height, frame.shape[0]), 0),
                               min(fit.width, frame.shape[1]), 1)
        if resized.shape[:2] != (fit.height, fit.width):
            resized = F.interpolate(
                resized.permute(2, 0, 1)[None], (fit.height, fit.width), mode='bilinear',
                align_corners=False)[0].permute(1, 2, 0)
        frame = resized.round().clamp(0, 255).to(torch.uint8)
    inside = out[fit.top:bottom, fit.left:right]
    inside[:] = frame if rgb else frame.flip(2)
    out[fit.top:bottom, :fit.left] = inside[:, :1]
    out[fit.top:bottom, right:] = inside[:, -1:]
    out[:fit.top] = out[fit.top].clone()
    out[bottom:] = out[bottom - 1].clone()


def _average(x: Tensor, size: int, dim: int) -> Tensor:
    """Shrink one dimension by area, as OpenCV does: differences of the running sum."""
    step = x.shape[dim] / size
    edges = torch.arange(size + 1, dtype=torch.float64, device=x.device) * step
    whole = edges.long().clamp(max=x.shape[dim] - 1)
    part = (edges - whole).to(x.dtype).view([-1 if d == dim else 1 for d in range(x.ndim)])
    until_edge = x.cumsum(dim).sub_(x).index_select(dim, whole) + part * x.index_select(dim, whole)
    return until_edge.diff(dim=dim) / step


@dataclass
class _Captured:
    """One ending of the program for one batch size."""

    program: Program
    graph: torch.cuda.CUDAGraph | None  # None: not capturable, run step by step
    outputs: list[Tensor]               # uint8 on the GPU, written by each replay
    host: list[Tensor]                  # their pinned copies


class CudaRunner:
    """Runs a program on frames of one size. Used by one thread at a time.

    `program` gives a program of an ending (True: with confidence). It is asked once for each batch
    size that comes up, and what it gives is then replayed from a CUDA graph.
    """

    def __init__(
        self, name: str, device: torch.device, height: int, width: int,
        program: Callable[[bool], Program],
    ) -> None:
        self._name, self._device = name, device
        self._size = height, width
        self._program = program
        with out_of_memory_explained(f'{name}: starting', device), torch.cuda.device(device):
            # Of its own: on the default stream it would wait for everyone else's work.
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._from, self._until = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2))
        self._pixels: dict[int, Tensor] = {}  # by batch size: what the CUDA graphs read
        self._staging: list[tuple[Tensor, Tensor]] = []  # pinned and on the GPU, one per frame
        self._captured: dict[tuple[int, bool], _Captured] = {}

    @torch.no_grad()
    def prepare(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Tensor:
        """Copy camera frames to the GPU and fit them there: the batch to give to `run`.

        Frames are uint8 (H, W, 3) of any sizes, rows possibly padded. Returns before the GPU is
        done with it.
        """
        with self._on_stream('preparing'):
            self._stream.synchronize()  # the pinned memory may still be read from
            pixels = self._pixels_for(len(frames))
            for i, (frame, rgb, fit) in enumerate(zip(frames, are_rgb, fits, strict=True)):
                place_on_gpu(self._upload(i, frame), rgb, fit, pixels[i])
            return pixels

    @torch.no_grad()
    def run(self, frames: np.ndarray | Tensor, confidence: bool) -> BackendResult:
        """Segment what `prepare` gave, or uint8 (N, H, W, 3) RGB frames of the network's size."""
        from_s = perf_counter()
        with self._on_stream('running'):
            pixels = self._pixels_for(len(frames))
            if isinstance(frames, np.ndarray):
                self._stream.synchronize()
                for i, frame in enumerate(frames):
                    pixels[i].copy_(self._upload(i, frame))
            elif frames.data_ptr() != pixels.data_ptr():  # part of a larger batch
                pixels.copy_(frames)
            captured = self._capture(pixels, confidence)
            self._from.record()
            if captured.graph:
                captured.graph.replay()
            else:
                captured.outputs = _step(captured.program, pixels)
            for host, output in zip(captured.host, captured.outputs, strict=True):
                host.copy_(output, non_blocking=True)
            self._until.record()
            self._until.synchronize()
        wall_ms = (perf_counter() - from_s) * 1e3
        run_ms = self._from.elapsed_time(self._until)
        arrays = [host.numpy().copy() for host in captured.host]  # the next run writes there
        return BackendResult(
            arrays[0], arrays[1] if confidence else None, run_ms=run_ms,
            prepare_ms=max(0.0, wall_ms - run_ms))

    def close(self) -> None:
        """Give back the GPU's memory."""
        self._stream.synchronize()
        self._captured.clear()
        self._pixels.clear()
        self._staging.clear()
        torch.cuda.empty_cache()

    @contextmanager
    def _on_stream(self, doing: str) -> Iterator[None]:
        size = 'x'.join(map(str, reversed(self._size)))
        with (out_of_memory_explained(f'{self._name}: {doing} at {size}', self._device),
              torch.cuda.device(self._device), torch.cuda.stream(self._stream)):
            yield

    def _pixels_for(self, batch: int) -> Tensor:
        if batch not in self._pixels:
            self._pixels[batch] = torch.zeros(
                (batch, *self._size, 3), dtype=torch.uint8, device=self._device)
        return self._pixels[batch]

    def _upload(self, slot: int, frame: np.ndarray) -> Tensor:
        """Copy a frame, rows possibly padded, to the GPU through pinned memory."""
        if slot == len(self._staging) or self._staging[slot][0].numel() < frame.size:
            host = torch.empty(frame.size, dtype=torch.uint8, pin_memory=True)
            self._staging[slot:slot + 1] = [(host, torch.empty_like(host, device=self._device))]
        host, gpu = (part[:frame.size].view(frame.shape) for part in self._staging[slot])
        np.copyto(host.numpy(), frame)
        return gpu.copy_(host, non_blocking=True)

    def _capture(self, pixels: Tensor, confidence: bool) -> _Captured:
        """Record the program for this batch size, or find what was recorded."""
        key = len(pixels), confidence
        if key in self._captured:
            return self._captured[key]
        program = self._program(confidence)
        for _ in range(3):  # allocates work space and picks kernels, which no graph can hold
            outputs = _step(program, pixels)
        host = [torch.empty(o.shape, dtype=torch.uint8, pin_memory=True) for o in outputs]
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        captured = _Captured(program, graph, outputs, host)
        try:
            # Other threads (another camera's node in this process) may use CUDA meanwhile.
            with torch.cuda.graph(
                    graph, stream=self._stream, capture_error_mode='thread_local'):
                captured.outputs = _step(program, pixels)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            _log.warning('%s: no CUDA graph for a batch of %d (%s): running without, slower',
                         self._name, len(pixels), first_line(error))
            captured.graph = None
        self._captured[key] = captured
        return captured


def _step(program: Program, pixels: Tensor) -> list[Tensor]:
    return [output.to(torch.uint8) for output in program(pixels)]
