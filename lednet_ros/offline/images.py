# SPDX-License-Identifier: Apache-2.0
"""Image files, directories of them, and videos: a label PNG for each picture."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError, printable
from lednet_ros.images.encodings import BadImage, Frame, read_image
from lednet_ros.images.sources import Part, VideoFile, named_for_opencv
from lednet_ros.offline.sources import Item
from lednet_ros.offline.work import Work, batches


def label_of(item: Item) -> Path:
    """Return where a picture's labels go, or a video's, as a directory."""
    return 'label' / item.name


def segment_pictures(pictures: Sequence[Item], work: Work) -> None:
    """Write what is missing of the pictures' label images, and overlays if asked for."""
    def is_done(picture: Item) -> bool:
        return work.output.is_done(_png('label', picture)) and (
            not work.overlay or work.output.is_done(_png('overlay', picture)))

    missing = [picture for picture in pictures if not is_done(picture)]
    work.kept += len(pictures) - len(missing)
    task = work.progress.add_task('images', total=len(pictures),
                                  completed=len(pictures) - len(missing))
    for batch in batches(missing, work.batch):
        read = []
        for picture in batch:
            try:
                read.append((picture, Frame(read_image(picture.path), rgb=False)))
            except BadImage as error:
                work.complain(f'{picture.path}: {error}: left out', 'unreadable pictures')
        for (picture, frame), labels in zip(
                read, work.segment([frame for _, frame in read]), strict=True):
            if work.overlay:
                work.output.write_png(_png('overlay', picture), work.picture(frame, labels))
            work.output.write_png(_png('label', picture), labels)
        work.progress.advance(task, len(batch))


def _png(kind: str, item: Item) -> Path:
    return kind / item.name.with_name(f'{item.name.name}.png')


def segment_video(item: Item, work: Work) -> None:
    """Write a label PNG for each frame, and an MP4 of overlays if asked for.

    A second run takes the label images that are there; an unfinished MP4 is made anew of them.
    """
    film_name = 'overlay' / item.name.with_name(f'{item.name.name}.mp4')
    video = VideoFile(item.path, Part(), threading.Event())
    if not work.overlay or work.output.is_done(film_name):
        _run_video(video, item, work, film=None)
        return
    with work.output.making(film_name) as path:
        with closing(_Film(path, video.rate_hz)) as film:
            _run_video(video, item, work, film)
        film.check()


def _run_video(video: VideoFile, item: Item, work: Work, film: _Film | None) -> None:
    task = work.progress.add_task(printable(item.path.name), total=video.count or None)
    numbered = enumerate(video.frames())
    for batch in batches(numbered, work.batch):
        labels: dict[int, np.ndarray] = {}
        names = {i: label_of(item) / f'{i:06}.png' for i, _ in batch}
        for i, pixels in batch:
            kept = work.output.kept_labels(
                names[i], *work.label_size(Frame(pixels, rgb=False)))
            if kept is not None:
                labels[i] = kept
                work.kept += 1
        missing = [(i, pixels) for i, pixels in batch if i not in labels]
        for (i, _), seen in zip(
                missing, work.segment([Frame(p, rgb=False) for _, p in missing]), strict=True):
            work.output.write_png(names[i], seen)
            labels[i] = seen
        if film:
            for i, pixels in batch:
                film.add(work.picture(Frame(pixels, rgb=False), labels[i]))
        work.progress.advance(task, len(batch))
    if video.missing:
        work.complain(f'{item.path}: is cut or damaged: about {video.missing} of its '
                      f'{video.count} frames are missing: give a whole one, or take what there '
                      'is', 'frames of videos', video.missing)


class _Film:
    """An MP4 of RGB pictures of one size."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 (H, W, 3) RGB. Raises ConfigError."""
        if self._writer is None:
            with named_for_opencv(self._path) as name:
                self._writer = cv2.VideoWriter(
                    name, cv2.VideoWriter.fourcc(*'mp4v'), self._rate_hz,
                    (picture.shape[1], picture.shape[0]))
            if not self._writer.isOpened():
                raise ConfigError(f'{self._path}: this OpenCV cannot write MP4 files: leave '
                                  '--overlay away for videos')
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self._count += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def check(self) -> None:
        """Raise OSError where the file is not whole: of a full disk the writer says nothing."""
        with named_for_opencv(self._path) as name:
            film = cv2.VideoCapture(name)
        count = max(0, int(film.get(cv2.CAP_PROP_FRAME_COUNT)))
        film.release()
        if count != self._count:
            raise OSError(errno.EIO, f'{count} of its {self._count} frames arrived')
