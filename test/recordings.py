# SPDX-License-Identifier: Apache-2.0
"""Recordings made for tests: street scenes as pictures, videos and bags, these by rosbags."""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

import lz4.frame
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lednet_ros.bags.storage import zstd

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def street(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def noise(seed: int) -> np.ndarray:
    """Return a picture that cannot be packed any smaller."""
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


def make_video(path: Path, frames: int, height: int = 48, width: int = 64) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 12.0, (width, height))
    if not writer.isOpened():
        pytest.skip('this OpenCV cannot write MP4 files')
    for i in range(frames):
        writer.write(street(i, height, width))
    writer.release()


def header(i: int):
    stamp = T['builtin_interfaces/msg/Time'](sec=100 + i, nanosec=7)
    return T['std_msgs/msg/Header'](stamp=stamp, frame_id='front')


def raw(pixels: np.ndarray, i: int, encoding: str = 'bgr8'):
    return T['sensor_msgs/msg/Image'](
        header=header(i), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=0, step=pixels.nbytes // pixels.shape[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8))


QOS = Qos(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE,
          QosTime(9223372036, 854775807), QosTime(9223372036, 854775807), QosLiveliness.AUTOMATIC,
          QosTime(9223372036, 854775807), False)


def packed(pixels: np.ndarray, i: int, form: str = 'png'):
    data = np.frombuffer(cv2.imencode('.png', pixels)[1].tobytes(), np.uint8)
    if 'compressedDepth' in form:  # 12 bytes, then a PNG
        data = np.concatenate((np.zeros(12, np.uint8), data))
    return T[COMPRESSED](header=header(i), format=form, data=data)


def note(i: int):
    return T['std_msgs/msg/String'](data=f'note {i}')


def write_bag(
    path: Path, topics: Mapping[str, tuple[str, Sequence[Any]]],
    storage: StoragePlugin = StoragePlugin.SQLITE3,
    compression: CompressionMode = CompressionMode.NONE, first: int = 0,
) -> None:
    """Write {topic: (type, messages or their bytes)}; of each one a second, from `first` on."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {topic: writer.add_connection(
            topic, type_, typestore=STORE, offered_qos_profiles=[QOS])
            for topic, (type_, _) in topics.items()}
        for i in range(max(len(messages) for _, messages in topics.values())):
            for topic, (type_, messages) in topics.items():
                if i < len(messages):
                    data = messages[i] if isinstance(messages[i], bytes) else (
                        bytes(STORE.serialize_cdr(messages[i], type_)))
                    writer.write(connections[topic], (100 + first + i) * 10**9, data)


def make_bag(path: Path, storage: StoragePlugin, images: int = 3) -> None:
    """Front camera raw and compressed, left one compressed, depth cameras and a text."""
    depth = np.zeros((4, 4), np.float32)
    n = range(images)
    write_bag(path, {
        '/front/image_raw': (IMAGE, [raw(street(i), i) for i in n]),
        '/front/image_raw/compressed': (COMPRESSED, [packed(street(i), i) for i in n]),
        '/left/image_raw/compressed': (COMPRESSED, [packed(street(i), i) for i in n]),
        '/depth/image': (IMAGE, [raw(depth, i, '32FC1') for i in n]),
        **{topic: (COMPRESSED, [packed(street(i), i, '16UC1; compressedDepth png') for i in n])
           for topic in ('/depth/image/compressedDepth', '/range/image/compressed')},
        '/note': ('std_msgs/msg/String', [note(i) for i in n])}, storage)


def file_of(bag: Path) -> Path:
    """Return the one file in a bag's directory that holds messages."""
    [file] = [path for path in bag.iterdir() if path.suffix != '.yaml']
    return file


def make_ros1_bag(path: Path, images: int = 3) -> None:
    """Write a bag of ROS 1: a camera and a text."""
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types

    def image(pixels: np.ndarray, i: int) -> Any:
        stamp = types['builtin_interfaces/msg/Time'](sec=100 + i, nanosec=7)
        return types[IMAGE](
            header=types['std_msgs/msg/Header'](seq=i, stamp=stamp, frame_id='front'),
            height=pixels.shape[0], width=pixels.shape[1], encoding='bgr8', is_bigendian=0,
            step=3 * pixels.shape[1], data=np.frombuffer(pixels.tobytes(), np.uint8))

    with Ros1Writer(path) as writer:
        front = writer.add_connection('/front/image_raw', IMAGE, typestore=store)
        text = writer.add_connection('/note', 'std_msgs/msg/String', typestore=store)
        for i in range(images):
            at = (100 + i) * 10**9
            writer.write(front, at, store.serialize_ros1(image(street(i), i), IMAGE))
            writer.write(text, at, store.serialize_ros1(
                types['std_msgs/msg/String'](data=f'note {i}'), 'std_msgs/msg/String'))


def text(words: str) -> bytes:
    """Return a text as MCAP has it."""
    return struct.pack('<I', len(words)) + words.encode()


def make_mcap(
    path: Path, images: int = 3, compression: str = '', chunked: bool = True,
    indexed: bool = True, checksum: bool = True, padding: bytes = b'',
) -> None:
    """Write MCAP as rosbag2's recorder can be told to, and rosbags' writer cannot.

    Two images a chunk; `indexed`: with message indexes and a summary; `padding` is behind what
    each record has, as MCAP allows, and behind what is packed by zstd.
    """
    def record(opcode: int, content: bytes) -> bytes:
        more = padding if opcode != 5 else b''  # a message's data has no end of its own
        return struct.pack('<BQ', opcode, len(content + more)) + content + more

    pack = {'': bytes, 'lz4': lz4.frame.compress,
            'zstd': lambda data: zstd.compress(data) + padding}[compression]
    schema = record(3, struct.pack('<H', 1) + text(IMAGE) + text('ros2msg') + text(
        STORE.generate_msgdef(IMAGE, ros_version=2)[0]))
    about = text('offered_qos_profiles') + text('')
    channel = record(4, struct.pack('<HH', 1, 1) + text('/front/image_raw') + text('cdr')
                     + struct.pack('<I', len(about)) + about)
    messages = [record(5, struct.pack('<HIQQ', 1, i, (100 + i) * 10**9, (100 + i) * 10**9) + bytes(
        STORE.serialize_cdr(raw(noise(i), i), IMAGE))) for i in range(images)]
    out = [b'\x89MCAP0\r\n', record(1, text('ros2') + text('test'))]
    if not chunked:
        out += [schema, channel, *messages]
    for first in range(0, images if chunked else 0, 2):
        held = messages[first:first + 2]
        content = b''.join(held if first else [schema, channel, *held])
        packed_content = pack(content)
        out.append(record(6, struct.pack(
            '<QQQI', (100 + first) * 10**9, (99 + first + len(held)) * 10**9, len(content),
            crc32(content) if checksum else 0) + text(compression)
            + struct.pack('<Q', len(packed_content)) + packed_content))
        if indexed:
            out.append(record(7, struct.pack('<HI', 1, 16 * len(held)) + bytes(16 * len(held))))
    out.append(record(15, bytes(4)))
    start = sum(map(len, out))
    if indexed:
        out += [schema, channel]
    out += [record(2, struct.pack('<QQI', start if indexed else 0, 0, 0)), b'\x89MCAP0\r\n']
    path.write_bytes(b''.join(out))
