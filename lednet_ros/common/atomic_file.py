# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lednet_ros.common.errors import ConfigError

_LONGEST = 200  # bytes of a file's name, to which some are added; most file systems take 255


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    Yield a path beside this one, with its suffix, to write to.

    When the block ends well the file gets its name, replacing what had it; else nothing is left of
    it. A link stays one. What is no file, such as /dev/stdout, is written to as it is. OSErrors
    are the caller's to explain.
    """
    if path.exists() and not path.is_file():  # asked before: a pipe's real path is no path
        yield path
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(partial_name(path.name))
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def partial_name(name: str) -> str:
    """Return what a file is called until it is whole: no longer than a name may be."""
    return f'.partial-{os.getpid()}-{with_room(name)}'


def with_room(name: str) -> str:
    """Return a name to which some bytes may be added: a hash for one that is long already."""
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest() + Path(name).suffix[-16:]


def require_place(*paths: Path | None) -> None:
    """Raise ConfigError for a file that could not be written, before the work that it is of."""
    for path in paths:
        if path is None:
            continue
        parent = Path(os.path.realpath(path)).parent
        reason = (errno.EISDIR if path.is_dir() else
                  errno.ENOENT if not parent.exists() else
                  errno.ENOTDIR if not parent.is_dir() else
                  errno.EACCES if not os.access(path if path.exists() else parent, os.W_OK) else 0)
        if reason:
            raise ConfigError(f'{path}: cannot be written: {os.strerror(reason)}: choose another '
                              'file')


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB, or (H, W). Raise ConfigError."""
    try:
        with whole_file(path) as partial:
            partial.write_bytes(png_of(picture))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written: {error.strerror}: make room, or choose '
                          'another place') from error


def png_of(picture: np.ndarray) -> bytes:
    """Return a PNG of uint8 (H, W, 3) RGB, or (H, W)."""
    written, data = cv2.imencode('.png', picture if picture.ndim == 2 else picture[..., ::-1])
    assert written
    return data.tobytes()


def palette_png(labels: np.ndarray, palette: np.ndarray) -> bytes:
    """Return a PNG of uint8 (H, W) labels that shows them in colours, uint8 (256, 3) RGB."""
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())  # makes it one of palette indices, which are the labels
    data = io.BytesIO()
    image.save(data, 'PNG')
    return data.getvalue()


def jpeg_of(picture: np.ndarray) -> bytes:
    """Return a JPEG of uint8 (H, W, 3) RGB that is hardly told from it."""
    written, data = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert written
    return data.tobytes()


def write_json(path: Path, record: Any) -> None:
    """Write what a command found. Raise ConfigError."""
    try:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot be written: {error.strerror}: choose another file') from error
