# SPDX-License-Identifier: Apache-2.0
"""Memory of this process: how much it is, and that freed memory is used again."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # bytes; glibc takes no more
_MOST_KEPT = 256 << 20
_HEAPS = 128              # more than there are threads, on any robot


def keep_freed_buffers() -> None:
    """Tell malloc to keep freed image buffers, and a heap for each thread.

    Else each image is a fresh mapping whose pages fault in one by one: taking a 0.9 MB image took
    1.3 ms, and takes 0.55 ms. Threads that share a heap, as by chance they do where there are
    fewer, leave each other holes that nothing fits: beside images, a network that was loaded anew
    30 times had taken 10 MB more. Threads have to last then. Where there is no glibc nothing
    happens.
    """
    _mallopt(_M_ARENA_MAX, _HEAPS)
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    _mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _mallopt(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(option, value)


def resident_mb() -> float | None:
    """Give the resident memory of this process in MB; None where /proc does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
