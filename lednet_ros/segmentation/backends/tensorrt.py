# SPDX-License-Identifier: Apache-2.0
"""The whole graph as one TensorRT engine, made by Torch-TensorRT, kept in the engine cache."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lednet_ros.common.errors import BackendUnavailable, first_line
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.segmentation.backends.base import BackendInfo, BackendResult
from lednet_ros.segmentation.backends.cuda_runner import CudaRunner, Program
from lednet_ros.segmentation.backends.engine_cache import (
    Cached,
    EngineCache,
    EngineKey,
    hash_of_sources,
)
from lednet_ros.segmentation.backends.graph import LabelGraph, graph_sources, make_graph
from lednet_ros.segmentation.backends.tensorrt_versions import INSTEAD, check_versions, wanted
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.device_errors import explained
from lednet_ros.segmentation.devices import (
    choose_device,
    choose_precision,
    is_gpu,
    require_code_for,
)
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import Refused, SelfCheck, self_check

_TRY = f'try precision fp32, {INSTEAD}'
_GIB = 1 << 30

_log = logging.getLogger(__name__)


def import_torch_tensorrt() -> Any:
    """Return the module torch_tensorrt, or raise BackendUnavailable with the remedy."""
    version = _installed_version()
    if version:
        check_versions(torch.__version__, version)
    try:
        torch_tensorrt = importlib.import_module('torch_tensorrt')
    except Exception as error:
        # Without a driver or a library it raises RuntimeError, AssertionError, OSError or a bare
        # Exception, at the convenience of whichever of its modules notices first.
        lacks = error.name if isinstance(error, ModuleNotFoundError) else None
        if lacks and not lacks.startswith(('torch_tensorrt', 'tensorrt')):  # as by --no-deps
            raise BackendUnavailable(
                f'tensorrt: torch_tensorrt needs {lacks}, which is not installed: pip install '
                f'{lacks}, {INSTEAD}') from error
        if not version:
            raise BackendUnavailable(
                f'tensorrt: torch_tensorrt is not installed: install {wanted(torch.__version__)}, '
                f'{INSTEAD}') from error
        raise BackendUnavailable(
            f'tensorrt: torch_tensorrt {version} cannot be imported ({_why(error)}): check the '
            f'NVIDIA driver and that {wanted(torch.__version__)} are there, for the CUDA of this '
            f'torch ({torch.version.cuda or "none: a CPU build"}), {INSTEAD}') from error
    check_versions(torch.__version__, torch_tensorrt.__version__)
    # Of 2.13 and 2.14, of what they do themselves whenever an engine is loaded.
    warnings.filterwarnings('ignore', message='RuntimeSettings is only honored')
    return torch_tensorrt


def _installed_version() -> str | None:
    """Return torch_tensorrt's version by its metadata: its import may not live to tell."""
    for name in ('torch_tensorrt', 'torch_tensorrt_rtx'):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _why(error: Exception) -> str:
    """Return what an import failed with, in a line; what is known of it in plain words."""
    if 'getpwuid' in str(error):
        return 'this user has no name: give its id one in /etc/passwd'
    return first_line(error)


def export(graph: LabelGraph, height: int, width: int) -> Any:
    """Export the graph for one frame: a torch.export.ExportedProgram."""
    frames = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(graph, (frames,))


def build_settings(precision: str, gpu: int, is_integrated: bool) -> dict[str, Any]:
    """Return what torch_tensorrt is told beside the program and its inputs."""
    return {
        'device': import_torch_tensorrt().Device(gpu_id=gpu),
        'require_full_compilation': True,  # a fallback is an error, not a slow surprise
        'min_block_size': 1,
        'disable_tf32': precision == 'fp32',  # fp32 shall mean fp32; the graph says the rest
        # Written without care for full disks or other processes, after minutes of building: away.
        'timing_cache_path': os.devnull,
        # All of a GPU's own memory, which is the default; a Jetson's is everybody's.
        'workspace_size': _GIB if is_integrated else 0,
    }


