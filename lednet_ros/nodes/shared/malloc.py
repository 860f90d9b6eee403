# SPDX-License-Identifier: Apache-2.0
"""Memory of this process: how much it is, and that freed memory is used again."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # bytes; glibc takes no more
_MOST_KEPT = 256 << 20


def keep_freed_buffers() -> None:
    """
    Have malloc reuse large freed blocks, instead of a fresh mapping for each image.

    Its pages would fault in one by one: taking a 0.9 MB image took 1.3 ms, and takes 0.55 ms.
    Where there is no glibc nothing happens.
    """
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    _mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _mallopt(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(option, value)


def resident_mb() -> float | None:
    """Return the resident memory of this process in MB; None where /proc does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
