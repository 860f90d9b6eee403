# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint's path to a network that has run once, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import numpy as np

from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.engine_build import BuildState, ChildBuild, needed_build
from lednet_ros.segmentation.segmenter import Segmenter

_log = logging.getLogger(__name__)


class NetworkLoader:
    """
    Loads a checkpoint, builds its engine where one is needed, and runs the network once.

    One job of `executor`, which should have one thread, the one that uses the Segmenter
    afterwards. The engine is built in a child process. Nothing here blocks but `wait`.
    """

    def __init__(
        self, executor: futures.Executor, checkpoint: str | Path, config: SegmenterConfig,
        frames: int = 1, on_done: Callable[[], object] = lambda: None,
    ) -> None:
        """Begin to load. `frames`: how many a batch holds; `on_done` is called in some thread."""
        self._build: ChildBuild | None = None
        self._lock = threading.Lock()  # of the two: a build may begin as it is cancelled
        self._is_cancelled = False
        self._job = executor.submit(self._load, checkpoint, config, frames)
        self._job.add_done_callback(lambda job: on_done())

    @property
    def build(self) -> BuildState | None:
        """Where the build of an engine stands; None while there is none."""
        build = self._build
        return build.state if build is not None else None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end, well or not; return whether it came in time."""
        return not futures.wait([self._job], timeout_s).not_done

    def result(self) -> Segmenter:
        """Wait, and return the Segmenter, the caller's to close. Raise what went wrong."""
        return self._job.result()

    def cancel(self) -> None:
        """End the build now; whatever is made nevertheless is closed."""
        with self._lock:
            self._is_cancelled = True
            if self._build is not None:
                self._build.cancel()
        self._job.add_done_callback(_close)

    def _load(self, path: str | Path, config: SegmenterConfig, frames: int) -> Segmenter:
        checkpoint = load_checkpoint(path)
        config = self._with_engine(checkpoint, config)
        if self._is_cancelled:
            raise BackendUnavailable('loading was cancelled')
        return _make(checkpoint, config, frames)

    def _with_engine(self, checkpoint: Checkpoint, config: SegmenterConfig) -> SegmenterConfig:
        """Have the engine built that a Segmenter would need; return the config to go on with."""
        build = needed_build(checkpoint, config)  # which may import for half a minute
        if build is None:
            return config
        with self._lock:
            self._build = build
            if self._is_cancelled:
                build.cancel()
        _log.info('compiling the network for this GPU, once: this takes minutes')
        error = build.wait().error
        self._build = None
        if error is None:
            return config
        if config.backend != 'auto' or self._is_cancelled:
            raise BackendUnavailable(error)
        _log.warning('%s: going on without TensorRT, slower', error)
        return replace(config, no_tensorrt=error)


def _make(checkpoint: Checkpoint, config: SegmenterConfig, frames: int) -> Segmenter:
    """Set up the network and run it once, with so many frames."""
    segmenter = Segmenter(checkpoint, config)
    try:
        height, width = segmenter.input_size
        segmenter.segment([np.zeros((height, width, 3), np.uint8)] * frames)
    except Exception:
        segmenter.close()
        raise
    return segmenter


def _close(job: futures.Future[Segmenter]) -> None:
    if job.exception() is None:
        job.result().close()
