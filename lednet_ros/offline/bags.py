# SPDX-License-Identifier: Apache-2.0
"""Bags: a new one with all that was there, and labels beside the images."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lednet_ros.bags.bag import TYPES, Bag
from lednet_ros.bags.files import files_of
from lednet_ros.bags.storage import ROS_1, serialization
from lednet_ros.common.atomic_file import partial_name, with_room
from lednet_ros.common.errors import ConfigError, first_line, printable
from lednet_ros.images.encodings import BadImage, Frame
from lednet_ros.images.sources import Part
from lednet_ros.offline.cameras import (
    EMPTY,
    IMAGE,
    Camera,
    NoCamera,
    choose,
    decode,
    directory_of,
)
from lednet_ros.offline.sources import Item, result_of
from lednet_ros.offline.work import KINDS, Seen, Stored, Work

_UNKNOWN_HASH = f'RIHS01_{"0" * 64}'
# In the new bag's custom_data: (kind, complaint) of what it lacks; which frames are beside it.
_NOTE, _FRAMES = 'lednet_segment', 'lednet_segment_frames'


def segment_bag(item: Item, work: Work) -> None:
    """
    Write NAME_labels, a bag of the same kind; of a ROS 1 bag only labels. Raise ConfigError.

    Until it is whole, label images are kept beside it as PNG, so that a second run goes on.
    """
    name = result_of(item)
    target = work.output.directory / name
    # Its files are named after it, in a URI and in YAML.
    new = target.with_name(partial_name(_plain(name.name))) / _plain(name.name)
    held = _held(item)
    with Bag(item.path) as bag:
        try:
            choice = choose(item.path, bag, work.topics, work.extras.kinds, work.node)
        except NoCamera as error:
            if losses := bag.losses():
                raise ConfigError(f'{error}; {"; ".join(losses)}') from error
            raise
        for kind, topic in choice.skipped:
            work.skip(kind, f'{item.path}: {topic}', is_said=kind == EMPTY)
        for connection in bag.connections:
            if serialization(connection) == ROS_1:
                work.skip('topics of ROS 1, not copied', f'{item.path}: {connection.topic}')
        if work.output.is_done(name):
            _check(target, choice.cameras, work)
            work.kept += 1
            for kind, problem in json.loads(files_of(target).custom.get(_NOTE, '[]')):
                work.complain(problem, kind)
            return
        _remove_left(target)
        try:
            _write(item, bag, choice.cameras, choice.left_out, new, held, work)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # of an older run
                shutil.rmtree(target)
            new.rename(target)
        except (OSError, sqlite3.Error, WriterError) as error:
            raise ConfigError(f'{target}: cannot be written: {first_line(error)}: make room or '
                              f'choose another --output, then go on by {work.output.again}'
                              ) from error
        finally:
            shutil.rmtree(new.parent, ignore_errors=True)
    shutil.rmtree(work.output.directory / held, ignore_errors=True)
    with suppress(OSError):  # they are not empty
        os.removedirs((work.output.directory / held).parent)


def _remove_left(target: Path) -> None:
    """Remove what runs that were killed have left of a bag; one that goes on keeps its own."""
    for left in target.parent.glob(f'.partial-*-{glob.escape(_plain(target.name))}'):
        number = left.name.split('-')[1]
        with suppress(ValueError, OSError):
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)


def segment_bag_part(item: Item, part: Part, work: Work) -> None:
    """
    Make and keep the labels of some of a bag's images, for segment_bag to take.

    They are counted over all its cameras. Raise ConfigError.
    """
    counts: Counter[int] = Counter()
    with Bag(item.path) as bag:
        cameras = choose(
            item.path, bag, work.topics, work.extras.kinds, work.node).cameras
        places = {c.connection.id: _place(item, c.connection, bag, _held(item), work)
                  for c in cameras}
        messages = bag.messages([camera.connection for camera in cameras])
        for place, (connection, _, data) in enumerate(messages):
            number = counts[connection.id]
            counts[connection.id] += 1
            if place < part.first:
                continue
            if 0 <= part.last < place:
                break
            with suppress(BadImage):  # segment_bag will say so
                _, frame = decode(bag, connection, data)
                work.seen([(_stored(places[connection.id], number, work), frame)])


def count_images(item: Item, work: Work) -> int:
    """Return about how many images the cameras of a bag have. Raise ConfigError."""
    with Bag(item.path) as bag:
        cameras = choose(
            item.path, bag, work.topics, work.extras.kinds, work.node).cameras
    return sum(camera.connection.msgcount for camera in cameras)


def _held(item: Item) -> Path:
    """Return where label images are kept until the new bag is whole."""
    result = result_of(item)
    return Path(f'.work-{result.with_name(with_room(result.name))}')


def _plain(name: str) -> str:
    """Return a name without what a URI or YAML would make something else of, and not too long."""
    return with_room(re.sub(r'[^\w.,;=+@~() -]', '_', name))


def _check(target: Path, cameras: list[Camera], work: Work) -> None:
    """Refuse a result of before that has not all topics that are asked for now."""
    try:
        with Bag(target) as found:
            topics = {c.topic for c in found.connections}
    except ConfigError:  # it is no bag, or a damaged one
        topics = set()
    lacking = sorted(set(_new_topics(cameras, work)) - topics)
    if not lacking and work.extras.frames and (
            files_of(target).custom.get(_FRAMES) != work.extras.frames):
        lacking = [f'{work.extras.frames} files of its frames']
    if lacking:
        raise ConfigError(f'{target}: lacks {", ".join(lacking)}: choose another '
                          '--output, or --overwrite')


def _write(
    item: Item, bag: Bag, cameras: list[Camera], left_out: list[str], new: Path, held: Path,
    work: Work,
) -> None:
    """Write the new bag, and into it what it lacks."""
    problems: list[tuple[str, str]] = []

    def complain(problem: str, kind: str) -> None:
        problems.append((kind, f'{item.path}: {problem}'))
        work.complain(problems[-1][1], kind)

    storage = StoragePlugin.MCAP if bag.kind == 'mcap' else StoragePlugin.SQLITE3
    if storage == StoragePlugin.SQLITE3 and set('?#%') & set(str(new)):
        raise ConfigError(f'{work.output.directory}: a sqlite3 bag cannot be written where a name '
                          'has ?, # or %: choose another --output')
    for camera in left_out:
        complain(camera, 'cameras')
    shutil.rmtree(new.parent, ignore_errors=True)
    new.parent.mkdir(parents=True)
    with Writer(new, version=8, storage_plugin=storage) as writer:
        for problem in _copy(item, bag, writer, cameras, held, work):
            complain(problem, 'damaged images')
        for loss in bag.losses():
            complain(f'{loss}: give a whole one, or take what there is', 'damaged files of bags')
        if problems:
            writer.set_custom_data(_NOTE, json.dumps(problems))
        if work.extras.frames:
            writer.set_custom_data(_FRAMES, work.extras.frames)


def _copy(
    item: Item, bag: Bag, writer: Writer, cameras: list[Camera], held: Path, work: Work
) -> Iterator[str]:
    """Write every message as it is, and behind each image its labels; yield which have none."""
    by_id = {camera.connection.id: camera for camera in cameras}
    places = {c.connection.id: _place(item, c.connection, bag, held, work) for c in cameras}
    copies = {c.id: _copy_connection(c, writer) for c in bag.connections
              if serialization(c) != ROS_1}
    outputs = {topic: writer.add_connection(topic, IMAGE, typestore=TYPES)
               for topic in _new_topics(cameras, work)}
    wanted = [c for c in bag.connections if c.id in copies or c.id in by_id]
    task = work.progress.add_task(printable(item.path.name), total=sum(c.msgcount for c in wanted))
    counts = dict.fromkeys(by_id, 0)
    for connection, received_ns, data in bag.messages(wanted):
        if connection.id in copies:
            writer.write(copies[connection.id], received_ns, data)
        work.progress.advance(task)
        camera = by_id.get(connection.id)
        if camera is None:
            continue
        number = counts[connection.id]
        counts[connection.id] += 1
        try:
            header, frame = decode(bag, connection, data)
            header = _header(header)
        except BadImage as error:
            yield f'image {number + 1} on {connection.topic}: {error}: left without labels'
            continue
        [seen] = work.seen([(_stored(places[connection.id], number, work), frame)])
        for topic, message in _messages(camera, header, frame, seen, work):
            writer.write(outputs[topic], received_ns, TYPES.serialize_cdr(message, IMAGE))
    # A longer bag may have been there before.
    work.output.remove_older(*(kind / place for kind in KINDS for place in places.values()))


def _place(item: Item, camera: Connection, bag: Bag, held: Path, work: Work) -> Path:
    """Name a camera's directory: it stays where frames are wanted, else it goes with `held`."""
    if not work.extras.frames:
        return held / str(camera.id)
    return item.name / directory_of(camera.topic, bag, _plain)


