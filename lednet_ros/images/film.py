# SPDX-License-Identifier: Apache-2.0
"""Films of pictures: H.264 by PyAV, which browsers play; else MPEG-4 part 2 by OpenCV."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.images.sources import named_for_opencv

NO_H264 = ('films are MPEG-4 part 2, which browsers do not play, as PyAV {}: pip install av '
           'makes them H.264')
# So that the same pictures are the same bytes: x264's depend on the number of its threads and,
# from run to run, on its looking ahead.
_THREADS = 2
_X264 = 'rc-lookahead=0:sync-lookahead=0'


class Film(Protocol):
    """A film being written, of pictures of one size. Closed once."""

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 (H, W, 3) RGB. Raise ConfigError or OSError."""

    def close(self) -> None:
        """Finish the file. Raise OSError where it did not arrive whole."""


def lack_of_h264() -> str:
    """Return why films are no H.264, in a line with its remedy; '' where they are."""
    try:
        import av
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError)
        return NO_H264.format('is not installed' if is_absent else f'cannot be loaded ({error})')
    return '' if 'libx264' in av.codecs_available else NO_H264.format(
        'is here without x264').replace('pip install av', "PyPI's, pip install av,")


def open_film(path: Path, rate_hz: float, height: int, width: int) -> Film:
    """Begin a film: in H.264 where PyAV has it. Raise ConfigError or OSError."""
    if lack_of_h264():
        return _Mpeg4Film(path, rate_hz, height, width)
    return _H264Film(path, rate_hz, height, width)


class _H264Film:
    """YUV 4:2:0, which all players take: so of an even height and width, edges repeated."""

    def __init__(self, path: Path, rate_hz: float, height: int, width: int) -> None:
        import av
        self._pad = ((0, height % 2), (0, width % 2), (0, 0))
        rate = Fraction(rate_hz).limit_denominator(1001)
        # The index in front: a browser plays it before it has all of it.
        self._container: Any = av.open(
            str(path), mode='w', format='mp4', options={'movflags': '+faststart'})
        self._stream: Any = self._container.add_stream('libx264', rate=rate, options={
            'crf': '20', 'preset': 'medium', 'x264-params': _X264})
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.thread_count = _THREADS

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 (H, W, 3) RGB. Raise OSError."""
        import av
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(np.pad(picture, self._pad, 'edge')), format='rgb24')
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file. Raise OSError."""
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()


class _Mpeg4Film:
    """OpenCV's writer, which says nothing of a full disk: so the file is looked at."""

    def __init__(self, path: Path, rate_hz: float, height: int, width: int) -> None:
        self._path, self._count = path, 0
        with named_for_opencv(path) as name:
            self._writer = cv2.VideoWriter(
                name, cv2.VideoWriter.fourcc(*'mp4v'), rate_hz, (width, height))
        if not self._writer.isOpened():
            raise ConfigError(f'{path}: this OpenCV cannot write MP4 files: pip install av, or do '
                              'without films')

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 (H, W, 3) RGB."""
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self._count += 1

    def close(self) -> None:
        """Finish the file. Raise OSError where frames are missing."""
        self._writer.release()
        with named_for_opencv(self._path) as name:
            film = cv2.VideoCapture(name)
        count = max(0, int(film.get(cv2.CAP_PROP_FRAME_COUNT)))
        film.release()
        if count != self._count:
            raise OSError(errno.EIO, f'{count} of its {self._count} frames arrived')
