# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are cameras, and what their labels are called there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection

from lednet_ros.bags.bag import BadMessage, Bag
from lednet_ros.common.errors import ConfigError
from lednet_ros.images.encodings import (
    BadImage,
    Frame,
    UnknownEncoding,
    decode_any_image,
    decode_compressed,
)

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
# Cameras in forms that are not read here.
UNREAD = ('theora_image_transport/msg/Packet', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket',
          'foxglove_msgs/msg/CompressedVideo', 'foxglove_msgs/msg/CompressedImage',
          'foxglove_msgs/msg/RawImage',
          # As Foxglove's own recorders write them, by protobuf.
          'foxglove.CompressedVideo', 'foxglove.CompressedImage', 'foxglove.RawImage')
TRANSPORTS = ('compressed', 'compressedDepth', 'theora', 'ffmpeg', 'zstd')  # image_transport's
NODE_OUTPUTS = ('label', 'color', 'overlay', 'confidence')  # of segment_node
AMBIGUOUS = 'mono16'  # infrared, or what old drivers call depth
LOOKED_AT = 10  # images of unknown encodings, before a topic is taken to be no camera
NAMED = 10      # topics, where there may be many
EMPTY, OTHER_TRANSPORT = 'topics without messages', 'other transports of a camera'


class NoCamera(ConfigError):
    """A bag of which nobody expects pictures."""


@dataclass(frozen=True)
class Camera:
    """An image topic and what its labels are called."""

    connection: Connection
    topics: str  # of its results, as far as they share it: /segment/front

    def topic(self, kind: str) -> str:
        """Return what one of NODE_OUTPUTS is called: /segment/front/label."""
        return f'{self.topics}/{kind}'


@dataclass
class Choice:
    """The cameras of a bag, and what other image topics are."""

    cameras: list[Camera] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # what it is, topic and more
    left_out: list[str] = field(default_factory=list)  # cameras that get no labels, and why


class _Fault(NamedTuple):
    """Why a topic shows no pictures."""

    kind: str
    reason: str
    is_camera: bool  # so somebody misses its labels


def base_topic(topic: str) -> str:
    """Return the camera's topic, without the name of a transport behind it."""
    base, _, last = f'/{topic.strip("/")}'.rpartition('/')
    return base if base and last in TRANSPORTS else f'{base}/{last}'


def result_topics(
    image_topics: Sequence[str], node: str = 'segment', is_alone: bool = False
) -> list[str]:
    """
    Return what the results of each camera have in common, as the node of this name has it.

    A camera that is alone: /segment. Several, as of its parameter `cameras`: /front/image_raw has
    /segment/front. Those that would share one keep their whole names: /stereo/left and
    /stereo/right have /segment/stereo/left and /segment/stereo/right.
    """
    if is_alone:
        return [f'/{node}' for _ in image_topics]
    names = [f'/{node}{base_topic(topic).rpartition("/")[0]}' for topic in image_topics]
    while clashing := {name for name, count in Counter(names).items() if count > 1}:
        names = [f'/{node}{base_topic(topic)}' if name in clashing else name
                 for topic, name in zip(image_topics, names, strict=True)]
    return names


def directory_of(topic: str, bag: Bag, plain: Callable[[str], str]) -> str:
    """
    Return a name for what is of one topic: as `plain` makes it, unlike those of the bag's others.

    /stereo/left_image and /stereo_left/image are two, whichever of them are asked for.
    """
    name = plain(topic.strip('/'))
    shared = sorted({c.topic for c in bag.connections if plain(c.topic.strip('/')) == name})
    return f'{name}-{shared.index(topic) + 1}' if len(shared) > 1 else name


def choose(
    source: Path, bag: Bag, asked: Sequence[str] = (), kinds: Sequence[str] = ('label',),
    node: str = 'segment',
) -> Choice:
    """
    Find the cameras, or those asked for, each in one transport. Raise ConfigError.

    Their results, of these kinds, are to be written beside what the bag has.
    """
    choice = Choice()
    shown: list[Connection] = []
    for transports in _by_camera(
            _asked(source, bag, asked) if asked else _candidates(bag, choice, node)):
        if asked and len(transports) > 1:
            raise ConfigError(f'{source}: {" and ".join(c.topic for c in transports)} are one '
                              'camera: choose one by --topics')
        faults: list[tuple[Connection, _Fault]] = []
        for connection in transports:
            if (fault := _fault(bag, connection, is_asked=bool(asked))) is None:
                shown.append(connection)
                choice.skipped += [(OTHER_TRANSPORT, c.topic)
                                   for c in transports if c is not connection]
                break
            if asked:
                raise ConfigError(f'{source}: has no images on {connection.topic}, which '
                                  f'{fault.reason}: choose other --topics')
            faults.append((connection, fault))
        else:
            # The first that has messages tells what it is.
            telling = min(faults, key=lambda found: found[1].kind == EMPTY)
            for connection, fault in faults:
                if fault is not telling[1]:
                    choice.skipped.append((OTHER_TRANSPORT, connection.topic))
                elif fault.is_camera:
                    choice.left_out.append(f'{connection.topic} {fault.reason}: left without '
                                           'labels')
                else:
                    choice.skipped.append((fault.kind, f'{connection.topic} {fault.reason}'))
    if not shown:
        found = [*choice.left_out, *(text for _, text in choice.skipped)]
        raise (ConfigError if choice.left_out else NoCamera)(
            f'{source}: has no pictures in colour or grey: '
            + ('; '.join(found[:NAMED]) or 'no topic carries images') + ': give a bag that has')
    there = {c.topic for c in bag.connections}
    # Recorded beside the live node, it has that one's labels: then the longer names.
    is_alone = len(shown) + len(choice.left_out) == 1 and not (
        there & {f'/{node}/{kind}' for kind in kinds})
    choice.cameras = [Camera(*pair) for pair in zip(
        shown, result_topics([c.topic for c in shown], node, is_alone), strict=True)]
    new = {camera.topic(kind) for camera in choice.cameras for kind in kinds}
    if taken := new & there:
        raise ConfigError(f'{source}: has {", ".join(sorted(taken))} already: give another '
                          '--node-name, whose topics the results are then')
    return choice


