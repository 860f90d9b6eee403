# SPDX-License-Identifier: Apache-2.0
"""~ is the home directory or an error, and never the name of a new directory."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded, given


def nobody(*_: Any) -> Any:
    raise KeyError('no such user')


@pytest.fixture
def homeless(monkeypatch, tmp_path) -> Path:
    """No HOME, and a user whom the system has no name for, as in a container; in tmp_path."""
    monkeypatch.delenv('HOME', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', nobody)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_home_directory_takes_the_place_of_the_tilde(monkeypatch) -> None:
    monkeypatch.setenv('HOME', '/home/robot')
    assert expanded('~/drive.png') == Path('/home/robot/drive.png')
    assert expanded(Path('~')) == Path('/home/robot')
    assert expanded('a/~/b') == Path('a/~/b')
    assert expanded('/data/x') == Path('/data/x')


@pytest.mark.parametrize('path', ['~', '~/cache', '~nobody_of_that_name/cache', '~x.png'])
def test_where_there_is_no_home_directory_it_is_said(homeless, path) -> None:
    with pytest.raises(ConfigError) as caught:
        expanded(path)
    why = ', as HOME is not set' if path in ('~', '~/cache') else ' of a user of that name'
    assert str(caught.value) == f'{path}: there is no home directory{why}: give the whole path'


@pytest.mark.parametrize('read', [given, expanded])
def test_nothing_is_no_path(read) -> None:
    """As of a variable that is not set: the working directory is not meant."""
    with pytest.raises(ConfigError, match="'': an argument is empty: give a path, or set"):
        read('')
    assert str(read('a')) == 'a'


def test_a_home_that_is_no_whole_path_is_none(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', 'home')
    with pytest.raises(ConfigError, match='no home directory'):
        expanded('~/x')


def test_what_is_called_so_is_found(homeless) -> None:
    (homeless / '~x.png').touch()
    assert expanded('~x.png') == Path('~x.png')
