# SPDX-License-Identifier: Apache-2.0
"""Memory of this process: how much it is, and that freed memory is used again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # bytes; glibc takes no more
_MOST_KEPT = 256 << 20
_LARGE = 128 << 10        # glibc's own
_HEAPS = 2                # for the executor and the inference thread


def keep_freed_buffers() -> None:
    """Tell malloc to keep freed image buffers, and few heaps. Call it before threads begin.

    Else each image is a fresh mapping whose pages fault in one by one: taking a 0.9 MB image took
    1.3 ms, and takes 0.55 ms. And each new thread may get a heap of its own, of which a node that
    is deactivated and activated 130 times had filled 18 MB more. Where there is no glibc nothing
    happens.
    """
    _mallopt(_M_ARENA_MAX, _HEAPS)
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    _mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Map large blocks apart, to be given back once freed, where the heap has no room for them.

    For a network's: where the heap grew for them, it kept holes that images do not fit, and a node
    that was configured anew 30 times had grown by 5 MB.
    """
    _mallopt(_M_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)


def _mallopt(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(option, value)


def resident_mb() -> float | None:
    """Give the resident memory of this process in MB; None where /proc does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
