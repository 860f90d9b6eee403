# SPDX-License-Identifier: Apache-2.0
"""The whole graph as one TensorRT engine, made by Torch-TensorRT, kept in the engine cache."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import io
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.errors import BackendUnavailable, LednetRosError, first_line
from lednet_ros.segmentation.backends import BackendResult
from lednet_ros.segmentation.backends.cache import Cached, EngineCache, EngineKey
from lednet_ros.segmentation.backends.cuda import CudaRunner, Program, out_of_memory_explained
from lednet_ros.segmentation.backends.torch import choose_device, choose_precision, make_graph
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.fit import Fit
from lednet_ros.segmentation.graph import GRAPH_VERSION, LabelGraph
from lednet_ros.segmentation.self_check import SelfCheck, self_check

SUPPORTED = ((2, 13), (2, 14))  # of torch; torch_tensorrt must be of the same number
INSTEAD = 'or choose backend torch or onnxruntime'

_TRY = f'try precision fp32, {INSTEAD}'

_log = logging.getLogger(__name__)


def import_torch_tensorrt() -> Any:
    """Import torch_tensorrt, or raise BackendUnavailable with the remedy."""
    version = _installed_version()
    if version:
        _check_versions(torch.__version__, version)
    try:
        torch_tensorrt = importlib.import_module('torch_tensorrt')
    except Exception as error:
        # Without a driver or a library it raises RuntimeError, AssertionError, OSError or a bare
        # Exception, at the convenience of whichever of its modules notices first.
        if not version:
            raise BackendUnavailable(
                'tensorrt: torch_tensorrt is not installed: install the torch_tensorrt that fits '
                f'torch {torch.__version__}, {INSTEAD}') from error
        raise BackendUnavailable(
            f'tensorrt: torch_tensorrt {version} cannot be imported ({first_line(error)}): check '
            f'the NVIDIA driver, the TensorRT libraries and that torch is a CUDA build, '
            f'{INSTEAD}') from error
    _check_versions(torch.__version__, torch_tensorrt.__version__)
    return torch_tensorrt


def _installed_version() -> str | None:
    """Version of torch_tensorrt by its metadata: its import may not live to tell."""
    for name in ('torch_tensorrt', 'torch_tensorrt_rtx'):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def _check_versions(torch_version: str, torch_tensorrt_version: str) -> None:
    ours, theirs = (tuple(map(int, re.findall(r'\d+', v)[:2]))
                    for v in (torch_version, torch_tensorrt_version))
    if ours != theirs or not SUPPORTED[0] <= ours <= SUPPORTED[1]:
        first, last = ('.'.join(map(str, v)) for v in SUPPORTED)
        raise BackendUnavailable(
            f'tensorrt: torch {torch_version} and torch_tensorrt {torch_tensorrt_version}: '
            f'install torch {first} to {last} and torch_tensorrt of the same number, {INSTEAD}')


def example(height: int, width: int, max_batch: int, device: torch.device) -> Tensor:
    """Make an input of the graph."""
    return torch.zeros(max_batch, height, width, 3, dtype=torch.uint8, device=device)


def export(graph: LabelGraph, height: int, width: int, max_batch: int) -> Any:
    """Export the graph for 1 to `max_batch` frames: a torch.export.ExportedProgram."""
    frames = example(height, width, max_batch, next(graph.parameters()).device)
    with torch.no_grad():
        return torch.export.export(graph, (frames,), dynamic_shapes=_dynamic(max_batch))


def _dynamic(max_batch: int) -> Any:
    return None if max_batch == 1 else ({0: torch.export.Dim('batch', min=1, max=max_batch)},)


def compile_settings(precision: str, device: torch.device) -> dict[str, Any]:
    """What torch_tensorrt.dynamo.compile is told beside the program and its inputs."""
    return {
        'device': device,
        'require_full_compilation': True,  # a fallback is an error, not a slow surprise
        'min_block_size': 1,
        'disable_tf32': precision == 'fp32',  # fp32 shall mean fp32; the graph says the rest
        # Written without care for full disks or other processes, after minutes of building: away.
        'timing_cache_path': os.devnull,
    }


def compile_exported(
    exported: Any, height: int, width: int, max_batch: int, settings: dict[str, Any]
) -> Any:
    """Compile an exported program: a torch.fx.GraphModule of TensorRT engines."""
    torch_tensorrt = import_torch_tensorrt()
    compile_ = torch_tensorrt.dynamo.compile
    # It silently ignores what it does not know, and then runs slowly or wrongly.
    unknown = set(settings) - set(inspect.signature(compile_).parameters)
    if unknown:
        raise BackendUnavailable(
            f'tensorrt: torch_tensorrt {torch_tensorrt.__version__} does not know '
            f'{", ".join(sorted(unknown))}: install a supported version, {INSTEAD}')
    shape = (height, width, 3)
    shapes = {'shape': (1, *shape)} if max_batch == 1 else {
        'min_shape': (1, *shape), 'opt_shape': (max_batch, *shape),
        'max_shape': (max_batch, *shape)}
    frames = torch_tensorrt.Input(**shapes, dtype=torch.uint8)
    return compile_(exported, arg_inputs=[frames], **settings)


def engine_key(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> EngineKey:
    """What the engine depends on. Raises BackendUnavailable where TensorRT cannot run."""
    torch_tensorrt = import_torch_tensorrt()
    device = choose_device(config.device)
    if device.type != 'cuda':
        raise BackendUnavailable(
            f'tensorrt: device {config.device} gives {device}: TensorRT needs a CUDA GPU, its '
            f'driver and a CUDA build of torch, {INSTEAD}')
    gpu = torch.cuda.get_device_properties(device)
    tensorrt = importlib.import_module('tensorrt')  # torch_tensorrt may stand in for it
    preprocessing = checkpoint.preprocessing
    height, width = config.input_size(checkpoint)
    return EngineKey(
        kind='tensorrt', weights_sha256=checkpoint.sha256, graph_version=GRAPH_VERSION,
        height=height, width=width,
        batch=config.max_batch, precision=choose_precision(config, device),
        confidence=confidence,
        # An engine remembers which of several GPUs it was built on.
        device=f'{gpu.name} sm{gpu.major}{gpu.minor} {device}',
        versions=(('torch', torch.__version__), ('torch_tensorrt', torch_tensorrt.__version__),
                  ('tensorrt', tensorrt.__version__),
                  ('preprocessing', f'{preprocessing.mean} {preprocessing.std}')))


def is_built(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> bool:
    """Whether the cache has the engine. Raises BackendUnavailable where TensorRT cannot run."""
    cache = EngineCache(config.engine_cache_dir or None)
    return (cache.directory / engine_key(checkpoint, config, confidence).file_name).is_file()


class TensorRTBackend:
    """Runs the engine of this checkpoint and size, building it where the cache has none (minutes).

    Raises BackendUnavailable or OutOfMemory. What it is busy with is logged.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: SegmenterConfig, reason: str = 'asked for'
    ) -> None:
        self._keys = {c: engine_key(checkpoint, config, c) for c in (False, True)}
        key = self._keys[False]
        self._torch_tensorrt = import_torch_tensorrt()
        self._device = choose_device(config.device)
        self._checkpoint = checkpoint
        self._size = key.height, key.width, key.batch
        self._precision, self._max_batch = key.precision, key.batch
        self._cache = EngineCache(config.engine_cache_dir or None)
        self._saved: dict[bool, bytes] = {}  # by confidence: the saved program
        self.name = f'tensorrt {self._device} {key.precision}'
        self.reason = reason
        self.self_check: SelfCheck | None = None  # of the program loaded last
        self.build_s: float | None = None
        self._what = (f'{self.name}: the engine of {key.width}x{key.height} pixels and a batch '
                      f'of {key.batch}')
        self._runner = CudaRunner(self.name, self._device, key.height, key.width, self._program)
        # Load the engine and record its CUDA graphs, so that no camera frame waits for that.
        for batch in range(1, key.batch + 1):
            frames = np.zeros((batch, key.height, key.width, 3), np.uint8)
            self._runner.run(frames, config.min_confidence > 0)

    def prepare(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Tensor:
        """Copy camera frames to the GPU and fit them there: the batch to give to `run`."""
        return self._runner.prepare(frames, are_rgb, fits)

    def run(self, frames: np.ndarray | Tensor, confidence: bool) -> BackendResult:
        """Segment what `prepare` gave, or uint8 (N, H, W, 3) RGB frames of the network's size.

        The first time that confidence is asked for, its engine is loaded, or built if need be.
        """
        results = [self._runner.run(frames[i:i + self._max_batch], confidence)
                   for i in range(0, len(frames), self._max_batch)]
        if len(results) == 1:
            return results[0]
        return BackendResult(
            np.concatenate([r.labels for r in results]),
            np.concatenate([c for r in results if (c := r.confidence) is not None])
            if confidence else None,
            run_ms=sum(r.run_ms for r in results),
            prepare_ms=sum(r.prepare_ms for r in results))

    def close(self) -> None:
        """Give back the device's memory."""
        self._saved.clear()
        self._runner.close()

    def _fetch(self, confidence: bool) -> Cached[bytes]:
        """Load the saved program of this ending, or build it; either way it is checked."""
        try:
            return self._cache.fetch(
                self._keys[confidence], lambda: self._build(confidence), self._check)
        except LednetRosError:
            raise
        except _Refused as refusal:
            raise BackendUnavailable(f'{self._what}: {refusal}: {_TRY}') from None
        except Exception as error:  # TensorRT and its converters raise anything
            _log.debug('building failed', exc_info=True)
            raise BackendUnavailable(
                f'{self._what} cannot be built ({first_line(error)}): {_TRY}') from error

    def _program(self, confidence: bool) -> Program:
        """A program of its own for each CUDA graph.

        TensorRT leaves undefined what a graph does once its execution context is used otherwise.
        """
        if confidence not in self._saved:
            cached = self._fetch(confidence)
            how = 'from the cache' if cached.hit else f'built in {cached.build_s:.0f} s'
            _log.info('%s %s; it %s', self._what, how, self.self_check)
            self._saved[confidence] = cached.engine
            self.build_s = (self.build_s or 0.0) + cached.build_s
        return self._load(self._saved[confidence])

    def _build(self, confidence: bool) -> bytes:
        with out_of_memory_explained(self._what, self._device), torch.cuda.device(self._device):
            _log.info('%s: exporting the network', self.name)
            graph = make_graph(self._checkpoint, confidence, self._device, self._precision)
            exported = export(graph, *self._size)
            _log.info('%s: building the engine, which can take minutes', self.name)
            settings = compile_settings(self._precision, self._device)
            module = compile_exported(exported, *self._size, settings)
            file = io.BytesIO()
            self._torch_tensorrt.save(
                module, file, arg_inputs=[example(*self._size, self._device)],
                dynamic_shapes=_dynamic(self._max_batch))
            return file.getvalue()

    def _load(self, saved: bytes) -> Program:
        module = self._torch_tensorrt.load(io.BytesIO(saved)).module()

        def program(pixels: Tensor) -> Sequence[Tensor]:
            outputs = module(pixels)
            return [outputs] if isinstance(outputs, Tensor) else outputs

        return program

    def _check(self, saved: bytes) -> bytes:
        """Run a saved program once against torch. What this raises makes the cache build anew."""
        _log.info('%s: checking the engine', self.name)
        try:
            with (out_of_memory_explained(self._what, self._device),
                  torch.cuda.device(self._device), torch.no_grad()):
                program = self._load(saved)

                def labels(frames: np.ndarray) -> np.ndarray:
                    return program(torch.from_numpy(frames).to(self._device))[0].cpu().numpy()

                found = self_check(self._checkpoint, labels, *self._size, self._device)
        except RuntimeError as error:
            if 'cuda error' not in str(error).lower():
                raise
            # It says something of the machine, not of the engine, which took minutes.
            raise BackendUnavailable(
                f'{self._what}: the GPU failed ({first_line(error)}): look at dmesg, restart the '
                'machine') from error
        if found.refusal:
            raise _Refused(found.refusal)
        self.self_check = found
        return saved


class _Refused(Exception):
    """The self-check said no. Not a LednetRosError: the cache shall set such an engine aside."""
