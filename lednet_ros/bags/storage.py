# SPDX-License-Identifier: Apache-2.0
"""
The files of rosbag2, MCAP and sqlite3, read as far as they are whole.

rosbags' readers refuse a file that ends early, as that of a recorder that was killed does, give
up the rest of a file for one damaged piece of it, and pass over all messages of a topic whose QoS
metadata.yaml words otherwise than the file, as rosbag2 itself does now and then.
"""

from __future__ import annotations

import io
import os
import sqlite3
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import quote

from lz4.frame import decompress as unpack_lz4
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys.msg import normalize_msgtype

from lednet_ros.common.errors import first_line

Message = tuple[int, int, bytes]  # its connection's id, when it was received in ns, its CDR
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'  # no CDR begins so
ROS_1 = 'ros1'  # how ROS 1 serializes, beside 'cdr'


def _import_zstd() -> Any:
    """Return the module that rosbags uses: from 0.11 on Python's own, or its backport."""
    for name in ('compression.zstd', 'backports.zstd'):
        with suppress(ImportError):
            return import_module(name)
    return import_module('zstandard')


zstd = _import_zstd()


class NoStorage(Exception):
    """A file of which nothing can be read; the text names the cause."""


class Storage(Protocol):
    """One file. Messages come in the order in which they were written."""

    connections: list[Connection]  # counts are about

    def messages(self, ids: Collection[int]) -> Iterator[Message]:
        """Yield the messages of some connections; what is damaged is left out."""

    def losses(self) -> list[str]:
        """Return what was found damaged until now, a line each."""

    def close(self) -> None:
        """Close the file."""


def make_connection(
    number: int, topic: str, type_: str, definition: str, digest: str, serialization: str,
    qos: str, count: int = 0,
) -> Connection:
    """Return rosbags' description of a topic."""
    kind = MessageDefinitionFormat.MSG if definition else MessageDefinitionFormat.NONE
    if definition.startswith('=' * 80 + '\nIDL: '):
        kind = MessageDefinitionFormat.IDL
    if type_.count('/') == 1:  # as ROS 1 writes it
        type_ = normalize_msgtype(type_)
    return Connection(number, topic, type_, MessageDefinition(kind, definition), digest, count,
                      ConnectionExtRosbag2(serialization, profiles_of(qos)), None)


def profiles_of(qos: Any) -> list[Qos]:
    """Return the QoS that rosbag2 wrote as YAML, or what that holds; of a faulty one nothing."""
    try:
        return parse_qos(qos)
    except Exception:  # YAML that is none, or of another form
        return []


def serialization(connection: Connection) -> str:
    """Return how its messages are serialized: 'cdr', where nothing is odd."""
    return getattr(connection.ext, 'serialization_format', '')


_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _DATA_END = (
    2, 3, 4, 5, 6, 7, 15)  # MCAP's opcodes
_BEFORE_DATA = 22  # bytes of a message record
_MCAP_MAGIC = b'\x89MCAP0\r\n'


class _Piece(NamedTuple):
    """A chunk, or records that lie in none."""

    from_: int
    before: int
    is_chunk: bool
    counts: Counter[int]  # messages by channel


