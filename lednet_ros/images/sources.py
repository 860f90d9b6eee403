# SPDX-License-Identifier: Apache-2.0
"""Pictures one after another from image files, a video or a webcam."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import cv2
import numpy as np

from lednet_ros.bags.files import is_bag
from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded
from lednet_ros.images.encodings import (
    BadImage,
    begins_as_picture,
    first_bytes,
    read_image,
)
from lednet_ros.images.resizing import resize_image
from lednet_ros.images.video_loss import FrameTimes

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.pgm', '.pnm', '.tif', '.tiff',
                  '.webp')
STREAMS = ('.mjpg', '.mjpeg')  # of JPEGs one after another
# Of HEIC and AVIF, by their first bytes: of those FFmpeg shows a tile, or nothing.
_UNREAD = re.compile(b'....ftyp(hei[cxms]|hevc|hevx|mif1|msf1|avi[fs])', re.DOTALL)
_TEXT = bytes({*b'\t\n\r\f\x1b', *range(0x20, 0x7f), *range(0x80, 0x100)})
DEFAULT_RATE_HZ = 10.0   # for image files, and for videos that do not say theirs
HELD_BYTES = 256 * 2**20  # a repeated part that decodes to at most this is decoded once
TRIES = 1000             # to read on in a video before its end; damaged frames fail one by one
RETRY_S = 0.5            # between attempts to open a webcam again
WARN_EVERY_S = 10.0      # about one webcam

Report = Callable[[str], None]  # takes one line about what goes on in spite of a fault


@dataclass(frozen=True)
class Part:
    """Which frames to play, counted from 0, both ends included; `last` -1: to the end."""

    first: int = 0
    last: int = -1

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < -1:
            raise ConfigError(f'frames {self.first} to {self.last}: are not counted from the end: '
                              'give 0 or more; last_frame -1 means to the end')
        if 0 <= self.last < self.first:
            raise ConfigError(f'last_frame {self.last}: comes before first_frame {self.first}, so '
                              'no frame is left: give them the other way round')


class FrameSource(Protocol):
    """Where frames come from."""

    rate_hz: float  # its own; 0: `frames` waits for each frame itself
    is_live: bool   # frames get old when they are not fetched, and do not come twice

    def frames(self) -> Iterator[np.ndarray]:
        """Yield each frame once: uint8 (H, W, 3) BGR, the caller's. May be called again."""


class ImageFiles:
    """Image files in the order given; one that cannot be read is reported once and left out."""

    rate_hz = DEFAULT_RATE_HZ
    is_live = False

    def __init__(self, paths: list[Path], report: Report) -> None:
        self._paths = paths
        self._report = report
        self._reported: set[Path] = set()

    def frames(self) -> Iterator[np.ndarray]:
        """Read the files one by one. Raise ConfigError if none can be read."""
        count = 0
        unreadable: dict[Path, str] = {}
        for path in self._paths:
            try:
                frame = read_image(path)
            except BadImage as error:
                unreadable[path] = str(error)
                continue
            count += 1
            self._report_once(unreadable)
            yield frame
        if not count:
            path, cause = next(iter(unreadable.items()))
            raise ConfigError(f'{path.parent}: none of the {len(self._paths)} image files chosen '
                              f'can be read ({path.name}: {cause}): replace them')
        self._report_once(unreadable)

    def _report_once(self, unreadable: dict[Path, str]) -> None:
        for path, cause in unreadable.items():
            if path not in self._reported:
                self._reported.add(path)
                self._report(f'{path}: {cause}: left out')
        unreadable.clear()


