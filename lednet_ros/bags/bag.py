# SPDX-License-Identifier: Apache-2.0
"""One door to recorded bags: rosbag2's directories and files, finished or not, and ROS 1's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.typesys import Stores, get_typestore

from lednet_ros.bags.files import files_of, kind_of
from lednet_ros.bags.storage import (
    ROS_1,
    ZSTD_MAGIC,
    McapFile,
    Ros1File,
    SqliteFile,
    Storage,
    profiles_of,
    serialization,
    zstd,
)
from lednet_ros.common.errors import ConfigError, first_line

TYPES = get_typestore(Stores.ROS2_JAZZY)  # the messages read here are alike since Humble
_TYPES_1 = get_typestore(Stores.ROS1_NOETIC)
_STORAGES: dict[str, Callable[[Path], Storage]] = {
    'mcap': McapFile, 'sqlite3': SqliteFile, 'ros1': Ros1File}
_REMEDIES = {'mcap': "'mcap recover' may find what is left of it",
             'sqlite3': "the sqlite3 command's '.recover' may find what is left of it",
             'ros1': "'rosbag reindex' may find what is left of it"}


class BadMessage(ValueError):
    """A message whose bytes are not those of its type."""


class Bag:
    """
    A bag that is open for reading; a context manager.

    What of it is damaged is left out: `losses` says so, in full once all messages are read.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raise ConfigError naming the cause and the remedy."""
        self.parts = files_of(path)
        self.kind = ''  # of its files: mcap, sqlite3 or ros1
        self.connections: list[Connection] = []  # one a topic and type; counts are about
        self._losses = [f'{name} is missing, though metadata.yaml names it'
                        for name in self.parts.missing]
        self._storages: list[tuple[Path, Storage, dict[int, int]]] = []
        self._still_packed = 0
        faults: list[str] = []
        self._stack = ExitStack()
        try:
            for file in self.parts.files:
                if fault := self._open(file):
                    faults.append(f'{file.name} {fault}')
            if not self._storages:
                raise ConfigError(f'{path}: ' + ('; '.join(
                    faults or self._losses) or 'holds no file of a bag') + ': give a whole one')
        except BaseException:
            self._stack.close()
            raise
        self._losses += faults

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, file: Path) -> str:
        """Open one file; return what keeps it from being read, if anything does."""
        try:
            packed = file.open('rb')
        except OSError as error:
            return f'cannot be read: {error.strerror}: let this user read it'
        with packed:
            is_packed = packed.read(4) == ZSTD_MAGIC
        place = self._unpacked(file) if is_packed else file
        kind = kind_of(place)
        if not kind:
            return ('is empty' if not place.stat().st_size else
                    'is neither MCAP, sqlite3 nor ROS 1, or its beginning is damaged')
        try:
            storage = _STORAGES[kind](place)
        except Exception as error:  # sqlite3, struct and rosbags each have their own
            return f'cannot be read: {first_line(error)}: {_REMEDIES[kind]}'
        self._stack.callback(storage.close)
        self.kind = self.kind or kind
        self._storages.append((file, storage, {
            c.id: self._merged(c) for c in storage.connections}))
        return ''

    def _unpacked(self, file: Path) -> Path:
        """Unpack a file into a temporary directory, as far as it is whole."""
        try:
            directory = self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix='lednet_ros-'))
            place = Path(directory, 'unpacked')
            with zstd.open(file, 'rb') as packed, place.open('wb') as unpacked:
                try:
                    shutil.copyfileobj(packed, unpacked, 2**16)
                except (zstd.ZstdError, EOFError) as error:
                    self._losses.append(f'{file.name} cannot be unpacked to its end: '
                                        f'{first_line(error)}')
        except OSError as error:
            # Where no directory will do for it, Python has chosen none.
            where = f' in {tempfile.tempdir}' if tempfile.tempdir else ''
            raise ConfigError(
                f'{file}: cannot be unpacked{where}: {error.strerror or error}: make room there, '
                'or set TMPDIR to a directory that has it') from error
        return place

    def _merged(self, found: Connection) -> int:
        """Note a file's connection; return its place among the bag's."""
        for place, known in enumerate(self.connections):
            if (known.topic, known.msgtype, serialization(known)) == (
                    found.topic, found.msgtype, serialization(found)):
                self.connections[place] = known._replace(
                    msgcount=known.msgcount + found.msgcount, digest=known.digest or found.digest,
                    msgdef=known.msgdef if known.msgdef.data else found.msgdef)
                return place
        ext = found.ext
        if isinstance(ext, ConnectionExtRosbag2) and not ext.offered_qos_profiles:
            # rosbags 0.10 writes it for MCAP there only.
            ext = ext._replace(
                offered_qos_profiles=profiles_of(self.parts.qos.get(found.topic)))
        self.connections.append(found._replace(
            id=len(self.connections) + 1, ext=ext,
            digest=found.digest or self.parts.digests.get(found.msgtype, '')))
        return len(self.connections) - 1

    def messages(
        self, connections: Collection[Connection] | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """
        Yield (connection, when it was received in ns, bytes), as they were written.

        Of some connections, or of all.
        """
        wanted = {c.id for c in (self.connections if connections is None else connections)}
        for _, storage, merged in self._storages:
            ours = {number: self.connections[place] for number, place in merged.items()
                    if self.connections[place].id in wanted}
            for number, received_ns, data in storage.messages(ours.keys()):
                if data[:4] == ZSTD_MAGIC:
                    try:
                        data = zstd.decompress(data)
                    except Exception:  # of two libraries, each has its own
                        self._still_packed += 1
                yield ours[number], received_ns, data

    def deserialize(self, connection: Connection, data: bytes) -> Any:
        """Return a message of a type that ROS comes with. Raise BadMessage."""
        form = serialization(connection)
        if form not in ('cdr', ROS_1):
            raise BadMessage(f'is serialized as {form[:32]!r}, not as CDR')
        try:
            if form == ROS_1:
                return _TYPES_1.deserialize_ros1(data, connection.msgtype)
            return TYPES.deserialize_cdr(data, connection.msgtype)
        except Exception as error:  # rosbags' own, and what damaged bytes lead it to
            raise BadMessage(f'is no {connection.msgtype}: {first_line(error)}') from error

    def losses(self) -> list[str]:
        """Return what is damaged or missing, as far as it has been come to, a line each."""
        packed = [f'{self._still_packed} messages cannot be unpacked'] * bool(self._still_packed)
        return [*self._losses, *packed, *(
            f'{file.name} {loss}' for file, storage, _ in self._storages
            for loss in storage.losses())]
