# SPDX-License-Identifier: Apache-2.0
"""
An engine built in a process of its own: it can be watched, and ended at any moment.

TensorRT cannot be interrupted inside one process, and keeps its thread for minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.segmentation.backends.registry import BACKENDS
from lednet_ros.segmentation.config import SegmenterConfig


@dataclass(frozen=True)
class BuildState:
    """Where a build stands."""

    stage: str = 'starting'    # for people
    elapsed_s: float = 0.0     # since the start; stands still when it has ended
    is_done: bool = False      # ended, well or not
    result: str | None = None  # the backend that is now ready to be loaded, for people
    error: str | None = None   # why there is none, in one line


class ChildBuild:
    """
    `lednet_compile` as a child process: afterwards a Segmenter of this config starts at once.

    Nothing here blocks but `wait` and, for at most a second, `cancel`. The child also ends when
    this process does, however that comes.
    """

    def __init__(self, checkpoint: str | Path | None, config: SegmenterConfig) -> None:
        self._state = BuildState()
        self._from_s = monotonic()
        self._process = subprocess.Popen(
            _command(checkpoint, config), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, encoding='utf-8', errors='replace',
            start_new_session=True)  # a Ctrl-C in the terminal is for the parent to act on
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def state(self) -> BuildState:
        """Where the build stands now."""
        state = self._state
        if state.is_done:
            return state
        return replace(state, elapsed_s=monotonic() - self._from_s)

    def wait(self, timeout_s: float | None = None) -> BuildState:
        """Wait until the build has ended, or so long."""
        self._reader.join(timeout_s)
        return self.state

    def cancel(self) -> None:
        """End the child now. Harmless when it has ended; the cache never holds half an engine."""
        if self._process.poll() is None:
            # Nothing to save and no handler that TensorRT would let run, so without a request.
            self._process.kill()
        self._reader.join(1.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                # Other lines are not for us.
                with suppress(ValueError, TypeError, RecursionError):
                    self._state = replace(self._state, **json.loads(line))
        finally:  # whoever waits must see an end
            self._process.stdout.close()  # unread, it would block the child
            self._finish(self._process.wait())

    def _finish(self, code: int) -> None:
        error = self._state.error
        if code and not error:
            error = (f'building the engine ended early (exit code {code}): see the console'
                     if code > 0 else
                     f'building the engine was ended by signal {-code}: 9 may mean that the '
                     'machine was out of memory')
        self._state = replace(self._state, is_done=True, error=error,
                              elapsed_s=monotonic() - self._from_s)
        if self._process.stdin:
            self._process.stdin.close()


def needed_build(checkpoint: Checkpoint, config: SegmenterConfig) -> ChildBuild | None:
    """Start building what a Segmenter of this config would spend minutes on; None: nothing."""
    from lednet_ros.segmentation.backends.engine_cache import EngineCache
    from lednet_ros.segmentation.backends.tensorrt import is_built
    from lednet_ros.segmentation.devices import choose_device
    if config.backend != 'auto' and not BACKENDS[config.backend].builds_engine:
        return None
    try:
        if choose_device(config.device).type != 'cuda' or all(
                is_built(checkpoint, config, confidence) for confidence in (False, True)):
            return None
        if not EngineCache(config.engine_cache_dir or None).can_keep():
            return None  # what a child builds would be lost with it
    except BackendUnavailable:
        return None  # the Segmenter says so, or takes another backend
    # Not auto: where TensorRT fails the child would do with another backend, and say it is well.
    return ChildBuild(checkpoint.path, replace(config, backend='tensorrt'))


def _command(checkpoint: str | Path | None, config: SegmenterConfig) -> list[str]:
    command = [
        sys.executable, '-m', 'lednet_ros.cli.compile', '--progress-lines',
        f'--backend={config.backend}', f'--device={config.device}',
        f'--precision={config.precision}', f'--input-height={config.input_height}',
        f'--input-width={config.input_width}',
        f'--unfamiliar-share={config.unfamiliar_share}',
        f'--engine-cache-dir={config.engine_cache_dir}']
    if checkpoint:
        command.append(f'--checkpoint={checkpoint}')
    return command
