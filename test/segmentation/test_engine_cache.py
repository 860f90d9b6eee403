# SPDX-License-Identifier: Apache-2.0
"""The engine cache, with real files and real processes. The engines are words."""

import dataclasses
import logging
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.segmentation.backends.engine_cache import (
    EngineCache,
    EngineKey,
    default_directory,
    hash_of_sources,
)

KEY = EngineKey('onnx', 'a' * 64, 'b' * 64, 512, 1024, 'fp32', False, 'cpu',
                (('onnxruntime', '1'),))
OTHER = {
    'kind': 'tensorrt', 'weights_sha256': 'b' * 64, 'sources': 'c' * 64, 'height': 256,
    'width': 512, 'precision': 'fp16', 'confidence': True, 'device': 'Orin sm87',
    'versions': (('onnxruntime', '2'),), 'temperature': 1.5,
    'floors': (1.0, 2.0),
}


def build() -> bytes:
    return b'engine'


def refuse_to_build() -> bytes:
    raise AssertionError('built although it is in the cache')


def load(payload: bytes) -> str:
    return payload.decode()


def test_another_source_is_another_engine(tmp_path: Path, monkeypatch) -> None:
    """What decides about a compiled program is in its key: nobody has to raise a number."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'made_graph.py').write_text('x = 1')
    before = hash_of_sources('made_graph', 'lednet_ros.model.lednet')
    assert before == hash_of_sources('made_graph', 'lednet_ros.model.lednet')
    (tmp_path / 'made_graph.py').write_text('x = 2')
    assert before != hash_of_sources('made_graph', 'lednet_ros.model.lednet')


def test_an_engine_is_built_once_and_found_again(tmp_path: Path) -> None:
    first = EngineCache(tmp_path).fetch(KEY, build, load)
    second = EngineCache(tmp_path).fetch(KEY, refuse_to_build, load)
    assert (first.engine, first.hit) == ('engine', False)
    assert (second.engine, second.hit, second.build_s) == ('engine', True, 0.0)


def test_the_other_values_cover_every_field_of_the_key() -> None:
    assert set(OTHER) == {field.name for field in dataclasses.fields(EngineKey)}


@pytest.mark.parametrize('name', OTHER)
def test_another_value_of_any_part_of_the_key_is_a_miss(tmp_path: Path, name: str) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, build, load)
    other = dataclasses.replace(KEY, **{name: OTHER[name]})
    assert not cache.fetch(other, lambda: b'another', load).hit
    assert cache.fetch(KEY, refuse_to_build, load).engine == 'engine'


def test_a_file_name_says_what_it_is_for() -> None:
    assert KEY.file_name.startswith('onnx-512x1024-fp32-')


@pytest.mark.parametrize('damage', [
    lambda whole: b'', lambda whole: whole[:-1], lambda whole: whole[:40],
    lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), lambda whole: b'\xff' * len(whole),
], ids=['empty', 'cut', 'cut in the header', 'one bit', 'garbage'])
def test_a_damaged_file_is_set_aside_with_a_warning_and_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, build, load)
    path = tmp_path / KEY.file_name
    path.write_bytes(damage(path.read_bytes()))
    again = cache.fetch(KEY, build, load)
    assert (again.engine, again.hit) == ('engine', False)
    assert 'set aside' in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
    assert path.with_suffix('.bad').exists()
    assert cache.fetch(KEY, refuse_to_build, load).hit


def test_a_file_of_another_key_under_this_name_is_refused(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    other = dataclasses.replace(KEY, device='Orin sm87')
    cache.fetch(other, lambda: b'for Orin', load)
    (tmp_path / other.file_name).rename(tmp_path / KEY.file_name)
    assert cache.fetch(KEY, build, load).engine == 'engine'


def test_a_whole_file_that_does_not_load_is_set_aside_and_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, lambda: b'old', load)

    def picky(payload: bytes) -> str:
        if payload == b'old':
            raise RuntimeError('self-check: 12 % of pixels')
        return payload.decode()

    assert cache.fetch(KEY, build, picky).engine == 'engine'
    assert 'self-check: 12 %' in caplog.text


@pytest.mark.parametrize('error', [BackendUnavailable('out of GPU memory'), MemoryError()])
def test_trouble_of_the_machine_is_not_held_against_the_file(tmp_path: Path, error: Any) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, build, load)

    def fail(payload: bytes) -> str:
        raise error

    with pytest.raises(type(error)):
        cache.fetch(KEY, refuse_to_build, fail)
    assert cache.fetch(KEY, refuse_to_build, load).hit


def test_an_engine_that_does_not_load_when_fresh_is_an_error_and_leaves_no_file(
    tmp_path: Path
) -> None:
    def fail(payload: bytes) -> str:
        raise RuntimeError('no')

    with pytest.raises(RuntimeError):
        EngineCache(tmp_path).fetch(KEY, build, fail)
    assert EngineCache(tmp_path).entries() == []


def test_a_directory_that_cannot_be_made_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'file').write_text('not a directory')
    cache = EngineCache(tmp_path / 'file' / 'cache')
    assert cache.fetch(KEY, build, load).engine == 'engine'
    assert 'cannot be written to' in caplog.text
    assert cache.entries() == []
    assert cache.prune() == []


@contextmanager
def tiny_file_limit() -> Iterator[None]:
    """No file may grow over 1000 bytes, as on a full disk; pytest's own output may be a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    with tiny_file_limit():
        cached = cache.fetch(KEY, lambda: b'x' * 5000, load)
    assert cached.engine == 'x' * 5000
    assert 'cannot be written' in caplog.text
    assert cache.entries() == []
    assert not list(tmp_path.glob('*.partial'))


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    script = (
        'import os, sys, time\n'
        'from test_engine_cache import KEY, EngineCache, load\n'
        'def build():\n'
        '    print("built", flush=True)\n'
        '    time.sleep(1.0)\n'
        '    return b"engine"\n'
        'print(EngineCache(sys.argv[1]).fetch(KEY, build, load).engine)\n')
    env = {**os.environ, 'PYTHONPATH': os.path.dirname(__file__)}
    processes = [subprocess.Popen([sys.executable, '-c', script, str(tmp_path)], env=env,
                                  stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0].split() for process in processes]
    assert sum(words.count('built') for words in said) == 1
    assert all(words[-1] == 'engine' for words in said)


