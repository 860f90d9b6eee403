# SPDX-License-Identifier: Apache-2.0
"""What is to be done for a source, cut into jobs that know nothing of each other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lednet_ros.bags.files import without_rosbags
from lednet_ros.common.errors import LednetRosError
from lednet_ros.images.sources import Part, VideoFile
from lednet_ros.offline.images import label_of, segment_part, segment_pictures, segment_video
from lednet_ros.offline.output_dir import Output, Results
from lednet_ros.offline.sources import Item, find, result_of
from lednet_ros.offline.work import Work

_KINDS = {'pictures': 'sources', 'video': 'videos', 'bag': 'bags'}  # of what is left out


@dataclass(frozen=True)
class Job:
    """Pictures, a video or a bag; or a part of it, of which the label images are made alone."""

    kind: str               # one of _KINDS
    source: Path            # what the user has named
    items: tuple[Item, ...]
    since_ns: int           # what is older is no result of these
    part: Part | None = None

    def __str__(self) -> str:
        """Say which, for people."""
        name = str(self.items[0].path)
        if self.kind == 'pictures':
            return f'{name} and {len(self.items) - 1} more'
        if not self.part:
            return name
        last = 'the end' if self.part.last < 0 else self.part.last
        return f'{name}, frames {self.part.first} to {last}'


def find_jobs(
    source: Path, work: Work, output: Output, names: dict[Path, Path]
) -> Iterator[Job]:
    """
    Yield a source's jobs, each as the output has turned to it.

    What is wrong with a part of the source is complained of, and no reason to leave out the rest.
    `names` has the pictures of all sources by their label images.
    """
    with _going_on(work, 'sources'):
        found = find(source, output)
        for kind, path in found.skipped:
            work.skip(kind, str(path))
        for problem in found.unreadable:
            work.complain(problem, 'unreadable files')
        if found.pictures:
            with _going_on(work, 'sources'):
                pictures = tuple(_each_its_own(found.pictures, names, work))
                output.begin(source, {label_of(p).parent: p.path.parent for p in pictures})
                yield Job('pictures', source, pictures, output.since_ns)
        for video in found.videos:
            with _going_on(work, 'videos'):
                output.begin(source, {label_of(video): video.path}, work.tell)
                yield Job('video', source, (video,), output.since_ns)
        for bag in found.bags:
            with _going_on(work, 'bags'):
                output.begin(source, {result_of(bag): bag.path}, work.tell)
                yield Job('bag', source, (bag,), output.since_ns)


def do_job(job: Job, work: Work) -> None:
    """Do a job; what is wrong with it is complained of."""
    with _going_on(work, _KINDS[job.kind]):
        if job.kind == 'pictures':
            segment_pictures(job.items, work)
        elif job.kind == 'bag':
            _do_bag(job, work)
        elif job.part:
            segment_part(job.items[0], job.part, work)
        else:
            segment_video(job.items[0], work)


def _do_bag(job: Job, work: Work) -> None:
    bags = _import_bags(job.items[0])
    try:
        if job.part:
            bags.segment_bag_part(job.items[0], job.part, work)
        else:
            bags.segment_bag(job.items[0], work)
    except bags.NoCamera:
        if job.items[0].path == job.source:
            raise
        work.skip('bags without a camera', str(job.items[0].path))


def count_frames(job: Job, work: Work) -> int:
    """Return about how many frames a job has; 0 where there is nothing to cut."""
    item = job.items[0]
    try:
        if job.kind == 'pictures':
            return len(job.items)
        if job.kind == 'video':
            return VideoFile(item.path, Part(), threading.Event()).count
        if Results(work.output.directory, '', job.since_ns).is_done(result_of(item)):
            return 0
        return int(_import_bags(item).count_images(item, work))
    except LednetRosError:  # the job itself will say so
        return 0


def cut(job: Job, count: int, most: int) -> list[Job]:
    """Return jobs of up to `most` frames each, of a video or bag to be followed by the whole."""
    if count <= most:
        return []
    if job.kind == 'pictures':
        return [replace(job, items=job.items[first:first + most])
                for first in range(0, count, most)]
    firsts = list(range(0, count, most))
    # How many there are is known about: the last goes to the end.
    return [replace(job, part=Part(first, first + most - 1 if first != firsts[-1] else -1))
            for first in firsts]


def _import_bags(item: Item) -> Any:
    """Return the module that needs rosbags. Raise ConfigError."""
    try:
        return import_module('lednet_ros.offline.bags')
    except ImportError as error:
        raise without_rosbags(item.path, error) from error


@contextmanager
def _going_on(work: Work, kind: str) -> Iterator[None]:
    """Complain of what is wrong, and go on."""
    try:
        yield
    except LednetRosError as error:
        work.complain(str(error), kind)


def _each_its_own(
    pictures: Sequence[Item], names: dict[Path, Path], work: Work
) -> Iterator[Item]:
    """Yield the pictures but for those that would write over another one's results."""
    for picture in pictures:
        label = label_of(picture)
        other = names.setdefault(label, picture.path)
        if os.path.abspath(other) == os.path.abspath(picture.path):
            yield picture
        else:
            work.complain(f'{picture.path} and {other}: would share the label image {label}.png: '
                          'the first is left out: rename one, or give each its own --output',
                          'pictures that share a name')
