# SPDX-License-Identifier: Apache-2.0
"""Engines are built in a child process that can be watched and ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.segmentation import SegmenterConfig, devices
from lednet_ros.segmentation import engine_build as child_build
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.engine_build import ChildBuild

TORCH = SegmenterConfig(backend='torch', device='cpu', input_height=32, input_width=48)

# In place of lednet_compile: says where it is, then is busy for longer than any test waits.
BUSY = """
import json, sys, threading, time
from lednet_ros.cli.compile import _end_with_parent
threading.Thread(target=_end_with_parent, daemon=True).start()
print(json.dumps({'stage': 'building the engine'}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_build, '_command', lambda *_: [sys.executable, '-c', BUSY])


def wait_for_stage(build: ChildBuild, stage: str, within_s: float = 300.0) -> None:
    until_s = time.monotonic() + within_s
    while build.state.stage != stage:
        assert time.monotonic() < until_s, build.state
        assert not build.state.is_done, build.state
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_build_ends_with_what_is_ready(tmp_path: Path) -> None:
    state = ChildBuild(None, TORCH).wait(timeout_s=300)
    assert state.is_done
    assert state.error is None
    assert state.result == 'torch cpu fp32 (asked for)'
    assert state.elapsed_s > 0


def test_an_error_of_the_child_is_its_one_line() -> None:
    state = ChildBuild('/nowhere/net.safetensors', TORCH).wait(timeout_s=300)
    assert state.is_done
    assert state.result is None
    assert state.error is not None
    assert state.error.startswith('/nowhere/net.safetensors: cannot be read')


def test_the_child_of_an_auto_that_needs_an_engine_builds_just_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else it would do with torch where TensorRT fails, and the node try again by itself."""
    monkeypatch.setattr(tensorrt, 'is_built', lambda *_: False)
    monkeypatch.setattr(devices, 'choose_device', lambda _: SimpleNamespace(type='cuda'))
    build = child_build.needed_build(
        load_checkpoint(default_checkpoint()), SegmenterConfig(engine_cache_dir=str(tmp_path)))
    assert build is not None
    state = build.wait(timeout_s=300)
    assert state.result is None
    assert (state.error or '').startswith('tensorrt: ')


def test_no_child_builds_what_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt, 'is_built', lambda *_: False)
    monkeypatch.setattr(devices, 'choose_device', lambda _: SimpleNamespace(type='cuda'))
    (tmp_path / 'file').touch()  # root may write anywhere else
    assert child_build.needed_build(
        load_checkpoint(default_checkpoint()),
        SegmenterConfig(engine_cache_dir=str(tmp_path / 'file' / 'engines'))) is None


@pytest.mark.usefixtures('busy')
def test_a_build_is_watched_without_waiting_and_cancelled_within_two_seconds(within) -> None:
    build = ChildBuild(None, TORCH)
    wait_for_stage(build, 'building the engine')
    first = build.state.elapsed_s
    assert build.wait(timeout_s=0.05).elapsed_s > first
    with within(2.0):
        build.cancel()
    assert build.state.is_done
    assert build.state.error is not None
    assert not is_running(build._process.pid)
    build.cancel()  # harmless


@pytest.mark.usefixtures('busy')
def test_a_child_that_dies_is_an_error_naming_the_signal() -> None:
    build = ChildBuild(None, TORCH)
    wait_for_stage(build, 'building the engine')
    os.kill(build._process.pid, signal.SIGKILL)
    state = build.wait(timeout_s=300)
    assert state.error is not None
    assert 'signal 9' in state.error


def test_the_child_ends_when_its_parent_is_killed(within) -> None:
    """SIGKILL leaves the parent no time to cancel anything."""
    parent = subprocess.Popen(
        [sys.executable, '-c', f"""
import time
from lednet_ros.segmentation import SegmenterConfig
from lednet_ros.segmentation import engine_build as child_build
import sys
child_build._command = lambda *_: [sys.executable, '-c', {BUSY!r}]
build = child_build.ChildBuild(None, SegmenterConfig())
while build.state.stage != 'building the engine': time.sleep(0.02)
print(build._process.pid, flush=True)
time.sleep(600)
"""], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until_s = time.monotonic() + 300
    with within(2.0):
        while is_running(child):
            assert time.monotonic() < until_s, 'the child outlives its parent'
            time.sleep(0.02)


@pytest.mark.parametrize('line', [
    b'import error when ...', b'3', b'null', b'["stage"]', b'{"percent": 3}', b'[' * 100_000,
    b'\xff\xfe'], ids=['words', 'number', 'null', 'list', 'unknown key', 'deep', 'no text'])
def test_lines_of_libraries_do_not_disturb(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: bytes
) -> None:
    said = json.dumps({'result': 'ready'}).encode()
    (tmp_path / 'lines').write_bytes(line + b'\n' + said + b'\n')
    monkeypatch.setattr(child_build, '_command', lambda *_: ['cat', str(tmp_path / 'lines')])
    state = ChildBuild(None, TORCH).wait(timeout_s=300)
    assert state.is_done
    assert state.result == 'ready'
    assert state.error is None


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_build_ends_whatever_becomes_of_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr(child_build, '_command', lambda *_: ['yes', 'a line'])  # for ever
    monkeypatch.setattr(child_build, 'json', SimpleNamespace(loads=fail))
    state = ChildBuild(None, TORCH).wait(timeout_s=300)
    assert state.is_done
    assert state.error is not None


def test_every_setting_that_an_engine_depends_on_reaches_the_child() -> None:
    from lednet_ros.cli.compile import _parse
    config = SegmenterConfig(
        backend='tensorrt', device='cuda:1', precision='fp32', input_height=64, input_width=96,
        engine_cache_dir='/some/where')
    args = vars(_parse(child_build._command('net.safetensors', config)[3:]))
    for name in ('backend', 'device', 'precision', 'input_height', 'input_width',
                 'engine_cache_dir'):
        assert args[name] == getattr(config, name), name
    assert args['checkpoint'] == 'net.safetensors'
