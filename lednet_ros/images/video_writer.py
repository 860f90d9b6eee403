# SPDX-License-Identifier: Apache-2.0
"""Keeps pictures of a run in a directory: a few as PNG files, all as one MP4."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.common.atomic_file import write_png
from lednet_ros.common.directory_lock import alone_in
from lednet_ros.common.errors import ConfigError, first_line
from lednet_ros.images.film import Film, open_film

_HELD = 10  # frames whose stamps tell the film's rate before its file can be opened


class Album:
    """
    Takes uint8 (H, W, 3) RGB pictures in order and writes NAME_1.png .. and NAME.mp4.

    Only files of these names are replaced or removed, and nobody else may write to the directory
    until it is closed. Raise ConfigError where somebody does, or it cannot be made or written to.
    """

    def __init__(self, directory: Path, name: str, pictures: int = 6) -> None:
        self._directory = directory
        self._name = name
        self._wanted = pictures
        self._written: list[Path] = []
        self._held: list[tuple[np.ndarray, float]] = []
        self._film: Film | None = None
        self._film_size = (0, 0)
        self.film_frames = 0
        self.problem = ''  # why there is no film
        self._lock = ExitStack()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(alone_in(directory))
            probe = directory / f'.{name}.probe'
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(f'{directory}: cannot be written to: {error.strerror}: choose '
                              'another output directory') from error

    @property
    def film_path(self) -> Path:
        """Where the film is."""
        return self._directory / f'{self._name}.mp4'

    def add(self, picture: np.ndarray, progress: float, at_s: float) -> None:
        """
        Take a picture; `progress` through the run (0 to 1) spreads the PNG files over it.

        `at_s` is when the camera took it; the film plays at the mean pace of the first ones.
        """
        if not self._written:
            for old in self._directory.iterdir():
                if re.fullmatch(rf'{re.escape(self._name)}_\d+\.png', old.name):
                    old.unlink()
        if len(self._written) < self._wanted and progress >= len(self._written) / self._wanted:
            path = self._directory / f'{self._name}_{len(self._written) + 1}.png'
            write_png(path, picture)
            self._written.append(path)
        if self._film is not None or self.problem:
            self._write(picture)
            return
        self._held.append((picture, at_s))
        if len(self._held) >= _HELD:
            self._open_film()

    def close(self) -> list[Path]:
        """Finish the film; the files written, in order."""
        if self._held:
            self._open_film()
        if self._film is not None:
            try:
                self._film.close()
            except OSError as error:
                self._give_up(error)
            self._film = None
        self._lock.close()
        return [*self._written, *([self.film_path] if self.film_frames else [])]

    def _open_film(self) -> None:
        pictures, times_s = zip(*self._held, strict=True)
        self._held = []
        took_s = times_s[-1] - times_s[0]
        rate_hz = min(max((len(times_s) - 1) / took_s, 0.5), 60.0) if took_s > 0 else 10.0
        height, width = pictures[0].shape[:2]
        self._film_size = (width, height)
        try:
            self._film = open_film(self.film_path, round(rate_hz, 2), height, width)
        except (ConfigError, OSError) as error:
            self._give_up(error)
            return
        for picture in pictures:
            self._write(picture)

    def _write(self, picture: np.ndarray) -> None:
        if self._film is None:
            return
        if (picture.shape[1], picture.shape[0]) != self._film_size:  # the camera's size changed
            picture = cv2.resize(picture, self._film_size, interpolation=cv2.INTER_AREA)
        try:
            self._film.add(picture)
        except OSError as error:
            self._give_up(error)
            return
        self.film_frames += 1

    def _give_up(self, error: Exception) -> None:
        self._film, self.film_frames = None, 0
        self.problem = f'there is no film: {first_line(error)}'
