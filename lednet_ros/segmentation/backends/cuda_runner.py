# SPDX-License-Identifier: Apache-2.0
"""How a program runs on a CUDA GPU: one stream, memory allocated once, only uint8 on the bus."""

from __future__ import annotations

import glob
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lednet_ros.common.errors import BackendUnavailable, LednetRosError, OutOfMemory, first_line
from lednet_ros.segmentation.backends.base import BackendResult
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import make_frames

Program = Callable[[Tensor], Sequence[Tensor]]
"""uint8 (1, H, W, 3) RGB -> integer (1, H, W) labels and, in the other variant, confidence."""

MIN_REPLAYED = 0.999  # of a graph's pixels, those equal to the program's own

_CAPTURING = threading.Lock()  # torch waits for the whole GPU before it captures, which no other
#                                capture of this process survives

_log = logging.getLogger(__name__)

# What CUDA, torch and TensorRT say (in lower case, without spaces), what it means and what helps.
_MEMORY = (
    'outofmemory', 'alloc_failed', 'allocation_failed',
    'cudacachingallocator.cpp')  # Jetson: torch asks NVML, which is not there, how full the GPU is
# torch_tensorrt passes TensorRT's reason on to stderr alone.
_REFUSED = ('unabletodeserializethetensorrtengine', 'failedtodeserializetensorrtengine',
            'tensorrtexecutioncontext', 'failedtocreateexecutioncontext')
_PLENTY = 1 << 30  # of free memory: no engine of ours needs so much
_MACHINE = (
    (('nokernelimage', 'invaliddevicefunction'),
     'torch {torch} has no code for this GPU: install a torch built for it'),
    (('driverversionisinsufficient', 'systemistooold', 'unsupportedtoolchain', 'ptxversion'),
     "the NVIDIA driver is too old for torch's CUDA {cuda}: update the driver, or install a torch "
     'for an older CUDA'),
    (('notcompiledwithcuda',), 'torch {torch} is a CPU build: install a CUDA build of torch'),
    (('nonvidiadriver', 'nocudagpus', 'nocuda-capable'),
     'the NVIDIA driver does not answer ({said}): check it with nvidia-smi'),
    (('cudaerror', 'cudaunknownerror', 'cudaruntime', 'cudnn_status', 'cublas_status',
      'cudnnerror', 'cudadriver', 'cudacall'),
     'the GPU failed ({said}): look at dmesg, restart the machine'))


@contextmanager
def explained(doing: str, device: torch.device, otherwise: str = '') -> Iterator[None]:
    """
    Turn what CUDA, torch and TensorRT raise into one line: OutOfMemory or BackendUnavailable.

    `otherwise` is the remedy where nothing is known of an error; without it that passes as it is.
    """
    try:
        yield
    except LednetRosError:
        raise
    except Exception as error:
        said = first_line(error)
        text = str(error).lower().replace(' ', '')
        free, told = _free(device)
        if any(words in text for words in _REFUSED) and free > _PLENTY:
            raise BackendUnavailable(
                f'{doing}: TensorRT refuses the engine ({said}, see the lines above){told}: if it '
                'is of another GPU or TensorRT, delete it by lednet_compile --prune') from error
        if is_out_of_memory(error):
            what = 'out of memory' if 'outofmemory' in text else 'most likely out of memory'
            because = '' if 'outofmemory' in text else f' ({said})'
            raise OutOfMemory(
                f'{doing}: {what} on {device}{because}{told}: end other programs on this GPU, or '
                'choose a smaller input_height and input_width') from error
        for says, cause in _MACHINE:
            if any(words in text for words in says):
                raise BackendUnavailable(f'{doing}: ' + cause.format(
                    torch=torch.__version__, cuda=torch.version.cuda, said=said)) from error
        if not otherwise:
            raise
        if not str(error).strip():  # an assert of torch_tensorrt's
            said += f', see the lines above{told}'
        raise BackendUnavailable(f'{doing}: failed ({said}): {otherwise}') from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or TensorRT refused without a word, for which that is the reason."""
    text = str(error).lower().replace(' ', '')
    return (isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
            or any(words in text for words in (*_MEMORY, *_REFUSED)))


def _free(device: torch.device) -> tuple[int, str]:
    """Return the GPU's free memory in bytes, and the same in words."""
    with suppress(Exception):  # so full, or so broken, that even asking fails
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        return free, f', {free >> 20} of {total >> 20} MiB are free'
    return 0, ''


def why_no_gpu() -> str:
    """Return why torch finds no CUDA GPU, in words."""
    nodes = [node for pattern in ('/dev/nvidia[0-9]*', '/dev/nvhost-gpu', '/dev/nvgpu/igpu0')
             for node in glob.glob(pattern)]
    if not nodes:
        return 'no CUDA GPU'
    if torch.version.cuda is None:
        return (f'an NVIDIA GPU, but torch {torch.__version__} is a CPU build: install a CUDA '
                'build of torch')
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES')
    number = re.match(r'\d+', hidden or '')
    is_none = int(number[0]) >= len(nodes) if number else not re.match('GPU-|MIG-', hidden or '')
    if hidden is not None and is_none:
        return f"an NVIDIA GPU, but CUDA_VISIBLE_DEVICES is '{hidden}': unset it"
    closed = [node for node in nodes
              if os.path.exists(node) and not os.access(node, os.R_OK | os.W_OK)]
    if len(closed) == len(nodes):
        return (f'an NVIDIA GPU, but this user may not use {closed[0]}: add the user to the '
                'groups video and render, and log in anew')
    return (f'an NVIDIA GPU, but its driver does not fit CUDA {torch.version.cuda} of torch '
            f'{torch.__version__}: update the driver, or install a torch for an older CUDA')


def require_code_for(device: torch.device) -> None:
    """Raise BackendUnavailable where this torch has no code for a GPU, which its kernels need."""
    major, minor = torch.cuda.get_device_capability(device)
    built_for = torch.cuda.get_arch_list()  # 'sm_90', and 'compute_90': to be translated
    for architecture in built_for:
        kind, _, number = architecture.partition('_')
        digits = re.sub(r'\D', '', number)
        if kind not in ('sm', 'compute') or len(digits) < 2:  # as of ROCm: it says nothing here
            return
        has = int(digits[:-1]), int(digits[-1])
        if number.endswith('a'):  # 'sm_90a': for this one alone
            fits = has == (major, minor)
        elif kind == 'sm':
            fits = has[0] == major and has[1] <= minor
        else:
            fits = has <= (major, minor)
        if fits:
            return
    if built_for:
        raise BackendUnavailable(
            f'{device}: torch {torch.__version__} has no code for this GPU '
            f'({torch.cuda.get_device_name(device)}, sm_{major}{minor}), only for '
            f'{", ".join(built_for)}: install a torch built for it, or choose device cpu')


def place_on_gpu(frame: Tensor, rgb: bool, fit: Fit, out: Tensor) -> None:
    """
    Write a camera frame, uint8 (H, W, 3), into `out` as RGB: what Fit.place does on the CPU.

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
