# SPDX-License-Identifier: Apache-2.0
"""The fastest exact way on a CPU: ONNX Runtime up to the scores, then only borders upsampled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import BackendUnavailable, ConfigError
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.networks import entry_of, name_of
from lednet_ros.segmentation.backends.base import BackendInfo, BackendResult
from lednet_ros.segmentation.backends.engine_cache import EngineCache, EngineKey, hash_of_sources
from lednet_ros.segmentation.backends.graph import graph_sources
from lednet_ros.segmentation.backends.onnx_sessions import OnnxSessions
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.devices import choose_precision
from lednet_ros.segmentation.letterbox import Fit, place_all
from lednet_ros.segmentation.self_check import Refused, SelfCheck, self_check
from lednet_ros.segmentation.upsample import make_upsampling

_INSTALL = 'pip install onnxruntime onnx'


class OnnxRuntimeBackend:
    """As many threads as cores are free; the frames of a batch run one by one."""

    def __init__(
        self, checkpoint: Checkpoint, config: SegmenterConfig, reason: str = 'asked for'
    ) -> None:
        if config.device.startswith('cuda'):
            raise ConfigError(f'device is {config.device} but backend onnxruntime runs on the '
                              'CPU: choose device auto or cpu, or backend tensorrt or torch')
        choose_precision(config, torch.device('cpu'))
        self._runtime = import_onnxruntime()
        self._checkpoint = checkpoint
        self._size = size = config.input_size(checkpoint)
        self._temperature = checkpoint.metadata.temperature  # after the model, which gives scores
        self._floors = config.score_floors(checkpoint)
        self.info = BackendInfo('onnxruntime', 'cpu', 'fp32', reason)
        try:
            cached = EngineCache(config.engine_cache_dir or None).fetch(
                engine_key(checkpoint, size), lambda: _build(checkpoint, size), self._load)
        except Refused as refusal:
            raise BackendUnavailable(
                f'backend onnxruntime: {refusal}: choose backend torch') from None
        self.self_check: SelfCheck | None = cached.engine
        self.build_s = cached.build_s

    def _load(self, model: bytes) -> SelfCheck:
        """Load a model and compare it with torch; raise Refused where it says something else."""
        self._sessions = load_sessions(self._runtime, model)
        height, width = self._sessions.choose().scores.shape[2:]
        self._upsampling = make_upsampling(
            (height, width), self._size, entry_of(self._checkpoint.network).aligned)
        found = self_check(
            self._checkpoint, self._outputs, *self._size, confidence=True, floors=self._floors)
        if found.refusal:
            self.close()
            raise Refused(found.refusal)
        return found

    def _outputs(self, frames: np.ndarray) -> list[np.ndarray]:
        result = self.run(frames, confidence=True)
        assert result.confidence is not None
        return [result.labels, result.confidence]

    def preprocess(
        self, frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
    ) -> np.ndarray:
        """Fit camera frames into a batch for `run`."""
        return place_all(frames, are_rgb, fits)

    def run(self, frames: np.ndarray, confidence: bool) -> BackendResult:
        """Segment uint8 (N, H, W, 3) RGB frames, contiguous, of the network's size."""
        labels = np.empty(frames.shape[:3], np.uint8)
        certainty = np.empty(frames.shape[:3], np.uint8) if confidence else None
        run_s = 0.0
        # One by one: in a batch of four, whose layers leave the caches, a frame takes 8 % longer.
        for i in range(len(frames)):
            frame = frames[i:i + 1]
            started_s = perf_counter()
            scores = self._sessions.choose().run(frame)
            run_s += perf_counter() - started_s
            labels[i] = self._upsampling.labels(scores)
            if certainty is not None:
                certainty[i] = self._upsampling.confidence(
                    scores, self._temperature, self._floors)
        return BackendResult(labels, certainty, run_s * 1e3)

    def close(self) -> None:
        """Release the sessions' memory."""
        self._sessions.close()