class McapFile:
    """An MCAP file. Its own index is not needed: each chunk's, which lies behind it, will do."""

    def __init__(self, path: Path) -> None:
        self.connections: list[Connection] = []
        self._pieces: list[_Piece] = []
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, Connection] = {}
        self._breaks_off = ''
        self._damaged: dict[int, int] = {}  # where a chunk begins, and its messages
        self._file: BinaryIO = path.open('rb')
        try:
            if self._file.read(8) != _MCAP_MAGIC:
                raise NoStorage('does not begin as an MCAP file does')
            self._survey(os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def _survey(self, size: int) -> None:
        """Find the pieces, passing over what is packed; look inside for unknown channels."""
        loose: _Piece | None = None
        for opcode, at, length in self._walk(8, size):
            if opcode == _CHUNK:
                loose = None
                self._pieces.append(_Piece(at, at + length, True, Counter()))
            elif opcode == _INDEX and length >= 6 and self._pieces:
                channel, stamps = struct.unpack('<HI', self._read(at, 6))
                self._pieces[-1].counts[channel] += stamps // 16  # of a stamp and a place
            elif opcode == _MESSAGE and length >= _BEFORE_DATA:
                if loose is None:
                    loose = _Piece(at - 9, at - 9, False, Counter())
                    self._pieces.append(loose)
                loose.counts[_number(memoryview(self._read(at, 2)))] += 1
                loose = self._pieces[-1] = loose._replace(before=at + length)
            elif opcode in (_SCHEMA, _CHANNEL):
                self._learn(opcode, memoryview(self._read(at, length)))
        total: Counter[int] = Counter()
        for i, piece in enumerate(self._pieces):
            counts = piece.counts
            if piece.is_chunk and (not counts or counts.keys() - self._channels.keys()):
                counts = Counter()
                for opcode, content in self._records(piece):
                    if opcode == _MESSAGE and len(content) >= _BEFORE_DATA:
                        counts[_number(content)] += 1
                    else:
                        self._learn(opcode, content)
                if piece.from_ in self._damaged:
                    counts = piece.counts
                self._pieces[i] = piece._replace(counts=counts)
            total.update(counts)
        self.connections = [c._replace(msgcount=total[c.id]) for c in self._channels.values()]
        self._unknown = sum(n for channel, n in total.items() if channel not in self._channels)

    def _walk(self, at: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield each record's (opcode, where its content begins, length) up to an end."""
        is_complete = False
        while True:
            head = self._read(at, 9)
            opcode, length = struct.unpack('<BQ', head) if len(head) == 9 else (0, 0)
            if opcode == _FOOTER:
                return
            if not opcode or at + 9 + length > size:
                # Between two records it is only unfinished, as that of a killed recorder; behind
                # its data nothing is missed.
                if at != size and not is_complete:
                    self._breaks_off = (f'breaks off at byte {at} of {size}: what was recorded '
                                        'behind that is lost')
                return
            yield opcode, at + 9, length
            at += 9 + length
            is_complete |= opcode == _DATA_END

    def _read(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(length)

    def _records(self, piece: _Piece) -> Iterator[tuple[int, memoryview]]:
        """Yield a piece's records as (opcode, content); of a damaged chunk what can be found."""
        if not piece.is_chunk:
            for opcode, at, length in self._walk(piece.from_, piece.before):
                yield opcode, memoryview(self._read(at, length))
            return
        lost = sum(piece.counts.values())
        try:
            content = memoryview(_unpacked(memoryview(
                self._read(piece.from_, piece.before - piece.from_))))
            at = 0
            while at < len(content):
                opcode, length = struct.unpack_from('<BQ', content, at)
                if not opcode or at + 9 + length > len(content):
                    raise ValueError('no record')  # checksums are optional
                yield opcode, content[at + 9:at + 9 + length]
                lost -= opcode == _MESSAGE
                at += 9 + length
        except Exception:  # zstd, lz4 and struct each have their own
            self._damaged[piece.from_] = lost

    def _learn(self, opcode: int, content: memoryview) -> None:
        """Note a schema or a channel; they may be repeated, and damaged."""
        with suppress(struct.error):
            self._learn_whole(opcode, content)

    def _learn_whole(self, opcode: int, content: memoryview) -> None:
        if opcode == _SCHEMA:
            name, at = _text(content, 2)
            encoding, at = _text(content, at)
            definition, _ = _text(content, at)
            self._schemas[_number(content)] = (
                name, definition if encoding in ('ros2msg', 'ros2idl', 'omgidl') else '')
        elif opcode == _CHANNEL and (number := _number(content)) not in self._channels:
            topic, at = _text(content, 4)
            serialization, at = _text(content, at)
            about = {}
            at, end = at + 4, at + 4 + int(struct.unpack_from('<I', content, at)[0])
            while at < end:
                key, at = _text(content, at)
                about[key], at = _text(content, at)
            type_, definition = self._schemas.get(_number(content[2:]), ('', ''))
            self._channels[number] = make_connection(
                number, topic, type_, definition, about.get('topic_type_hash', ''),
                serialization, about.get('offered_qos_profiles', ''))

    def messages(self, ids: Collection[int]) -> Iterator[Message]:
        """Yield the messages of some channels, leaving out damaged chunks."""
        for piece in self._pieces:
            if not piece.counts.keys() & ids:
                continue
            for opcode, content in self._records(piece):
                if opcode != _MESSAGE or len(content) < _BEFORE_DATA:
                    continue
                if (channel := _number(content)) in ids:
                    yield (channel, struct.unpack_from('<Q', content, 6)[0],
                           bytes(content[_BEFORE_DATA:]))

    def losses(self) -> list[str]:
        """Say where it breaks off, which chunks are damaged and what no channel is known of."""
        found = [self._breaks_off] if self._breaks_off else []
        if self._damaged:
            lost = sum(self._damaged.values())
            found.append(f'has {len(self._damaged)} damaged chunks of {len(self._pieces)}: '
                         f'{lost if lost > 0 else "some"} messages are lost')
        if self._unknown:
            found.append(f'has {self._unknown} messages of topics whose names are lost')
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _number(content: memoryview) -> int:
    return int(struct.unpack_from('<H', content)[0])


def _text(content: memoryview, at: int) -> tuple[str, int]:
    """Return a text with its length before it, and where it ends."""
    at, length = at + 4, struct.unpack_from('<I', content, at)[0]
    return bytes(content[at:at + length]).decode(errors='replace'), at + length


def _unpacked(chunk: memoryview) -> bytes:
    """Return a chunk's records. Raises whatever its damage leads to."""
    size, checksum = struct.unpack_from('<QI', chunk, 16)
    compression, at = _text(chunk, 28)
    data = bytes(chunk[at + 8:at + 8 + struct.unpack_from('<Q', chunk, at)[0]])
    if compression == 'zstd':
        with zstd.open(io.BytesIO(data), 'rb') as packed:
            records = packed.read(size)  # some writers leave more behind it
    else:
        records = {'': bytes, 'lz4': unpack_lz4}[compression](data)
    if len(records) != size or (checksum and crc32(records) != checksum):
        raise ValueError('other records than were written')
    return records


class SqliteFile:
    """A sqlite3 file of any of rosbag2's schemas."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gaps: set[tuple[int, int]] = set()  # ids that cannot be read, both ends included
        self._unknown = 0  # messages of no topic
        # Immutable: nothing is written beside it, so a read-only directory will do.
        self._database = sqlite3.connect(
            f'file:{quote(os.fsencode(path.absolute()))}?immutable=1', uri=True)
        self._database.text_factory = lambda text: text.decode(errors='replace')
        try:
            # Else a file that is shorter than its first page says would not be read at all.
            self._database.execute('PRAGMA writable_schema=ON')
            self._database.execute('PRAGMA trusted_schema=OFF')
            self.connections = list(self._topics())
        except BaseException:
            self._database.close()
            raise

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        cursor = self._database.execute(query)
        for row in cursor:
            yield dict(zip((column[0] for column in cursor.description), row, strict=True))

    def _topics(self) -> Iterator[Connection]:
        tables = {row['name'] for row in self._rows(
            "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise NoStorage('holds no tables of topics and messages')
        definitions = {row['topic_type']: row['encoded_message_definition'] for row in (
            self._rows('SELECT * FROM message_definitions')
            if 'message_definitions' in tables else ())}
        try:
            counts = dict(self._database.execute(
                'SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'))
        except sqlite3.Error:  # damaged; reading will tell how much
            counts = {}
        self._unknown = sum(counts.values())
        for row in self._rows('SELECT * FROM topics'):
            if isinstance(row['id'], int):  # else it is damaged
                self._unknown -= counts.get(row['id'], 0)
                yield make_connection(
                    row['id'], str(row['name']), str(row['type']),
                    str(definitions.get(row['type']) or ''),
                    str(row.get('type_description_hash') or ''), str(row['serialization_format']),
                    str(row.get('offered_qos_profiles') or ''), counts.get(row['id'], 0))

    def messages(self, ids: Collection[int]) -> Iterator[Message]:
        """Yield the messages of some topics, leaving out what lies on damaged pages."""
        query = ('SELECT id, topic_id, CAST(timestamp AS INTEGER), CAST(data AS BLOB) '
                 'FROM messages WHERE id >= ? AND topic_id IN '
                 f'({",".join(map(str, ids))}) ORDER BY id')
        from_, step = 0, 0
        while step < 2**40:  # how many messages are passed over, more and more until one is found
            try:
                for number, topic, stamp, data in self._database.execute(query, (from_ + step,)):
                    if step:
                        self._gaps.add((from_, number - 1))
                    from_, step = number + 1, 0
                    yield topic, stamp or 0, data or b''
            except sqlite3.Error:
                step = max(1, 2 * step)
                continue
            break
        if step:
            self._gaps.add((from_, -1))

    def losses(self) -> list[str]:
        """Return which messages are damaged, and what else lies in files beside it."""
        found = [f'is damaged: its messages {from_} to {to if to >= 0 else "the last"} are lost'
                 for from_, to in sorted(self._gaps)]
        if self._unknown:
            found.append(f'has {self._unknown} messages of topics whose names are lost')
        for suffix, what in (('-wal', 'messages that it lacks'),
                             ('-journal', 'changes to it that were not finished')):
            beside = f'{self._path}{suffix}'  # too long a name is none that is there
            if os.path.isfile(beside) and os.path.getsize(beside):
                found.append(f'{self._path.name}{suffix} beside it holds {what}: open it once '
                             'with the sqlite3 command, which puts them right')
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Ros1File:
    """A bag file of ROS 1. rosbags reads it in the order of time."""

    def __init__(self, path: Path) -> None:
        self._reader = Ros1Reader(path)
        self._reader.open()
        self._by_id = {c.id: c for c in self._reader.connections}
        self.connections = [make_connection(
            c.id, c.topic, c.msgtype, c.msgdef.data, '', ROS_1, '', c.msgcount)
            for c in self._reader.connections]
        self._damage = ''

    def messages(self, ids: Collection[int]) -> Iterator[Message]:
        """Yield the messages of some connections, up to a damaged chunk."""
        count = 0
        messages = self._reader.messages([self._by_id[i] for i in ids]) if ids else iter(())
        while True:
            try:
                connection, stamp, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # rosbags' assertions, bz2 and lz4
                lost = sum(self._by_id[i].msgcount for i in ids) - count
                self._damage = (f'is damaged: {lost} of its messages are lost '
                                f'({first_line(error)})')
                return
            count += 1
            yield connection.id, stamp, data

    def losses(self) -> list[str]:
        """Return what could not be read."""
        return [self._damage] if self._damage else []

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