def decode(bag: Bag, connection: Connection, data: bytes) -> tuple[Any, Frame]:
    """Return a message's header and picture. Raise BadImage, also for bytes that are damaged."""
    message = _message(bag, connection, data)
    return message.header, _shown(message)


def _message(bag: Bag, connection: Connection, data: bytes) -> Any:
    try:
        return bag.deserialize(connection, data)
    except BadMessage as error:
        raise BadImage(str(error)) from error


def _shown(message: Any) -> Frame:
    return decode_compressed(message) if hasattr(message, 'format') else decode_any_image(message)


def _asked(source: Path, bag: Bag, asked: Sequence[str]) -> list[Connection]:
    """Return what carries images on these topics."""
    images = [c for c in bag.connections if c.msgtype in (IMAGE, COMPRESSED)]
    if absent := set(asked) - {c.topic for c in images}:
        others = {c.topic: c.msgtype for c in bag.connections if c.topic in absent}
        raise ConfigError(
            f'{source}: has no images on ' + ', '.join(
                f'{topic} ({others[topic]})' if topic in others else topic
                for topic in sorted(absent))
            + f': choose --topics among {", ".join(c.topic for c in images) or "none"}')
    return [c for c in images if c.topic in asked]


def _candidates(bag: Bag, choice: Choice, node: str) -> list[Connection]:
    """Return what carries images, but for what the node has made of some."""
    found = []
    for connection in bag.connections:
        *path, last = connection.topic.split('/')
        if connection.msgtype not in (IMAGE, COMPRESSED, *UNREAD):
            continue
        if {'segment', node} & {*path} and last in NODE_OUTPUTS:
            choice.skipped.append(('outputs of segment_node', connection.topic))
        else:
            found.append(connection)
    return found


def _by_camera(connections: Iterable[Connection]) -> list[list[Connection]]:
    """Put the transports of each camera together, the raw one first."""
    found: dict[str, list[Connection]] = {}
    for connection in connections:
        found.setdefault(base_topic(connection.topic), []).append(connection)
    return [sorted(group, key=lambda c: (IMAGE, COMPRESSED, *UNREAD).index(c.msgtype))
            for group in found.values()]


def _fault(bag: Bag, connection: Connection, is_asked: bool) -> _Fault | None:
    """
    Return why a topic shows no pictures, None where it does.

    A damaged image tells nothing: a later one does. An encoding may be damaged too.
    """
    if connection.msgtype in UNREAD:
        return _Fault('topics of types that are not read',
                      f'carries {connection.msgtype}, which is not read', True)
    count, unknown, encoding, first = 0, 0, '', ''
    for _, _, data in bag.messages([connection]):
        count += 1
        try:
            message = _message(bag, connection, data)
            if is_asked or getattr(message, 'encoding', '') != AMBIGUOUS:
                _shown(message)
                return None
            unknown, encoding = unknown + 1, AMBIGUOUS
        except UnknownEncoding as error:
            if not str(error).startswith(('encoding ', 'format ')):  # it says nothing of depth
                first = first or str(error)
                continue
            unknown, encoding = unknown + 1, _encoding(message)
        except BadImage as error:
            first = first or str(error)
        if unknown == LOOKED_AT:
            break
    if unknown:
        # Numbers are not light: depth, for one.
        if re.fullmatch('(8|16|32|64)[USF]C[0-9]*', encoding) or 'Depth' in encoding:
            return _Fault('depth and other data', f'holds data ({encoding})', False)
        return _Fault('unknown encodings', f'has encoding {encoding!r}, which ' + (
            'may be depth (--topics takes it for light)' if encoding == AMBIGUOUS else
            'is not read'), True)
    if count:
        return _Fault('no whole image', f'has {count} images, of which none can be read ({first})',
                      True)
    return _Fault(EMPTY, 'holds no messages', False)


def _encoding(message: Any) -> str:
    """Return what an image's sender calls its pixels, cut to a length that can be shown."""
    form = getattr(message, 'format', '')
    if 'compressedDepth' in form:
        return str(form[:32])
    return str(getattr(message, 'encoding', form.partition(';')[0].strip())[:32])
