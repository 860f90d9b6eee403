# SPDX-License-Identifier: Apache-2.0
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from lednet_ros.common.atomic_file import require_place, whole_file, write_json
from lednet_ros.common.errors import ConfigError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_text('old')
    with suppress(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text('ha')
        1 / 0  # noqa: B018
    assert path.read_text() == 'old'
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ['a.json']


def test_a_name_may_be_as_long_as_file_systems_have_them(tmp_path: Path) -> None:
    for name in (f'{"n" * 250}.json', f'{"ü" * 120}.json'):
        with whole_file(tmp_path / name) as partial:
            assert partial.suffix == '.json'
            partial.write_text('new')
        assert (tmp_path / name).read_text() == 'new'
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize(('name', 'words'), [
    ('here', 'Is a directory'), ('absent/a.json', 'No such file or directory'),
    ('file/a.json', 'Not a directory')])
def test_a_file_that_cannot_be_written_is_named_before_the_work(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / 'here').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match=f'{name}: cannot be written: {words}: choose another'):
        require_place(None, tmp_path / name)
    require_place(tmp_path / 'new.json', tmp_path / 'file', Path('/dev/stdout'))


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / 'real.json').write_text('old')
    (tmp_path / 'link.json').symlink_to('real.json')
    write_json(tmp_path / 'link.json', [1])
    assert (tmp_path / 'link.json').is_symlink()
    assert json.loads((tmp_path / 'real.json').read_text()) == [1]


def test_what_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json(pipe, [1])
        assert json.loads(os.read(reading, 100)) == [1]
    finally:
        os.close(reading)
    assert pipe.is_fifo()


def test_a_pipe_without_a_name_is_written_to_too() -> None:
    """As /dev/stdout where it is piped, and a shell's >(command)."""
    reading, writing = os.pipe()
    path = Path(f'/dev/fd/{writing}')
    require_place(path)
    write_json(path, [1])
    assert json.loads(os.read(reading, 100)) == [1]
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize('path', ['', '.', '/'])
def test_a_directory_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match='cannot be written: Is a directory: choose another'):
        write_json(Path(path), [1])