def test_a_builder_that_is_killed_does_not_lock_out_the_next(tmp_path: Path) -> None:
    script = (
        'import sys, time\n'
        'from test_engine_cache import KEY, EngineCache, load\n'
        'EngineCache(sys.argv[1]).fetch(KEY, lambda: print("go", flush=True) or time.sleep(99), '
        'load)\n')
    env = {**os.environ, 'PYTHONPATH': os.path.dirname(__file__)}
    with subprocess.Popen([sys.executable, '-c', script, str(tmp_path)], env=env,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'go\n'
        process.kill()
    assert EngineCache(tmp_path).fetch(KEY, build, load).engine == 'engine'


def test_entries_say_what_they_are(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, build, load)
    entry, = cache.entries()
    assert entry.path.name == KEY.file_name
    assert entry.key['height'] == 512
    assert not entry.is_bad


def test_pruning_goes_by_last_use_and_clears_what_is_left_over(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    unused = dataclasses.replace(KEY, height=256)
    for key in (KEY, unused):
        cache.fetch(key, build, load)
        long_ago_s = time.time() - 40 * 86400
        os.utime(tmp_path / key.file_name, (long_ago_s, long_ago_s))
    cache.fetch(KEY, refuse_to_build, load)  # used now
    (tmp_path / 'x.bad').write_bytes(b'')
    (tmp_path / 'x.engine.999999999.partial').write_bytes(b'')
    gone = cache.prune(unused_for_days=30)
    assert {entry.path.name for entry in gone} == {unused.file_name, 'x.bad'}
    assert [entry.path.name for entry in cache.entries()] == [KEY.file_name]
    assert not list(tmp_path.glob('*.partial'))
    assert len(cache.prune()) == 1


def test_the_default_directory_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_directory() == tmp_path / 'lednet_ros'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert EngineCache().directory == tmp_path / '.cache' / 'lednet_ros'


def test_a_directory_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    assert EngineCache('~/engines').directory == tmp_path / 'engines'


@pytest.mark.parametrize('directory', [None, '~/engines', '~nobody_of_that_name/engines'])
def test_without_a_home_directory_nothing_is_kept_and_nothing_called_tilde_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    directory: str | None,
) -> None:
    def nobody(_: int) -> None:
        raise KeyError('no such user')

    monkeypatch.delenv('HOME', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', '~/.cache')  # as of a file that no shell has read
    monkeypatch.setattr(pwd, 'getpwuid', nobody)
    monkeypatch.chdir(tmp_path)
    cache = EngineCache(directory)
    cached = cache.fetch(KEY, build, load)
    assert (cached.engine, cached.hit) == (load(build()), False)
    assert 'there is no home directory' in caplog.text
    assert 'the engine is built and not kept: give a writable engine_cache_dir' in caplog.text
    assert (cache.can_keep(), cache.holds(KEY), cache.entries(), cache.prune()) == (
        False, False, [], [])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_deleted_stays_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, build, load)
    (tmp_path / 'x.bad').mkdir()  # root may delete any file, but not so
    (tmp_path / 'y.engine.999999999.partial').mkdir()
    assert [entry.path.name for entry in cache.prune()] == [KEY.file_name]
    assert caplog.text.count('cannot be deleted (Is a directory)') == 2
