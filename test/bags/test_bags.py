# SPDX-License-Identifier: Apache-2.0
"""Bags in each form, whole and damaged, as they are read."""

from __future__ import annotations

import re
import shutil
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import pytest
from recordings import (
    IMAGE,
    QOS,
    STORE,
    file_of,
    make_mcap,
    make_ros1_bag,
    note,
    raw,
    street,
    write_bag,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

from lednet_ros.bags.bag import BadMessage, Bag
from lednet_ros.bags.files import beside, is_bag
from lednet_ros.common.errors import ConfigError

BOTH = pytest.mark.parametrize('storage', list(StoragePlugin), ids=lambda storage: storage.name)


def make(path: Path, storage: StoragePlugin, count: int = 3, first: int = 0, **more) -> Path:
    """Write images and texts, so many of each."""
    numbers = range(first, first + count)
    write_bag(path, {'/front/image_raw': (IMAGE, [raw(street(i), i) for i in numbers]),
                     '/note': ('std_msgs/msg/String', [note(i) for i in numbers])},
              storage, first=first, **more)
    return path


def read(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return (topic, stamp in s) of each message, every one deserialized, and the losses."""
    assert is_bag(path)
    found = []
    with Bag(path) as bag:
        for connection, received_ns, data in bag.messages():
            message = bag.deserialize(connection, data)
            if connection.msgtype == IMAGE:
                assert message.header.stamp.sec == received_ns // 10**9
            found.append((connection.topic, received_ns // 10**9))
        return found, bag.losses()


def expected(count: int = 3, first: int = 0) -> list[tuple[str, int]]:
    return [(topic, 100 + first + i) for i in range(count) for topic in (
        '/front/image_raw', '/note')]


@BOTH
@pytest.mark.parametrize('compression', [
    CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE],
    ids=lambda mode: mode.name)
@pytest.mark.parametrize('metadata', [
    'whole', 'gone', 'empty', 'damaged', 'nameless', 'lying', 'of other QoS'])
def test_a_bag_is_read_whatever_its_metadata_say(
    tmp_path, storage, compression, metadata
) -> None:
    bag = make(tmp_path / 'drive', storage, compression=compression)
    path = bag / 'metadata.yaml'
    whole = path.read_text()
    if metadata == 'gone':
        path.unlink()
    else:
        path.write_text({
            'whole': whole, 'empty': '', 'damaged': '{{{',
            'nameless': re.sub('storage_identifier: .*', "storage_identifier: ''", whole),
            'of other QoS': whole.replace('depth: 5', 'depth: 7'),
            'lying': re.sub('message_count: .*', 'message_count: 0', whole).replace(
                '/front/image_raw', '/other')}[metadata])
    assert read(bag) == (expected(), [])


@BOTH
def test_a_lone_file_is_a_bag_whatever_its_name(tmp_path, storage) -> None:
    file = file_of(make(tmp_path / 'drive', storage))
    assert read(file) == (expected(), [])
    other = tmp_path / 'my %41 #1?\n' / f'straße{file.suffix.upper()}'
    other.parent.mkdir()
    file.rename(other)
    assert read(other) == (expected(), [])


@BOTH
@pytest.mark.parametrize('name', ['drive_{n}', '{n}_drive_2026_05_01-12_30_0{n}'])
@pytest.mark.parametrize('is_listed', [True, False])
def test_a_split_bag_is_read_in_the_order_of_its_numbers(
    tmp_path, storage, name, is_listed
) -> None:
    bag = tmp_path / 'renamed'
    bag.mkdir()
    names = []
    for i, n in enumerate((9, 10, 11)):
        part = make(tmp_path / 'part', storage, first=3 * i)
        names.append(name.format(n=n) + file_of(part).suffix)
        file_of(part).rename(bag / names[-1])
        metadata = (part / 'metadata.yaml').read_text()
        shutil.rmtree(part)
    if is_listed:
        (bag / 'metadata.yaml').write_text(re.sub(
            r'relative_file_paths:\n.*\n', 'relative_file_paths:\n' + ''.join(
                f'  - renamed/{n}\n' for n in names), metadata))
    assert read(bag) == (expected(9), [])


@BOTH
def test_a_missing_part_of_a_split_bag_is_named_and_the_rest_is_read(tmp_path, storage) -> None:
    bag = make(tmp_path / 'drive', storage)
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(
        'relative_file_paths:\n', 'relative_file_paths:\n  - drive_9.mcap\n'))
    assert read(bag) == (
        expected(), ['drive_9.mcap is missing, though metadata.yaml names it'])
    file_of(bag).unlink()
    with pytest.raises(ConfigError, match=r'drive: drive_9.mcap is missing, .*: give a whole one'):
        Bag(bag)


@BOTH
def test_a_file_that_metadata_do_not_name_is_read_but_no_copy_of_one(tmp_path, storage) -> None:
    bag = make(tmp_path / 'drive', storage, compression=CompressionMode.FILE)
    packed = file_of(bag)
    unpacked = file_of(make(tmp_path / 'other', storage))
    shutil.copy(unpacked, bag / packed.stem)
    assert read(bag) == (expected(), [])
    packed.unlink()
    assert read(bag) == (expected(), [])
    (bag / packed.stem).rename(bag / f'renamed{unpacked.suffix}')
    assert read(bag) == (expected(), [])


@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
@pytest.mark.parametrize('form', [
    {}, {'indexed': False}, {'checksum': False}, {'padding': b'more'}, {'chunked': False},
    {'chunked': False, 'indexed': False}],
    ids=lambda form: ','.join(form) or 'usual')
def test_mcap_is_read_in_each_of_its_forms(tmp_path, compression, form) -> None:
    make_mcap(tmp_path / 'drive.mcap', 5, compression, **form)
    assert read(tmp_path / 'drive.mcap') == (
        [('/front/image_raw', 100 + i) for i in range(5)], [])


def chunks_of(mcap: bytes) -> list[tuple[int, int]]:
    """Return where each of its chunks begins and ends."""
    found, at = [], 8
    while at < len(mcap) - 8:
        opcode, length = struct.unpack_from('<BQ', mcap, at)
        at += 9 + length
        if opcode == 6:
            found.append((at - length, at))
    return found


@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
@pytest.mark.parametrize('indexed', [True, False])
def test_of_an_mcap_that_breaks_off_each_whole_chunk_is_read(
    tmp_path, compression, indexed
) -> None:
    path = tmp_path / 'drive.mcap'
    make_mcap(path, 6, compression, indexed=indexed)
    whole = path.read_bytes()
    for chunk, (_, end) in enumerate(chunks_of(whole)):
        path.write_bytes(whole[:end - 1000])
        found, [loss] = read(path)
        assert found == [('/front/image_raw', 100 + i) for i in range(2 * chunk)]
        assert re.fullmatch(r'drive.mcap breaks off at byte \d+ of \d+: what was recorded behind '
                            'that is lost', loss)
    path.write_bytes(whole[:-20])  # in what is found again in the chunks
    assert read(path) == ([('/front/image_raw', 100 + i) for i in range(6)], [])


@pytest.mark.parametrize('chunked', [True, False])
def test_an_mcap_without_an_end_that_is_whole_up_to_it_lacks_nothing(tmp_path, chunked) -> None:
    """As a recorder leaves it that was killed between two records."""
    path = tmp_path / 'drive.mcap'
    make_mcap(path, 4, indexed=False, chunked=chunked)
    whole = path.read_bytes()
    path.write_bytes(whole[:whole.rindex(b'\x0f\x04\0\0\0\0\0\0\0')])
    assert read(path) == ([('/front/image_raw', 100 + i) for i in range(4)], [])


@pytest.mark.parametrize(('compression', 'checksum'), [
    ('', True), ('zstd', False), ('lz4', False), ('', False)])
def test_a_damaged_chunk_of_an_mcap_costs_itself_only(tmp_path, compression, checksum) -> None:
    path = tmp_path / 'drive.mcap'
    make_mcap(path, 8, compression, checksum=checksum)
    data = bytearray(path.read_bytes())
    at = chunks_of(data)[1][0] + 40 + len(compression)  # where its records begin
    data[at:at + 2000] = bytes(2000)
    path.write_bytes(data)
    assert read(path) == (
        [('/front/image_raw', 100 + i) for i in range(8) if i not in (2, 3)],
        ['drive.mcap has 1 damaged chunks of 4: 2 messages are lost'])


def test_of_a_damaged_sqlite3_file_the_rest_is_read(tmp_path) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3, 60)
    file = file_of(bag)
    data = bytearray(file.read_bytes())
    data[len(data) // 2:len(data) // 2 + 20_000] = bytes(20_000)
    file.write_bytes(data)
    found, losses = read(bag)
    assert 100 < len(found) < 120
    assert [stamp for _, stamp in found] == sorted(stamp for _, stamp in found)
    assert found[-1] == ('/note', 159)
    for loss in losses:
        assert re.fullmatch(r'drive.db3 is damaged: its messages \d+ to \d+ are lost', loss)


def test_of_a_sqlite3_file_that_breaks_off_the_beginning_is_read(tmp_path) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3, 60)
    data = file_of(bag).read_bytes()
    file_of(bag).write_bytes(data[:len(data) // 2])
    found, [loss] = read(bag)
    assert found == expected(60)[:len(found)]
    assert 40 < len(found) < 80
    assert loss == f'drive.db3 is damaged: its messages {len(found) + 1} to the last are lost'


@BOTH
def test_a_packed_file_that_breaks_off_is_read_as_far_as_it_goes(tmp_path, storage) -> None:
    bag = make(tmp_path / 'drive', storage, 300, compression=CompressionMode.FILE)
    data = file_of(bag).read_bytes()
    file_of(bag).write_bytes(data[:2 * len(data) // 3])
    found, losses = read(bag)
    assert found == expected(300)[:len(found)]
    assert 100 < len(found) < 500
    assert losses
    assert all(loss.startswith(file_of(bag).name) for loss in losses)


@pytest.mark.parametrize('damage', [
    "DELETE FROM topics WHERE name = '/note'",
    'UPDATE messages SET topic_id = NULL WHERE topic_id = 2'], ids=['topic', 'message'])
def test_messages_of_no_topic_are_spoken_of(tmp_path, damage) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3)
    with sqlite3.connect(file_of(bag)) as database:
        sql = database.execute("SELECT sql FROM sqlite_master WHERE name = 'messages'").fetchone()
        database.execute('PRAGMA writable_schema=ON')
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'messages'",
                         (sql[0].replace('NOT NULL', ''),))
    with sqlite3.connect(file_of(bag)) as database:
        database.execute(damage)
    assert read(bag) == ([('/front/image_raw', 100 + i) for i in range(3)],
                         ['drive.db3 has 3 messages of topics whose names are lost'])


def test_messages_that_sqlite3_keeps_beside_its_file_are_spoken_of(tmp_path) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3)
    database = sqlite3.connect(file_of(bag))
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('INSERT INTO messages SELECT id + 100, topic_id, timestamp, data '
                     'FROM messages')
    database.commit()
    shutil.copytree(bag, tmp_path / 'killed')  # before closing, which would tidy up
    database.close()
    found, losses = read(tmp_path / 'killed')
    assert found == expected()
    assert losses == ['drive.db3 drive.db3-wal beside it holds messages that it lacks: open it '
                      'once with the sqlite3 command, which puts them right']
    assert read(bag)[0] == expected() * 2


def test_a_bag_of_ros_1_is_read_and_a_damaged_one_up_to_its_damage(tmp_path) -> None:
    path = tmp_path / 'drive.bag'
    make_ros1_bag(path, 300)
    assert read(path) == (expected(300), [])
    data = bytearray(path.read_bytes())
    data[len(data) // 2:len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)
    found, [loss] = read(path)
    assert found == expected(300)[:len(found)]
    assert 100 < len(found) < 500
    assert loss.startswith(f'drive.bag is damaged: {600 - len(found)} of its messages are lost')
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(ConfigError, match="'rosbag reindex' may find what is left of it"):
        Bag(path)


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('drive.mcap', b'', 'drive.mcap is empty'),
    ('drive.db3', b'', 'drive.db3 is empty'),
    ('drive.bag', b'', 'drive.bag is empty'),
    ('drive.mcap', b'rubbish', 'drive.mcap is neither MCAP, sqlite3 nor ROS 1, or its beginning'),
    ('drive.mcap', b'\x89MCAP0\r\n' + bytes(90), 'breaks off at byte 8 of 98'),
    ('drive.db3', b'SQLite format 3\0' + bytes(90), "'.recover' may find what is left of it"),
    ('drive.bag', b'#ROSBAG V2.0\n', "'rosbag reindex' may find what is left of it"),
    ('drive.db3.zstd', b'\x28\xb5\x2f\xfd', 'drive.db3.zstd is empty'),
])
def test_a_file_that_holds_nothing_is_one_line(tmp_path, name, content, words) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        found, losses = read(path)
    except ConfigError as error:
        assert words in str(error)
        assert '\n' not in str(error)
    else:
        assert not found
        assert words in losses[0]


def test_a_database_of_something_else_is_one_line(tmp_path) -> None:
    with sqlite3.connect(tmp_path / 'drive.db3') as database:
        database.execute('CREATE TABLE messages (id INTEGER)')
    with pytest.raises(ConfigError, match='holds no tables of topics and messages'):
        Bag(tmp_path / 'drive.db3')


def test_no_room_to_unpack_names_tmpdir(tmp_path, monkeypatch) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.MCAP, compression=CompressionMode.FILE)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('shutil.copyfileobj', full)
    with pytest.raises(ConfigError, match='No space left on device: make room there, or set '
                                          'TMPDIR'):
        Bag(bag)


def test_where_there_is_no_place_to_unpack_it_names_tmpdir(tmp_path, monkeypatch) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.MCAP, compression=CompressionMode.FILE)
    monkeypatch.setattr('tempfile.tempdir', None)
    monkeypatch.setattr('tempfile._candidate_tempdir_list', list)
    with pytest.raises(ConfigError, match=r'cannot be unpacked: No usable temporary directory '
                                          r'found in .*: make room there, or set TMPDIR'):
        Bag(bag)


@BOTH
def test_nothing_is_left_of_what_was_unpacked(tmp_path, storage, monkeypatch) -> None:
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    bag = make(tmp_path / 'drive', storage, compression=CompressionMode.FILE)
    assert read(bag) == (expected(), [])
    assert not list((tmp_path / 'tmp').iterdir())


@BOTH
def test_qos_and_definitions_are_those_of_the_recording(tmp_path, storage) -> None:
    with Bag(make(tmp_path / 'drive', storage)) as bag:
        [front, _] = bag.connections
        assert front.msgcount == 3
        assert front.ext.offered_qos_profiles == [QOS]
        assert front.digest == STORE.hash_rihs01(IMAGE)
        assert front.msgdef.data == STORE.generate_msgdef(IMAGE, ros_version=2)[0]
        assert Counter(c.topic for c, _, _ in bag.messages([front])) == {'/front/image_raw': 3}
        assert not list(bag.messages([]))


def test_qos_that_only_metadata_have_is_taken(tmp_path) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3)
    with sqlite3.connect(file_of(bag)) as database:
        database.execute("UPDATE topics SET offered_qos_profiles = ''")
    with Bag(bag) as found:
        assert [c.ext.offered_qos_profiles for c in found.connections] == [[QOS], [QOS]]


def test_bytes_that_are_no_message_are_told_from_one(tmp_path) -> None:
    with Bag(make(tmp_path / 'drive', StoragePlugin.MCAP)) as bag:
        [front, _] = bag.connections
        for data in (b'', b'\0\1\0\0', bytes(100), bytes(range(256))):
            with pytest.raises(BadMessage, match=f'is no {IMAGE}: '):
                bag.deserialize(front, data)


@pytest.mark.parametrize(('names', 'expected'), [
    (['drive_0.db3'], True), (['drive_0.db3', 'drive_1.db3'], True),
    (['drive_0.mcap', 'drive_0.db3-wal', 'notes.txt', '.hidden'], True),
    (['morning.mcap', 'evening.mcap'], False), (['drive_0.mcap', 'photo.jpg'], False),
    (['photo.jpg'], False), (['metadata.yaml', 'photo.jpg'], False), ([], False)])
def test_a_directory_without_metadata_is_a_bag_if_it_holds_one_and_nothing_else(
    tmp_path, names, expected
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b'')
    assert is_bag(tmp_path) is expected


def test_what_lies_beside_a_bag_is_no_part_of_it(tmp_path) -> None:
    bag = make(tmp_path / 'drive', StoragePlugin.SQLITE3)
    for name in ('photo.jpg', 'drive.db3-wal'):
        (bag / name).write_bytes(b'')
    assert [path.name for path in beside(bag)] == ['photo.jpg']


@BOTH
def test_an_empty_bag_has_no_messages(tmp_path, storage) -> None:
    with Writer(tmp_path / 'drive', version=9, storage_plugin=storage):
        pass
    assert read(tmp_path / 'drive') == ([], [])
