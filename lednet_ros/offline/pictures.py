# SPDX-License-Identifier: Apache-2.0
"""Image files, directories of them, and videos: a label PNG for each picture."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lednet_ros.errors import ConfigError
from lednet_ros.frame_sources import IMAGE_SUFFIXES, Part, VideoFile, natural, read_image
from lednet_ros.image_decoding import Frame
from lednet_ros.offline.output import Output
from lednet_ros.offline.work import Work, batches


class Picture(NamedTuple):
    """An image file and what its results are called."""

    path: Path
    label: Path
    overlay: Path


def find_pictures(source: Path, output: Output) -> list[Picture]:
    """Find an image, or all images below a directory but results. Raises ConfigError."""
    root, paths = source.parent, [source]
    if source.is_dir():
        root = source
        paths = sorted((p for p in source.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES
                        and not output.holds(p)),
                       key=lambda p: [natural(Path(part)) for part in p.relative_to(root).parts])
        if not paths:
            raise ConfigError(f'{source}: holds no image: put {", ".join(IMAGE_SUFFIXES)} files '
                              'into it')
    pictures: dict[Path, Picture] = {}
    for path in paths:
        name = path.relative_to(root).with_suffix('.png')
        if name in pictures:
            raise ConfigError(f'{path} and {pictures[name].path.name}: would share the label '
                              f'image {name}: rename one')
        pictures[name] = Picture(path, 'label' / name, 'overlay' / name)
    return list(pictures.values())


def segment_pictures(pictures: Sequence[Picture], work: Work) -> None:
    """Write what is missing of the pictures' label images, and overlays if asked for."""
    def is_done(picture: Picture) -> bool:
        return work.output.is_done(picture.label) and (
            not work.overlay or work.output.is_done(picture.overlay))

    missing = [picture for picture in pictures if not is_done(picture)]
    work.kept += len(pictures) - len(missing)
    task = work.progress.add_task('images', total=len(pictures),
                                  completed=len(pictures) - len(missing))
    for batch in batches(missing, work.batch):
        read = []
        for picture in batch:
            pixels = read_image(picture.path)
            if pixels is None:
                work.complain(f'{picture.path}: cannot be read as an image: left out')
            else:
                read.append((picture, Frame(pixels, rgb=False)))
        for (picture, frame), labels in zip(
                read, work.segment([frame for _, frame in read]), strict=True):
            if work.overlay:
                work.output.write_png(picture.overlay, work.picture(frame, labels))
            work.output.write_png(picture.label, labels)
        work.progress.advance(task, len(batch))


def segment_video(source: Path, work: Work) -> None:
    """Write a label PNG for each frame, and an MP4 of overlays if asked for.

    A second run takes the label images that are there; an unfinished MP4 is made anew of them.
    """
    film_name = Path('overlay', f'{source.stem}.mp4')
    video = VideoFile(source, Part(), threading.Event())
    if not work.overlay or work.output.is_done(film_name):
        _run_video(video, source, work, film=None)
        return
    with work.output.making(film_name) as path:
        with closing(_Film(path, video.rate_hz)) as film:
            _run_video(video, source, work, film)
        film.check()


def _run_video(video: VideoFile, source: Path, work: Work, film: _Film | None) -> None:
    task = work.progress.add_task(source.name, total=video.count or None)
    numbered = enumerate(video.frames())
    for batch in batches(numbered, work.batch):
        labels: dict[int, np.ndarray] = {}
        names = {i: Path('label', source.stem, f'{i:06}.png') for i, _ in batch}
        for i, pixels in batch:
            if work.output.is_done(names[i]):
                found = cv2.imread(str(work.output.directory / names[i]), cv2.IMREAD_GRAYSCALE)
                if found is not None and found.shape == pixels.shape[:2]:
                    labels[i] = found
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
        work.complain(f'{source}: is cut or damaged: about {video.missing} of its {video.count} '
                      'frames are missing at its end: give a whole one, or take what there is')


class _Film:
    """An MP4 of RGB pictures of one size."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 (H, W, 3) RGB. Raises ConfigError."""
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter.fourcc(*'mp4v'), self._rate_hz,
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
        film = cv2.VideoCapture(str(self._path))
        count = max(0, int(film.get(cv2.CAP_PROP_FRAME_COUNT)))
        film.release()
        if count != self._count:
            raise OSError(errno.EIO, f'{count} of its {self._count} frames arrived')
