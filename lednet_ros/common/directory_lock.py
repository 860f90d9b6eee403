# SPDX-License-Identifier: Apache-2.0
"""One command at a time in an output directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lednet_ros.common.errors import ConfigError


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """
    Hold a directory until the block ends, or the process does, however it ends.

    No file is written for it. Raise ConfigError where another process, or another block of this
    one, holds the directory. On a file system without locks nobody is kept out.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f'{directory}: another command is writing to it: wait until that has ended, '
                    'or choose another --output') from None
        yield
    finally:
        os.close(descriptor)
