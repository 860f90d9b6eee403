# SPDX-License-Identifier: Apache-2.0
"""The directory that results go to: what is done stays done, what is foreign stays untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lednet_ros.errors import ConfigError
from lednet_ros.whole_file import whole_file

RECORD = 'lednet_segment.json'  # what the directory's results were made with


class Output:
    """A directory begun by this command with these settings, so that a second run goes on.

    Raises ConfigError where it holds something else, or results of other settings, unless
    `overwrite` is set; even then only files of results' names are replaced.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.directory = directory
        self._overwrite = overwrite
        self._written: set[Path] = set()
        record = directory / RECORD
        try:
            directory.mkdir(parents=True, exist_ok=True)
            found = json.loads(record.read_text()) if record.exists() else None
            if not overwrite:
                self._check(found, dict(settings))
            record.write_text(json.dumps(dict(settings), indent=1) + '\n')
        except (OSError, json.JSONDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else 'its record is damaged'
            raise ConfigError(f'{directory}: cannot be used: {reason}: choose another '
                              '--output') from error

    def _check(self, found: Any, settings: Mapping[str, Any]) -> None:
        if found is None and any(self.directory.iterdir()):
            raise ConfigError(f'{self.directory}: is not empty and not of lednet_segment: choose '
                              'another --output, or --overwrite')
        if found not in (None, settings):
            other = [k for k in settings if not isinstance(found, dict)
                     or found.get(k) != settings[k]]
            raise ConfigError(f'{self.directory}: was made with another {", ".join(other)}: '
                              'choose another --output, or --overwrite')

    def is_done(self, name: Path) -> bool:
        """Whether this result is there from before and may stay."""
        path = self.directory / name
        return path.exists() and (not self._overwrite or name in self._written)

    def write_png(self, name: Path, pixels: np.ndarray) -> None:
        """Write uint8 (H, W), or (H, W, 3) RGB. Raises ConfigError."""
        written, data = cv2.imencode('.png', pixels if pixels.ndim == 2 else pixels[..., ::-1])
        assert written
        with self.making(name) as path:
            path.write_bytes(data.tobytes())

    @contextmanager
    def making(self, name: Path) -> Iterator[Path]:
        """Give a path to write to; it gets its name when the block ends well, else it is gone."""
        path = self.directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                yield partial
        except OSError as error:
            raise ConfigError(f'{path}: cannot be written: {error.strerror}: make room or choose '
                              'another --output, then go on by the same command') from error
        self._written.add(name)
