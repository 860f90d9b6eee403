# SPDX-License-Identifier: Apache-2.0
"""The lednet_compile command; its --dry-run is in test_tensorrt.py."""

import logging
import os
import time
from pathlib import Path

import pytest

from lednet_ros.cli import compile
from lednet_ros.cli.compile import main
from lednet_ros.segmentation.backends.engine_cache import EngineCache, EngineKey

KEY = EngineKey('tensorrt', 'abc', 'def', 512, 1024, 'fp16', False, 'Orin sm87 cuda:0', ())


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path)
    cache.fetch(KEY, lambda: b'x' * 2_000_000, bytes)
    return cache


def test_list_names_each_engine_its_size_and_its_gpu(
    cache: EngineCache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['--list', f'--engine-cache-dir={cache.directory}']) == 0
    printed = capsys.readouterr()
    assert KEY.file_name in printed.out
    assert '2.0 MB' in printed.out
    assert 'Orin sm87 cuda:0' in printed.out
    assert '1 files' in printed.err


def test_prune_takes_days(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [f'--engine-cache-dir={cache.directory}', '--prune', '30']
    assert main(argv) == 0
    assert '0 files' in capsys.readouterr().err
    before_s = time.time() - 31 * 86400
    os.utime(cache.directory / KEY.file_name, (before_s, before_s))
    assert main(argv) == 0
    assert KEY.file_name in capsys.readouterr().out
    assert cache.entries() == []


@pytest.mark.parametrize('days', ['-1', 'nan'])
def test_prune_takes_no_days_that_are_none(tmp_path, capsys, days) -> None:
    assert main(['--prune', days, '--engine-cache-dir', str(tmp_path)]) == 1
    assert f'--prune is {float(days)}: give a number of days' in capsys.readouterr().err


def test_prune_without_days_takes_all(cache: EngineCache) -> None:
    assert main([f'--engine-cache-dir={cache.directory}', '--prune']) == 0
    assert cache.entries() == []


def test_building_shows_progress_and_what_is_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(['--backend=torch', '--device=cpu', '--input-height=32', '--input-width=48',
                 f'--engine-cache-dir={tmp_path}'])
    printed = capsys.readouterr()
    assert code == 0
    assert 'torch cpu fp32 (asked for)' in printed.out
    assert 'ready' in printed.err


def test_what_happens_meanwhile_is_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> str:
        logging.getLogger('lednet_ros.segmentation').info('/data/[red]x[/y]: is full')
        return 'done'

    monkeypatch.setattr(compile, '_build', build)
    assert main([]) == 0
    assert '/data/[red]x[/y]: is full' in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(compile, '_build', build)
    assert main([]) == 130
    assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('argv', 'says'),
    [(['--checkpoint=/nowhere/net.safetensors'], '/nowhere/net.safetensors: cannot be read'),
     (['--input-height=5'], 'input_height is 5'),
     (['--device=gpu'], "device is 'gpu'")], ids=str)
def test_errors_are_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 1
    printed = capsys.readouterr().err
    assert printed.startswith('lednet_compile: ')
    assert says in printed
    assert printed.count('\n') == 1
