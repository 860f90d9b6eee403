# SPDX-License-Identifier: Apache-2.0
"""
One model in ONNX Runtime sessions of more and of fewer threads: the free cores choose.

A session keeps its number of threads for life. The one with a thread for each core is made at
start; another is made beside the work, when other processes take cores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from lednet_ros.common.errors import first_line
from lednet_ros.common.free_cores import FreeCores, FreeThreads

Session = TypeVar('Session')

_log = logging.getLogger(__name__)


class OnnxSessions(Generic[Session]):
    """
    The session of all threads, and that of fewer which was used last.

    `make` is called with a number of threads, in another thread but for the first time. What the
    sessions compute is the same bit by bit.
    """

    def __init__(
        self, make: Callable[[int], Session], most: int, free: FreeCores | None = None,
    ) -> None:
        self._make, self._most = make, most
        self._made = {most: make(most)}
        self._threads = most
        # Two looks: a moment's work of another process is no reason to make a session.
        self._free = None if most == 1 else FreeThreads(most, 2, free)
        self._maker = ThreadPoolExecutor(1, 'onnx session')
        self._coming: tuple[int, Future[Session]] | None = None

    def choose(self) -> Session:
        """Return the session for the cores that are free now; the one before until it is made."""
        wanted = self._free.look() if self._free else self._threads
        if self._coming:
            self._receive(*self._coming)
        if wanted in self._made:
            self._threads = wanted
        elif not self._coming and self._free:
            self._coming = wanted, self._maker.submit(self._make, wanted)
        return self._made[self._threads]

    def close(self) -> None:
        """Release the sessions' memory."""
        self._maker.shutdown()
        self._coming = None
        self._made.clear()

    def _receive(self, threads: int, coming: Future[Session]) -> None:
        """Take a session that is made; without memory for it, stay with what there is."""
        if not coming.done():
            return
        self._coming = None
        try:
            made = coming.result()
        except Exception as error:  # ONNX Runtime raises classes of its own
            _log.warning('onnxruntime: no session of %d threads could be made (%s): going on with '
                         '%d', threads, first_line(error), self._threads)
            self._free = None
            return
        # Two at most: each holds the layers' memory once it has run.
        self._made = {self._most: self._made[self._most], threads: made}
        self._threads = threads