class VideoFile:
    """A video, or a part of it, exact to the frame: what comes before is decoded, not sought."""

    is_live = False

    def __init__(self, path: Path, part: Part, stop: threading.Event) -> None:
        self._path = path
        self._part = part
        self._stop = stop
        capture = self._open()
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # about; 0: not known
        capture.release()
        self.missing = 0  # about; what it lacked when `frames` came to its end, from the first on
        usable = math.isfinite(rate_hz) and 0.0 < rate_hz <= 1000.0
        self.rate_hz = rate_hz if usable else DEFAULT_RATE_HZ

    def frames(self) -> Iterator[np.ndarray]:
        """Decode as asked for. Raise ConfigError if the part turns out to be empty."""
        capture, index, part, faults = self._open(), 0, self._part, 0
        times = FrameTimes()
        try:
            # Seeking by number is off by some frames in many containers; grabbing never is, and
            # spares the conversion to BGR (640x272 H.264: 1000 frames a second on one core).
            while index < part.first and faults < TRIES:
                if capture.grab():
                    index, faults = index + 1, 0
                else:
                    faults += 1
                if self._stop.is_set():
                    return
            faults = 0
            while index >= part.first and (part.last < 0 or index <= part.last):
                fetched, frame = capture.read()
                if not fetched:
                    faults += 1
                    if faults < TRIES:
                        continue
                    if part == Part():
                        self.missing = times.missing(
                            self.count, self.rate_hz, self._path.suffix.lower())
                    break
                times.note(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, bool(faults))
                faults = 0
                yield frame
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise ConfigError(f'{self._path}: no frame of it can be decoded: give a video that '
                              'plays with OpenCV')
        if index <= part.first:
            raise ConfigError(f'{self._path}: has {index} frames, so there is no frame '
                              f'{part.first}: give a first_frame below {index}')

    def _open(self) -> cv2.VideoCapture:
        head = first_bytes(self._path, 1024)
        if _UNREAD.match(head):
            raise ConfigError(f'{self._path}: is a HEIC or AVIF picture, which is not read: write '
                              'it as PNG or JPEG')
        # FFmpeg makes a film of a text's letters, and fetches what a list of films names.
        is_text = head and not head.translate(None, _TEXT) and not head.startswith(b'YUV4MPEG2')
        capture = cv2.VideoCapture()
        if not is_text:
            with named_for_opencv(self._path) as name:
                capture = cv2.VideoCapture(name)
        # OpenCV's reader of numbered pictures takes the next numbers' for more frames.
        if not capture.isOpened() or capture.getBackendName() == 'CV_IMAGES':
            raise ConfigError(f'{self._path}: cannot be opened as a video: give one that plays '
                              'with OpenCV, or a directory of images')
        return capture


class Webcam:
    """A camera by its number. When it stops delivering, it is reported and opened again."""

    rate_hz = 0.0
    is_live = True

    def __init__(self, number: int, report: Report, stop: threading.Event) -> None:
        self._number = number
        self._report = report
        self._stop = stop
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ConfigError(f'webcam {number}: cannot be opened: check that /dev/video{number} '
                              'exists, may be read by this user and is not in use')

    def frames(self) -> Iterator[np.ndarray]:
        """Yield frames until the stop event is set; a read may block for some seconds."""
        report_from_s = -math.inf
        try:
            while not self._stop.is_set():
                fetched, frame = self._capture.read()
                if fetched:
                    yield frame
                    continue
                if time.monotonic() >= report_from_s:
                    report_from_s = time.monotonic() + WARN_EVERY_S
                    self._report(f'webcam {self._number}: delivers no frames: check its cable; '
                                 'trying again until it does')
                self._capture.release()
                self._stop.wait(RETRY_S)
                self._capture = cv2.VideoCapture(self._number)
        finally:
            self._capture.release()


def open_source(
    source: str,
    part: Part | None = None,
    report: Report = print,
    stop: threading.Event | None = None,
) -> FrameSource:
    """
    Open a directory of images, an image, a video file, or a webcam by its number.

    A webcam has no `part`. Setting `stop`, from any thread, ends `frames` where no frame comes
    for long. Raise ConfigError.
    """
    part, stop = part or Part(), stop or threading.Event()
    if not source:
        raise ConfigError('source: is not set: give a directory of images, a video file or the '
                          "number of a webcam, such as '0'")
    if re.fullmatch('[0-9]{1,3}', source):  # a directory may be called 20261125
        return Webcam(int(source), report, stop)
    path = expanded(source)
    if is_bag(path):
        raise ConfigError(f"{path}: is a bag: 'ros2 bag play' plays it, lednet_segment labels it; "
                          'give a directory of images, a video file or the number of a webcam')
    if path.is_dir():
        return ImageFiles(_images_in(path, part, report), report)
    if not path.exists():
        raise ConfigError(f'{path}: does not exist: give a directory of images, a video file or '
                          'the number of a webcam')
    if path.is_fifo() or path.is_socket():  # which would keep us waiting; /dev/video0 is neither
        raise ConfigError(f'{path}: is no file: give a directory of images, a video file or the '
                          'number of a webcam')
    if is_picture(path):
        return ImageFiles([path], report)
    return VideoFile(path, part, stop)


