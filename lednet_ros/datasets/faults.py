# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong with a pair of images, in one line."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from lednet_ros.common.errors import DataError, LednetRosError, first_line
from lednet_ros.images.encodings import BadImage


@contextmanager
def faults_named(what: str) -> Iterator[None]:
    """Turn whatever is raised into a DataError that begins with `what`; our own errors stay."""
    try:
        yield
    except LednetRosError:
        raise
    except Exception as error:
        raise DataError(f'{what}: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    if isinstance(error, BadImage):
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno in (None, errno.ENOENT):  # or Pillow's
            return f'{error}: replace it'
        error = cause
    text = getattr(error, 'err', '') or first_line(error)  # OpenCV's begins with a path of its own
    said = f'{type(error).__name__}: {text}'
    if isinstance(error, MemoryError) or getattr(error, 'code', None) == cv2.Error.StsNoMem:
        return f'there is too little memory ({said}): lower workers or batch, or add memory'
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f'too many files are open ({said}): lower workers, or raise ulimit -n'
    if isinstance(error, OSError):
        return f'{error.strerror or said}: mend the disk or the network it lies on'
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (f'cannot be used ({said}, at {Path(place.filename).name}:{place.lineno}): replace it, '
            'or take it out')
