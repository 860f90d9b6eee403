# SPDX-License-Identifier: Apache-2.0
"""No name is asked for, and no file written that docs/security.md does not list."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from orchard import RECIPE, make_orchard

UNSHARE = ['unshare', '--net', '--mount', *(['--map-root-user'] if os.geteuid() else [])]
SECURITY = Path(__file__).parents[1] / 'docs' / 'security.md'
DIRECTORIES = {'~': 'home', '$TMPDIR': 'tmp', '/dev/shm': 'shm'}

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope='module')
def may_isolate() -> None:
    try:
        tried = subprocess.run([*UNSHARE, 'mount', '--bind', '/dev/null', '/etc/resolv.conf'],
                               text=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip('needs unshare of util-linux')
    if tried.returncode:
        pytest.skip(f'a network of its own is not allowed here: {tried.stderr.strip()}')


def isolated(place: Path, commands: dict[str, list[str]]) -> Found:
    """Run commands as isolated.py does."""
    place.mkdir()
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(Path(__file__).with_name('isolated.py')), str(place)],
        input=json.dumps(list(commands.values())), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope='module')
def found(may_isolate, tmp_path_factory) -> Found:
    """What each command did; in 'sealed' with a home that is read-only."""
    place = tmp_path_factory.mktemp('traffic')
    data = make_orchard(place / 'orchard', train=4, val=2)
    (place / 'recipe.yaml').write_text(RECIPE)
    (place / 'images').mkdir()
    for i in range(2):
        cv2.imwrite(str(place / 'images' / f'{i}.png'), np.full((48, 64, 3), 90 * i, np.uint8))
    run = [sys.executable, '-m']
    segment = [*run, 'lednet_ros.cli.segment', str(place / 'images'), '--overlay',
               '--input-height=48', '--input-width=64', '--output']
    trained = str(place / 'run' / 'last.safetensors')
    evaluate = [*run, 'lednet_ros.cli.evaluate', '--data', str(data),
                '--checkpoint', trained, '--output']
    commands = {
        'lednet_segment': ['home', *segment, str(place / 'out')],
        'lednet_train': [
            'home', *run, 'lednet_ros.cli.train', '--data', str(data), '--recipe',
            str(place / 'recipe.yaml'), '--set', 'epochs=1', '--output', str(place / 'run'),
            '--device', 'cpu'],
        'lednet_evaluate': ['home', *evaluate, str(place / 'scores')],
        'lednet_select': [
            'home', *run, 'lednet_ros.cli.select', str(place / 'images'), '--count', '1',
            '--input-height=48', '--input-width=64', '--output', str(place / 'chosen')],
        'lednet_export': ['home', *run, 'lednet_ros.cli.export', '--checkpoint', trained,
                          '--output', str(place / 'network.onnx')],
        'sealed lednet_segment': ['sealed', *segment, str(place / 'sealed_out')],
        'sealed lednet_evaluate': ['sealed', *evaluate, str(place / 'sealed_scores')],
    }
    if find_spec('ray'):
        commands |= {f'{home}lednet_segment --cluster': [
            home.strip() or 'home', *segment, str(place / f'{home.strip()}cluster_out'),
            '--cluster', '--workers', '1'] for home in ('', 'sealed ')}
    try:
        import rclpy  # noqa: F401
    except ImportError:
        pass
    else:  # the nodes, over DDS
        demo = [*run, 'lednet_ros.demo.demo', '--source', str(place / 'images'), '--frames', '2',
                '--checkpoint', trained, '--output']
        commands |= {
            'lednet_demo': ['home', *demo, str(place / 'demo')],
            'sealed lednet_demo': ['sealed', 'env', f'ROS_LOG_DIR={place / "log"}', *demo,
                                   str(place / 'sealed_demo')]}
    found = isolated(place / 'place', commands)
    assert {name: one['said'] for name, one in found.items() if one['code']} == {}
    return found


def listed() -> list[str]:
    """Return the patterns of docs/security.md's table of files, by isolated.py's directories."""
    rows = re.findall(r'^\| `(~|\$TMPDIR|/dev/shm)/([^`]*)` \|',
                      SECURITY.read_text(encoding='utf-8'), re.MULTILINE)
    assert rows
    return [f'{DIRECTORIES[base]}/{rest}' for base, rest in rows]


def test_whoever_asks_for_something_is_heard_and_whoever_leaves_a_file_is_seen(
    may_isolate, tmp_path
) -> None:
    code = ('import os, socket\n'
            'try: socket.getaddrinfo("mobile.example.org", 443)\n'
            'except OSError: pass\n'
            'try: socket.create_connection(("192.0.2.1", 443))\n'
            'except OSError: pass\n'
            'try: open(os.path.expanduser("~/left"), "w")\n'
            'except OSError as error: print(error.strerror)')
    found = isolated(tmp_path / 'place', {
        home: [home, sys.executable, '-c', code] for home in ('home', 'sealed')})
    for one in found.values():
        assert one['names'] == ['mobile.example.org']
        assert one['addresses'] == 1
    assert found['home']['files'] == ['home/left']
    assert found['sealed']['files'] == []
    assert found['sealed']['said'] == 'Read-only file system\n'


def test_the_commands_and_the_nodes_ask_nobody_for_anything(found) -> None:
    assert {name: (one['names'], one['addresses']) for name, one in found.items()
            if one['names'] or one['addresses']} == {}


def test_the_commands_and_the_nodes_leave_the_files_that_are_listed(found) -> None:
    assert {(name, file) for name, one in found.items() for file in one['files']
            if not any(fnmatch(file, pattern) for pattern in listed())} == set()


def test_a_home_that_is_read_only_costs_one_line(found) -> None:
    for name, one in found.items():
        if name.startswith('sealed'):
            noise = [line for line in one['said'].splitlines() if re.search(
                r'sealed/|matplotlib|onnxruntime:|Read-only|\x1b|[Ww]arning', line)]
            assert len(noise) <= 1, one['said']
            assert all('/.cache/lednet_ros: cannot be written to' in line for line in noise)


@pytest.mark.parametrize('choice', ['', '0'], ids=['unset', 'wanted'])
def test_onnxruntime_reports_to_nobody_unless_the_user_wants_it(
    may_isolate, tmp_path, choice
) -> None:
    pytest.importorskip('onnxruntime')
    code = ('import os, time\n'
            f'os.environ.update({{"ORT_DISABLE_TELEMETRY": {choice!r}}} if {choice!r} else {{}})\n'
            'from lednet_ros.segmentation import Segmenter, SegmenterConfig\n'
            'Segmenter(config=SegmenterConfig(backend="onnxruntime", input_height=64,\n'
            '                                 input_width=96, engine_cache_dir="engines"))\n'
            f'time.sleep(3 * bool({choice!r}))')
    one = isolated(tmp_path / 'place', {'it': ['home', sys.executable, '-c', code]})['it']
    assert one['code'] == 0, one['said']
    theirs = [name for name in one['names'] + one['files'] if 'icrosoft' in name]
    if choice and not theirs:
        pytest.skip('this onnxruntime has no telemetry')
    assert bool(theirs) == bool(choice)