def is_picture(path: Path) -> bool:
    """Whether a file is one picture: by its suffix, or by what it begins with."""
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix not in STREAMS and begins_as_picture(path))


def repeated(
    once: Callable[[], Iterator[np.ndarray]],
    held_bytes: int = HELD_BYTES,
) -> Iterator[np.ndarray]:
    """Play again and again; what takes up to `held_bytes` is kept: leave its arrays unchanged."""
    held: list[np.ndarray] | None = []
    size = 0
    while True:
        count = 0
        for frame in once():
            count += 1
            size += frame.nbytes
            if size > held_bytes:
                held = None
            if held is not None:
                held.append(frame)
            yield frame
        while held:
            yield from held
        if not count:  # stopped
            return


def resized(frames: Iterable[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    """Yield the frames at one size."""
    for frame in frames:
        if frame.shape[:2] != (height, width):
            shrinks = height <= frame.shape[0] and width <= frame.shape[1]
            frame = resize_image(frame, width, height,
                                 cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        yield frame


@contextmanager
def named_for_opencv(path: Path) -> Iterator[str]:
    """
    Yield a name by which OpenCV opens this file, to read or to write it. Raise ConfigError.

    It takes names as UTF-8, and OpenCV 5 crashes over others: there is a link to those, which is
    gone when the file is open.
    """
    name = str(path.absolute())  # so that no file is taken for an address or a pipeline
    if _is_utf8(name):
        yield name
        return
    try:
        with TemporaryDirectory() as directory:
            link = Path(directory, f'film{path.suffix if path.suffix.isascii() else ""}')
            if not _is_utf8(str(link)):
                raise ConfigError(f'{path}: OpenCV takes UTF-8 only, in names of videos: rename '
                                  'it, or its directory')
            link.symlink_to(name)
            yield str(link)
    except OSError as error:
        raise ConfigError(f'{path}: OpenCV takes UTF-8 only, in names of videos, and no link to '
                          f'it can be made ({error.strerror}): rename it, or its directory'
                          ) from error


def _is_utf8(name: str) -> bool:
    """Whether a file's name has the bytes that UTF-8 makes of it."""
    return os.fsencode(name) == name.encode('utf-8', 'surrogatepass')


def quieten_opencv() -> None:
    """Keep what OpenCV and its FFmpeg write to stderr out of the way of our own words."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # AV_LOG_QUIET; read at first use
    logging: Any = getattr(cv2.utils, 'logging', cv2)  # OpenCV 5; OpenCV 4
    if hasattr(logging, 'setLogLevel'):
        logging.setLogLevel(0)


def list_images(directory: Path) -> tuple[list[Path], Counter[str]]:
    """
    Return its image files in their natural order, and how many others it has of which kind.

    Raise ConfigError where there is none.
    """
    images, others = [], Counter[str]()
    try:
        for path in directory.iterdir():
            if path.name.startswith('.'):
                others['hidden'] += 1  # as macOS adds to each file of a foreign disk
            elif not os.path.isfile(path):
                others['no files'] += 1
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                images.append(path)
            else:
                others[path.suffix.lower() or 'no suffix'] += 1
    except OSError as error:
        raise ConfigError(f'{directory}: {error.strerror}: give a directory that this user may '
                          'read') from error
    if not images:
        raise ConfigError(f'{directory}: holds no image{but(others)}: put '
                          f'{", ".join(IMAGE_SUFFIXES)} files into it')
    return sorted(images, key=natural), others


def but(others: Counter[str]) -> str:
    """Return what is there beside, by kind."""
    kinds = ', '.join(f'{kind}: {count}' for kind, count in others.most_common())
    return f', but {kinds}' if kinds else ''


def _images_in(directory: Path, part: Part, report: Report) -> list[Path]:
    names, others = list_images(directory)
    if others:
        report(f'{directory}: holds {len(names)} images{but(others)}, which are skipped')
    chosen = names[part.first:part.last + 1 if part.last >= 0 else None]
    if not chosen:
        raise ConfigError(f'{directory}: has {len(names)} images, so there is no frame '
                          f'{part.first}: give a first_frame below {len(names)}')
    return chosen


def natural(path: Path) -> tuple[list[str | int], str]:
    """Sort 2.png before 10.png."""
    pieces = re.split(r'([0-9]+)', path.name)
    return [int(p) if i % 2 else p.casefold() for i, p in enumerate(pieces)], path.name
