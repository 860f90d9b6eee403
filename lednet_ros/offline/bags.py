# SPDX-License-Identifier: Apache-2.0
"""rosbag2 (sqlite3 or MCAP): a new bag with all that was there, and labels beside the images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lednet_ros.errors import ConfigError, LednetRosError, first_line
from lednet_ros.image_decoding import (
    BadImage,
    Frame,
    UnknownEncoding,
    decode_compressed,
    decode_image,
)
from lednet_ros.offline.work import Work

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
_TYPES = get_typestore(Stores.ROS2_JAZZY)  # the messages used here are alike since Humble
_UNKNOWN_HASH = f'RIHS01_{"0" * 64}'


@dataclass(frozen=True)
class Camera:
    """An image topic and what its labels are called."""

    connection: Connection
    label_topic: str
    overlay_topic: str


def label_topic(image_topic: str) -> str:
    """Give the topic on which the node would publish: /front/image_raw -> /segment/front/label."""
    camera = image_topic.removesuffix('/compressed').rpartition('/')[0]
    return f'/segment{camera}/label'


def segment_bag(source: Path, work: Work) -> None:
    """Write NAME_labels, a bag of the same kind. Raises ConfigError.

    Until it is whole, label images are kept beside it as PNG, so that a second run goes on.
    """
    name = Path(f'{source.name}_labels')
    target = work.output.directory / name
    partial = target.with_name(f'.partial-{name}')
    held = Path(f'.work-{name}')
    try:
        with Reader(source) as reader:
            cameras = _choose(source, reader, work)
            if work.output.is_done(name):
                _check(target, cameras, work)
                work.kept += 1
                return
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            new = partial / name  # its files are named after it
            with Writer(new, version=8, storage_plugin=_storage(source)) as writer:
                _copy(source, reader, writer, cameras, held, work)
        if target.exists():  # --overwrite
            shutil.rmtree(target)
        new.rename(target)
    except (LednetRosError, KeyboardInterrupt):
        raise
    except Exception as error:  # rosbags, sqlite, zstd and the disk each have their own
        raise ConfigError(f'{source}: {first_line(error)}: give a readable rosbag2, and room for '
                          'another of its size') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(work.output.directory / held, ignore_errors=True)


def _storage(source: Path) -> StoragePlugin:
    return StoragePlugin.MCAP if any(source.glob('*.mcap*')) else StoragePlugin.SQLITE3


def _check(target: Path, cameras: list[Camera], work: Work) -> None:
    """Refuse a result of before that has not all topics that are asked for now."""
    try:
        with Reader(target) as reader:
            found = set(reader.topics)
    except Exception:  # it is no bag, or a damaged one
        found = set()
    if lacking := set(_new_topics(cameras, work)) - found:
        raise ConfigError(f'{target}: lacks {", ".join(sorted(lacking))}: choose another '
                          '--output, or --overwrite')


def _choose(source: Path, reader: Reader, work: Work) -> list[Camera]:
    """Find the topics that show pictures, or those asked for; one for each label topic."""
    shown = [c for c in reader.connections if c.msgtype in (IMAGE, COMPRESSED) and c.msgcount
             and not c.topic.endswith('/compressedDepth')]
    absent = set(work.topics) - {c.topic for c in shown}
    if absent:
        raise ConfigError(f'{source}: has no images on {", ".join(sorted(absent))}: choose '
                          f'--topics among {", ".join(c.topic for c in shown) or "none"}')
    cameras: dict[str, Camera] = {}
    for connection in sorted(shown, key=lambda c: c.msgtype == COMPRESSED):
        if work.topics and connection.topic not in work.topics:
            continue
        topic = label_topic(connection.topic)
        if topic in cameras:
            if work.topics:
                raise ConfigError(f'{source}: {connection.topic} and '
                                  f'{cameras[topic].connection.topic} would share {topic}: choose '
                                  'one by --topics')
            continue
        if not work.topics and not _shows_pictures(reader, connection):
            continue
        cameras[topic] = Camera(connection, topic, topic.removesuffix('label') + 'overlay')
    if not cameras:
        raise ConfigError(f'{source}: has no topic with pictures in colour or grey: its topics '
                          f'are {", ".join(sorted(reader.topics))}')
    taken = {c.topic for c in reader.connections} & set(cameras)
    if taken:
        raise ConfigError(f'{source}: has {", ".join(sorted(taken))} already: give a bag without')
    return list(cameras.values())


def _shows_pictures(reader: Reader, connection: Connection) -> bool:
    """Whether its first image is of a known encoding: depth, for one, is not."""
    for _, _, data in reader.messages([connection]):
        try:
            _decode(connection, data)
        except UnknownEncoding:
            return False
        except BadImage:
            return True  # but may get better
        return True
    return False


def _copy(
    source: Path, reader: Reader, writer: Writer, cameras: list[Camera], held: Path, work: Work
) -> None:
    """Write every message as it is, and behind each image its labels."""
    copies = {c.id: _copy_connection(c, writer) for c in reader.connections}
    by_id = {camera.connection.id: camera for camera in cameras}
    outputs = {topic: writer.add_connection(topic, IMAGE, typestore=_TYPES)
               for topic in _new_topics(cameras, work)}
    task = work.progress.add_task(source.name, total=reader.message_count)
    counts = dict.fromkeys(by_id, 0)
    for connection, received_ns, data in reader.messages():
        writer.write(copies[connection.id], received_ns, data)
        work.progress.advance(task)
        camera = by_id.get(connection.id)
        if camera is None:
            continue
        name = held / connection.topic.strip('/') / f'{counts[connection.id]:06}.png'
        counts[connection.id] += 1
        try:
            header, frame = _decode(connection, data)
        except BadImage as error:
            work.complain(f'{source}: image {counts[connection.id]} on {connection.topic}: '
                          f'{error}: left without labels')
            continue
        labels = _labels(name, frame, work)
        for topic, message in _messages(camera, header, frame, labels, work):
            writer.write(outputs[topic], received_ns, _TYPES.serialize_cdr(message, IMAGE))


def _new_topics(cameras: list[Camera], work: Work) -> list[str]:
    return [topic for camera in cameras for topic in (
        camera.label_topic, *([camera.overlay_topic] if work.overlay else []))]


def _copy_connection(c: Connection, writer: Writer) -> Connection:
    assert isinstance(c.ext, ConnectionExtRosbag2)
    return writer.add_connection(
        c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest or _UNKNOWN_HASH,
        serialization_format=c.ext.serialization_format,
        offered_qos_profiles=c.ext.offered_qos_profiles)


def _labels(name: Path, frame: Frame, work: Work) -> np.ndarray:
    """Take the labels that an interrupted run has left, or make and leave them."""
    path = work.output.directory / name
    if work.output.is_done(name):
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if labels is not None and labels.shape == frame.pixels.shape[:2]:
            work.kept += 1
            return labels
    [labels] = work.segment([frame])
    work.output.write_png(name, labels)
    return labels


def _decode(connection: Connection, data: bytes | memoryview) -> tuple[Any, Frame]:
    message: Any = _TYPES.deserialize_cdr(data, connection.msgtype)
    if 'compressedDepth' in getattr(message, 'format', ''):
        raise UnknownEncoding(f'format {message.format[:32]!r}: is depth')
    decode = decode_compressed if connection.msgtype == COMPRESSED else decode_image
    return message.header, decode(message)


def _messages(
    camera: Camera, header: Any, frame: Frame, labels: np.ndarray, work: Work
) -> Iterator[tuple[str, Any]]:
    yield camera.label_topic, _image(labels, 'mono8', header)
    if work.overlay:
        yield camera.overlay_topic, _image(work.picture(frame, labels), 'rgb8', header)


def _image(pixels: np.ndarray, encoding: str, header: Any) -> Any:
    height, width = pixels.shape[:2]
    return _TYPES.types[IMAGE](
        header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
        step=pixels.size // height, data=np.ascontiguousarray(pixels).ravel())