def build_engine(exported: Any, height: int, width: int, settings: dict[str, Any]) -> bytes:
    """Return the serialized engine of an exported program. Raise what TensorRT raises inside."""
    torch_tensorrt = import_torch_tensorrt()
    log = logging.getLogger('torch_tensorrt.dynamo._compiler')
    inside: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1]:
            inside.append(record.exc_info[1])
        return not record.exc_info  # it would print the whole graph

    log.addFilter(keep)
    try:
        return _call(torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine,
                     exported, height, width, settings)
    except Exception:
        # What went wrong is only logged. Up to 2.11 then a variable has no value, and later
        # versions raise an error without the first one's type.
        if inside:
            raise inside[-1] from None
        raise
    finally:
        log.removeFilter(keep)


def partition(exported: Any, height: int, width: int, settings: dict[str, Any]) -> Any:
    """Return how torch_tensorrt splits an exported program, a torch.fx.GraphModule."""
    settings = {**settings, 'dryrun': True}
    return _call(import_torch_tensorrt().dynamo.compile, exported, height, width, settings)


def _call(
    function: Callable[..., Any], exported: Any, height: int, width: int,
    settings: dict[str, Any],
) -> Any:
    """Call a function of torch_tensorrt, or raise BackendUnavailable if a setting is unknown."""
    torch_tensorrt = import_torch_tensorrt()
    known = inspect.signature(function).parameters
    # Up to 2.12 a network is typed weakly unless told: its fp16 is a hint. Later it is always
    # typed strongly, and there is nothing to tell.
    if 'use_explicit_typing' in known:
        settings = {**settings, 'use_explicit_typing': True}
    # It silently ignores what it does not know, and then runs slowly or wrongly.
    unknown = set(settings) - set(known)
    if unknown:
        raise BackendUnavailable(
            f'tensorrt: torch_tensorrt {torch_tensorrt.__version__} does not know '
            f'{", ".join(sorted(unknown))}: install {wanted(torch.__version__)}, {INSTEAD}')
    frames = torch_tensorrt.Input(shape=(1, height, width, 3), dtype=torch.uint8)
    return function(exported, arg_inputs=[frames], **settings)


def load_engine(engine: bytes, confidence: bool, device: torch.device) -> Program:
    """Return a program that runs a serialized engine, with an execution context of its own."""
    torch_tensorrt = import_torch_tensorrt()
    dynamo = torch_tensorrt.dynamo
    module = dynamo.runtime.TorchTensorRTModule(
        serialized_engine=engine, input_binding_names=['frames'],
        output_binding_names=['output0', 'output1'][:1 + confidence], name='lednet',
        settings=dynamo.CompilationSettings(device=torch_tensorrt.Device(gpu_id=device.index)))

    def program(pixels: Tensor) -> Sequence[Tensor]:
        outputs = module(pixels)
        return [outputs] if isinstance(outputs, Tensor) else outputs

    return program


def import_both() -> tuple[Any, Any, str | None]:
    """
    Return torch_tensorrt, the TensorRT that it runs on, and what is doubtful about the two.

    Raise BackendUnavailable for what can only build, or for versions that do not go together.
    """
    torch_tensorrt = import_torch_tensorrt()
    tensorrt = importlib.import_module('tensorrt')
    if getattr(tensorrt, '_package_name', '') == 'tensorrt_rtx':  # it stands in under this name
        raise BackendUnavailable(
            'tensorrt: torch_tensorrt_rtx is for the tests on machines without a GPU: install '
            f'{wanted(torch.__version__)} in a venv without it, {INSTEAD}')
    return torch_tensorrt, tensorrt, check_versions(
        torch.__version__, torch_tensorrt.__version__, tensorrt.__version__)