def engine_key(checkpoint: Checkpoint, size: tuple[int, int]) -> EngineKey:
    """Return what the model depends on; size is (height, width). Raise BackendUnavailable."""
    return EngineKey(
        kind='onnx', weights_sha256=checkpoint.sha256, sources=hash_of_sources(
            __name__, f'{__package__}.onnx_plain', f'{__package__}.onnx_writer',
            *graph_sources()),
        height=size[0], width=size[1], precision='fp32', confidence=False, device='cpu',
        versions=(('onnxruntime', import_onnxruntime().__version__),
                  ('preprocessing', repr(checkpoint.preprocessing)),
                  *exported_by(checkpoint)))


def exported_by(checkpoint: Checkpoint) -> tuple[tuple[str, str], ...]:
    """Return what else a model depends on that torch's exporter makes; LEDNet's has its writer."""
    return () if name_of(checkpoint.network) == 'lednet' else (('torch', torch.__version__),)


def import_onnxruntime() -> ModuleType:
    """Return the module. Raise BackendUnavailable."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable(
            f'backend onnxruntime: it cannot be imported ({error}): {_INSTALL}, or choose backend '
            'torch') from error
    return onnxruntime


def _build(checkpoint: Checkpoint, size: tuple[int, int]) -> bytes:
    try:
        from lednet_ros.segmentation.backends.onnx_plain import onnx_model
    except ImportError as error:
        raise BackendUnavailable(
            f'backend onnxruntime: the model is written with onnx, which cannot be imported '
            f'({error}): {_INSTALL}, or choose backend torch') from error
    return onnx_model(checkpoint, *size)


def waiting(version: str) -> dict[str, str]:
    """
    Return the session's entries for how threads wait for each other, by onnxruntime's version.

    Busily for the microseconds between two layers, and neither between frames nor for one whose
    core another process has: they would only take the CPU from the rest of the robot
    (benchmarks/busy.py). Before 1.26 nothing says how long: a million rounds, or none.
    """
    major, minor = (int(number) for number in re.findall(r'\d+', version)[:2])
    if (major, minor) < (1, 26):
        return {'session.intra_op.allow_spinning': '0'}
    return {'session.force_spinning_stop': '1', 'session.intra_op.spin_duration_us': '20'}


def session_options(
    runtime: ModuleType, threads: int, entries: Mapping[str, str] | None = None
) -> Any:
    """Return onnxruntime.SessionOptions for so many threads."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for key, value in (entries or waiting(runtime.__version__)).items():
        options.add_session_config_entry(key, value)
    options.enable_mem_pattern = False  # takes as much again from the second run on, no faster
    options.log_severity_level = 3  # errors only
    return options


class OnnxSession:
    """A session and where its scores go."""

    def __init__(self, runtime: ModuleType, model: bytes, options: Any) -> None:
        options.add_free_dimension_override_by_name('N', 1)  # then all that sizes decide is fixed
        self._session = runtime.InferenceSession(
            model, options, providers=['CPUExecutionProvider'])
        self._binding = self._session.io_binding()
        shape = self._session.get_outputs()[0].shape[1:]
        self.scores = np.empty((1, *shape), np.float32)
        self._binding.bind_output('scores', 'cpu', 0, np.float32, self.scores.shape,
                                  self.scores.ctypes.data)

    def run(self, frame: np.ndarray) -> np.ndarray:
        """Return the scores, float32 (C, h, w), of a frame, uint8 (1, H, W, 3), until the next."""
        self._binding.bind_input('frames', 'cpu', 0, np.uint8, frame.shape, frame.ctypes.data)
        self._session.run_with_iobinding(self._binding)
        return self.scores[0]


def load_sessions(runtime: ModuleType, model: bytes) -> OnnxSessions[OnnxSession]:
    """Return a model in sessions of as many threads as cores are free."""
    return OnnxSessions(
        lambda threads: OnnxSession(runtime, model, session_options(runtime, threads)),
        usable_cores())
