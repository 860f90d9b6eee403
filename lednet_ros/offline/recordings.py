# SPDX-License-Identifier: Apache-2.0
"""Pictures, videos and bags alike: frames with a place in their recording."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lednet_ros.images.encodings import BadImage, Frame, read_image
from lednet_ros.images.sources import Part, VideoFile
from lednet_ros.offline.output_dir import state_of
from lednet_ros.offline.sources import Found, Item
from lednet_ros.offline.work import Work


class Shot(NamedTuple):
    """Where a frame is from."""

    track: str  # frames of one are neighbours in time: a directory's, a video's, a camera's
    place: int  # its number there, from 0
    name: str   # for files made of it, without suffix; unlike those of its recording's others


IsWanted = Callable[[Shot], bool]


class Recording(NamedTuple):
    """What is gone through at once."""

    name: Path    # for files about it
    origin: Path
    read: Callable[[IsWanted, Work], Iterator[tuple[Shot, Frame]]]
    state: str = ''  # tells pictures from others that take their place; the output knows the rest


def recordings(source: Path, found: Found) -> Iterator[Recording]:
    """Yield what a source holds, all its pictures as one."""
    if found.pictures:
        yield Recording(Path(f'{flat(source.absolute().name)}_pictures'), source,
                        lambda is_wanted, work: _pictures(found.pictures, is_wanted, work),
                        state_of(item.path for item in found.pictures))
    for item in found.videos:
        yield Recording(item.name, item.path, _reader(_video, item))
    for item in found.bags:
        yield Recording(item.name, item.path, _reader(_bag, item))


def flat(name: str) -> str:
    """Return a name that labelling tools take, without directories."""
    return re.sub(r'[^\w.-]+', '_', name.strip('/'))


def _reader(
    read: Callable[[Item, IsWanted, Work], Iterator[tuple[Shot, Frame]]], item: Item
) -> Callable[[IsWanted, Work], Iterator[tuple[Shot, Frame]]]:
    return lambda is_wanted, work: read(item, is_wanted, work)


def _pictures(
    pictures: Sequence[Item], is_wanted: IsWanted, work: Work
) -> Iterator[tuple[Shot, Frame]]:
    places: Counter[str] = Counter()
    for item in pictures:
        track = str(item.path.parent)
        shot = Shot(track, places[track], flat(str(item.name)))
        places[track] += 1
        if is_wanted(shot):
            try:
                frame = Frame(read_image(item.path), rgb=False)
            except BadImage as error:
                work.complain(f'{item.path}: {error}: left out', 'unreadable pictures')
                continue
            yield shot, frame


def _video(item: Item, is_wanted: IsWanted, work: Work) -> Iterator[tuple[Shot, Frame]]:
    video = VideoFile(item.path, Part(), threading.Event())
    for place, pixels in enumerate(video.frames()):
        shot = Shot(str(item.path), place, f'{flat(str(item.name))}_{place:06}')
        if is_wanted(shot):
            yield shot, Frame(pixels, rgb=False)
    if video.missing:
        work.complain(f'{item.path}: is cut or damaged: about {video.missing} of its '
                      f'{video.count} frames are missing: give a whole one, or take what there '
                      'is', 'frames of videos', video.missing)


def _bag(item: Item, is_wanted: IsWanted, work: Work) -> Iterator[tuple[Shot, Frame]]:
    # rosbags is needed for bags alone.
    from lednet_ros.bags.bag import Bag
    from lednet_ros.offline.cameras import choose, decode, directory_of
    with Bag(item.path) as bag:
        choice = choose(item.path, bag, work.topics, kinds=())
        for kind, topic in choice.skipped:
            work.skip(kind, f'{item.path}: {topic}')
        for left_out in choice.left_out:
            work.complain(f'{item.path}: {left_out}', 'cameras')
        places: Counter[str] = Counter()
        names = {c.connection.topic: directory_of(c.connection.topic, bag, flat)
                 for c in choice.cameras}
        for connection, _, data in bag.messages([c.connection for c in choice.cameras]):
            topic = connection.topic
            place = places[topic]
            places[topic] += 1
            shot = Shot(f'{item.path} {topic}', place,
                        f'{flat(str(item.name))}_{names[topic]}_{place:06}')
            if not is_wanted(shot):
                continue
            try:
                _, frame = decode(bag, connection, data)
            except BadImage as error:
                work.complain(f'{item.path}: image {place + 1} on {topic}: {error}: left out',
                              'damaged images')
                continue
            yield shot, frame
        for loss in bag.losses():
            work.complain(f'{item.path}: {loss}: give a whole one, or take what there is',
                          'damaged files of bags')
