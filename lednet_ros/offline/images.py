# SPDX-License-Identifier: Apache-2.0
"""Image files, directories of them, and videos: a label PNG for each picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from lednet_ros.common.errors import printable
from lednet_ros.images.encodings import BadImage, Frame, read_image
from lednet_ros.images.film import Film, open_film
from lednet_ros.images.sources import Part, VideoFile
from lednet_ros.offline.sources import Item
from lednet_ros.offline.work import KINDS, Stored, Work, batches


def label_of(item: Item) -> Path:
    """Return where a picture's labels go, or a video's, as a directory."""
    return 'label' / item.name


def segment_pictures(pictures: Sequence[Item], work: Work) -> None:
    """Write what is missing of the pictures' label images, and of what is asked for beside."""
    def is_done(picture: Item) -> bool:
        return all(work.output.is_done(_png(kind, picture), picture.path)
                   for kind in work.extras.kinds)

    done: list[Item] = []
    missing: list[Item] = []
    for picture in pictures:
        (done if is_done(picture) else missing).append(picture)
    work.take([_png('label', picture) for picture in done])
    work.on_frames(len(done))
    task = work.progress.add_task('images', total=len(pictures),
                                  completed=len(done))
    for batch in batches(missing, work.batch):
        read = []
        for picture in batch:
            try:
                read.append((picture, Frame(read_image(picture.path), rgb=False)))
            except BadImage as error:
                work.complain(f'{picture.path}: {error}: left out', 'unreadable pictures')
        for (picture, frame), seen in zip(
                read, work.segment([frame for _, frame in read]), strict=True):
            if work.extras.overlay:
                work.output.write_png(_png('overlay', picture), work.picture(frame, seen.labels))
            if seen.confidence is not None:
                work.output.write_png(_png('confidence', picture), seen.confidence)
            work.output.write_labels(_png('label', picture), seen.labels)
            work.segmented += 1
        work.progress.advance(task, len(batch))
        work.on_frames(len(batch))


def _png(kind: str, item: Item) -> Path:
    return kind / item.name.with_name(f'{item.name.name}.png')


def segment_video(item: Item, work: Work) -> None:
    """
    Write a label PNG for each frame, what is asked for beside, and an MP4 of overlays.

    A second run takes the label images that are there; an unfinished MP4 is made anew of them.
    """
    film_name = 'overlay' / item.name.with_name(f'{item.name.name}.mp4')
    video = VideoFile(item.path, Part(), threading.Event())
    if not work.extras.overlay or work.output.is_done(film_name):
        _run_video(video, item, work, None)
    else:
        _run_with_film(video, item, work, film_name)
    # A longer video, or a film, may have been there before.
    work.output.remove_older(film_name, *(kind / item.name for kind in KINDS))


def _run_with_film(video: VideoFile, item: Item, work: Work, film_name: Path) -> None:
    work.say_of_films()
    with work.output.making(film_name) as path, ExitStack() as films:
        film: Film | None = None

        def add(picture: np.ndarray) -> None:
            nonlocal film
            if film is None:
                film = films.enter_context(closing(
                    open_film(path, video.rate_hz, *picture.shape[:2])))
            film.add(picture)

        _run_video(video, item, work, add)


def segment_part(item: Item, part: Part, work: Work) -> None:
    """Write the label PNGs of some of a video's frames, and what is asked for beside each."""
    _run_video(VideoFile(item.path, part, threading.Event()), item, work, None, part.first)


def _run_video(
    video: VideoFile, item: Item, work: Work, show: Callable[[np.ndarray], None] | None,
    first: int = 0,
) -> None:
    """Go through the frames, from number `first` on; show the overlays where they are wanted."""
    task = work.progress.add_task(printable(item.path.name), total=video.count or None)
    for batch in batches(enumerate(video.frames(), first), work.batch):
        frames = [(Stored.make(item.name, f'{i:06}', work.extras.frames), Frame(pixels, rgb=False))
                  for i, pixels in batch]
        for (_, frame), seen in zip(frames, work.seen(frames), strict=True):
            if show:
                show(work.picture(frame, seen.labels))
        work.progress.advance(task, len(batch))
    if video.missing:
        work.complain(f'{item.path}: is cut or damaged: about {video.missing} of its '
                      f'{video.count} frames are missing: give a whole one, or take what there '
                      'is', 'frames of videos', video.missing)