def engine_key(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> EngineKey:
    """Return what the engine depends on. Raise BackendUnavailable where TensorRT cannot run."""
    torch_tensorrt, tensorrt, _ = import_both()
    device = _choose_gpu(config)
    with explained(f'tensorrt {device}', device, INSTEAD):
        require_code_for(device)
        gpu = torch.cuda.get_device_properties(device)
    preprocessing = checkpoint.preprocessing
    height, width = config.input_size(checkpoint)
    return EngineKey(
        kind='tensorrt', weights_sha256=checkpoint.sha256,
        sources=hash_of_sources(__name__, *graph_sources()),
        height=height, width=width, precision=choose_precision(config, device),
        confidence=confidence,
        # An engine remembers which of several GPUs it was built on; all Orins have one name.
        device=f'{gpu.name} sm{gpu.major}{gpu.minor} of {gpu.multi_processor_count} {device}',
        versions=(('torch', torch.__version__), ('torch_tensorrt', torch_tensorrt.__version__),
                  ('tensorrt', tensorrt.__version__),
                  ('preprocessing', f'{preprocessing.mean} {preprocessing.std}')),
        temperature=checkpoint.metadata.temperature if confidence else 1.0,
        floors=config.score_floors(checkpoint) if confidence else ())


def _choose_gpu(config: SegmenterConfig) -> torch.device:
    device = choose_device(config.device)
    if not is_gpu(device):
        raise BackendUnavailable(
            f'tensorrt: device {config.device} gives {device}: TensorRT needs a CUDA GPU, its '
            f'driver and a CUDA build of torch, {INSTEAD}')
    return device


def is_built(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> bool:
    """Whether the cache has the engine. Raise BackendUnavailable where TensorRT cannot run."""
    cache = EngineCache(config.engine_cache_dir or None)
    return cache.holds(engine_key(checkpoint, config, confidence))


class TensorRTBackend:
    """
    Runs the engine of this checkpoint and size, building it where the cache has none (minutes).

    Where fp16 does not hold for these weights and precision is auto, the engine is of fp32.
    Raise BackendUnavailable or OutOfMemory. What it is busy with is logged.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: SegmenterConfig, reason: str = 'asked for'
    ) -> None:
        if config.precision == 'auto' and not is_built(checkpoint, config, False):
            config = replace(config, precision=_precision_that_holds(checkpoint, config))
        self._keys = {c: engine_key(checkpoint, config, c) for c in (False, True)}
        key = self._keys[False]
        doubt = check_versions(*(version for _, version in key.versions[:3]))
        if doubt:
            _log.warning('tensorrt: %s: tried all the same', doubt)
        self._device = _choose_gpu(config)
        self._checkpoint = checkpoint
        self._size = key.height, key.width
        self._precision = key.precision
        self._cache = EngineCache(config.engine_cache_dir or None)
        self.info = BackendInfo('tensorrt', str(self._device), key.precision, reason)
        self.self_check: SelfCheck | None = None  # of the program loaded last
        self.build_s: float | None = None
        self._what = f'{self.info.name}: the engine of {key.width}x{key.height} pixels'
        self._runner = CudaRunner(self.info.name, self._device, *self._size, self._program)
        try:
            # Load the engine and record its CUDA graph, so that no camera frame waits for that.
            with explained(f'{self._what}: running it', self._device, INSTEAD):
                self._runner.run(
                    np.zeros((1, *self._size, 3), np.uint8),
                    config.min_confidence > 0 or config.unfamiliar_share > 0)
        except Exception:
            with suppress(Exception):  # of what is broken
                self.close()
            raise

    def preprocess(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> Tensor:
        """Copy camera frames to the GPU and fit them there: the batch to give to `run`."""
        return self._runner.preprocess(frames, are_rgb, fits)

    def run(self, frames: np.ndarray | Tensor, confidence: bool) -> BackendResult:
        """
        Segment what `preprocess` gave, or uint8 (N, H, W, 3) RGB frames of the network's size.

        The first time that confidence is asked for, its engine is loaded, or built if need be.
        """
        return self._runner.run(frames, confidence)

    def close(self) -> None:
        """Release the device's memory."""
        self._runner.close()

    def _program(self, confidence: bool) -> Program:
        """Load the engine of this variant, or build it; either way it is checked."""
        if self.build_s is not None:
            _log.info('%s: preparing confidence as well: no labels meanwhile', self.info.name)
        with explained(self._what, self._device, _TRY):
            try:
                cached: Cached[Program] = self._cache.fetch(
                    self._keys[confidence], lambda: self._build(confidence),
                    lambda engine: self._load(engine, confidence))
            except Refused as refusal:
                raise BackendUnavailable(f'{self._what}: {refusal}: {_TRY}') from None
        how = 'from the cache' if cached.hit else f'built in {cached.build_s:.0f} s'
        _log.info('%s %s; it %s', self._what, how, self.self_check)
        self.build_s = (self.build_s or 0.0) + cached.build_s
        return cached.engine

    def _build(self, confidence: bool) -> bytes:
        with (explained(f'{self._what}: building it', self._device, _TRY),
              torch.cuda.device(self._device)):
            _log.info('%s: exporting the network', self.info.name)
            # On the CPU: the GPU's memory is TensorRT's.
            graph = make_graph(
                self._checkpoint, confidence, torch.device('cpu'), self._precision,
                self._keys[confidence].floors)
            exported = export(graph, *self._size)
            _log.info('%s: building the engine, which can take minutes', self.info.name)
            gpu = torch.cuda.get_device_properties(self._device)
            return build_engine(exported, *self._size, build_settings(
                self._precision, self._device.index, bool(gpu.is_integrated)))

    def _load(self, engine: bytes, confidence: bool) -> Program:
        """
        Load an engine and compare it with torch.

        Its bytes are as they were built, so that what goes wrong is the machine's fault, and
        raised as such: only an engine that says something else is set aside by the cache.
        """
        _log.info('%s: checking the engine', self.info.name)
        with (explained(f'{self._what}: loading it', self._device,
                        f'delete it by lednet_compile --prune, {INSTEAD}'),
              torch.cuda.device(self._device), torch.no_grad()):
            program = load_engine(engine, confidence, self._device)

            def outputs(frames: np.ndarray) -> list[np.ndarray]:
                pixels = torch.from_numpy(frames).to(self._device)
                # torch_tensorrt does not say so where TensorRT refuses to run: its outputs are
                # then what lay in their memory, which is to be this.
                nothing = [torch.full((1, *self._size), -1, dtype=torch.int32,
                                      device=self._device) for _ in range(8)]
                del nothing
                found = [output.cpu().numpy() for output in program(pixels)]
                if any((output < 0).any() for output in found):
                    raise RuntimeError('TensorRT wrote no labels, see the lines above')
                return found

            found = self_check(
                self._checkpoint, outputs, *self._size, confidence=confidence,
                floors=self._keys[confidence].floors)
        if found.refusal:
            raise Refused(found.refusal)
        self.self_check = found
        return program


def _precision_that_holds(checkpoint: Checkpoint, config: SegmenterConfig) -> str:
    """
    Return 'fp16', or 'fp32' where these weights in fp16 say something else.

    Tried by torch on the CPU, in seconds, before TensorRT builds for minutes.
    """
    graph = make_graph(checkpoint, False, torch.device('cpu'), 'fp16')

    @torch.no_grad()
    def outputs(frames: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in graph(torch.from_numpy(frames))]

    refusal = self_check(checkpoint, outputs, *config.input_size(checkpoint)).refusal
    if refusal:
        _log.warning('tensorrt: in fp16 %s: going on in fp32, slower; precision fp32 spares '
                     'this check', refusal)
    return 'fp32' if refusal else 'fp16'
