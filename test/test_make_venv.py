# SPDX-License-Identifier: Apache-2.0
"""Which venv a make target gets, and what is in it. None is made here."""

import fcntl
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def make_venv() -> Any:
    spec = importlib.util.spec_from_file_location('make_venv', ROOT / 'tools' / 'make_venv.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements(venv: Any) -> dict[str, str]:
    """What is asked for, by name."""
    text = ''.join((ROOT / 'requirements' / name).read_text() for name in venv.files)
    text = text.replace('torch-tensorrt', 'torch_tensorrt')
    return dict(re.findall(r'^([\w-]+)==([\w.]+)', text, re.M))


@pytest.mark.parametrize(('target', 'package'), [
    ('gpu', 'torch_tensorrt'), ('test', 'torch_tensorrt-rtx'), ('demo', None)])
def test_tensorrt_and_rtx_are_in_no_venv_together(
    make_venv: Any, target: str, package: str | None
) -> None:
    """They bring the same folder: the later one wins, whatever it is called."""
    there = requirements(make_venv.Venv(make_venv.PLACES[target], target, 'jazzy'))
    assert [name for name in there if name.startswith('torch_tensorrt')] == (
        [package] if package else [])
    if package:
        assert there[package].split('.')[:2] == there['torch'].split('.')[:2]


def test_the_venv_for_a_gpu_is_its_own_and_says_what_it_downloads(
    make_venv: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    monkeypatch.setattr(make_venv.Venv, 'is_made', lambda venv: False)
    monkeypatch.setattr(make_venv.Venv, 'make', lambda venv, python: made.append(venv.place))
    monkeypatch.setattr(make_venv.Venv, 'fill', lambda venv: None)
    make_venv.main(['gpu'])
    assert made == [str(ROOT / '.venv-gpu')]
    said = capsys.readouterr().out
    assert re.match(r'lednet_ros: making \.venv-gpu with Python 3\.1\d\. To download: ', said)
    assert "about 3 GB, torch's CUDA build, and some GB more of TensorRT's libraries" in said
    assert "NVIDIA's own package index" in said


def test_ctrl_c_says_in_a_line_that_it_goes_on(
    make_venv: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(venv: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(make_venv.Venv, 'is_ready', lambda venv: False)
    monkeypatch.setattr(make_venv.Venv, 'is_made', lambda venv: True)
    monkeypatch.setattr(make_venv.Venv, 'fill', interrupt)
    with pytest.raises(SystemExit) as end:
        make_venv.main(['demo'])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == (
        'lednet_ros: interrupted: run make again, it goes on where it stopped')


def test_two_at_once_wait_for_each_other(
    make_venv: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the second empties the venv that the first fills."""
    asked = []

    def flock(file: Any, how: int) -> None:
        asked.append(how)
        if how & fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, 'flock', flock)
    monkeypatch.setattr(make_venv.Venv, 'is_ready', lambda venv: asked[-1] == fcntl.LOCK_EX)
    make_venv.main(['demo'])
    assert 'waiting for another make' in capsys.readouterr().out


def test_make_test_gpu_runs_in_it() -> None:
    rule = (ROOT / 'Makefile').read_text().split('\ntest-gpu: ')[1].split('\n\n')[0]
    assert rule.startswith('venv-gpu\n')
    assert '.venv/' not in rule