def _stored(place: Path, number: int, work: Work) -> Stored:
    """Name the files of a frame in its camera's directory."""
    if work.extras.frames:
        return Stored.make(place, f'{number:06}', work.extras.frames)
    return Stored(place / f'{number:06}.png', place / f'{number:06}_confidence.png')


def _new_topics(cameras: list[Camera], work: Work) -> list[str]:
    return [camera.topic(kind) for camera in cameras for kind in work.extras.kinds]


def _copy_connection(c: Connection, writer: Writer) -> Connection:
    assert isinstance(c.ext, ConnectionExtRosbag2)
    definition, digest = _definition(c)
    return writer.add_connection(
        c.topic, c.msgtype, msgdef=definition, rihs01=digest,
        serialization_format=c.ext.serialization_format,
        offered_qos_profiles=c.ext.offered_qos_profiles)


def _definition(c: Connection) -> tuple[str, str]:
    """Return a type's definition and its hash; before Iron, bags have neither."""
    if not c.msgdef.data and c.msgtype in TYPES.fielddefs:
        definition, _ = TYPES.generate_msgdef(c.msgtype, ros_version=2)
        return definition, TYPES.hash_rihs01(c.msgtype)
    if c.digest:
        return c.msgdef.data, c.digest
    try:
        types = get_typestore(Stores.EMPTY)
        types.register(get_types_from_msg(c.msgdef.data, c.msgtype))
        return c.msgdef.data, types.hash_rihs01(c.msgtype)
    except Exception:  # of a type that the definition lacks, or in a language not known here
        return c.msgdef.data, _UNKNOWN_HASH


def _header(header: Any) -> Any:
    """Return ROS 2's header of a message; ROS 1's has a number, and counts from 0 up."""
    if header.stamp.sec >= 2**31:
        raise BadImage(f'stamp {header.stamp.sec} s: is later than ROS 2 can say')
    return TYPES.types['std_msgs/msg/Header'](
        stamp=TYPES.types['builtin_interfaces/msg/Time'](
            sec=header.stamp.sec, nanosec=header.stamp.nanosec), frame_id=header.frame_id)


def _messages(
    camera: Camera, header: Any, frame: Frame, seen: Seen, work: Work
) -> Iterator[tuple[str, Any]]:
    yield camera.topic('label'), _image(seen.labels, 'mono8', header)
    if seen.confidence is not None:
        yield camera.topic('confidence'), _image(seen.confidence, 'mono8', header)
    if work.extras.overlay:
        yield camera.topic('overlay'), _image(work.picture(frame, seen.labels), 'rgb8', header)


def _image(pixels: np.ndarray, encoding: str, header: Any) -> Any:
    height, width = pixels.shape[:2]
    return TYPES.types[IMAGE](
        header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
        step=pixels.size // height, data=np.ascontiguousarray(pixels).ravel())
