# SPDX-License-Identifier: Apache-2.0
"""No name is asked for, and no file written that docs/security.md does not list."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / 'training'))
from orchard import RECIPE, make_orchard

ISOLATED = ['unshare', '--net', '--mount', sys.executable,
            str(Path(__file__).with_name('isolated.py'))]
SECURITY = Path(__file__).parents[1] / 'docs' / 'security.md'


def isolated(place: Path, commands: list[list[str]]) -> list[dict[str, Any]]:
    """Run commands as isolated.py does; skip where that is not allowed."""
    place.mkdir()
    done = subprocess.run([*ISOLATED, str(place)], input=json.dumps(commands), text=True,
                          capture_output=True)
    if done.returncode and 'permi' in done.stderr:  # 'Operation not permitted' and the like
        pytest.skip('needs root, for a network namespace')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def listed() -> list[str]:
    """Return the patterns of docs/security.md's table of files, by home, temporary directory."""
    rows = re.findall(r'^\| `(~|\$TMPDIR)/([^`]*)` \|', SECURITY.read_text(encoding='utf-8'),
                      re.MULTILINE)
    return [f'{"home" if base == "~" else "tmp"}/{rest}' for base, rest in rows]


def test_whoever_asks_for_a_name_is_heard_and_whoever_writes_a_file_is_seen(tmp_path) -> None:
    code = ('import os, socket\n'
            'try: socket.getaddrinfo("mobile.example.org", 443)\n'
            'except OSError: pass\n'
            'open(os.path.expanduser("~/left"), "w")')
    [found] = isolated(tmp_path / 'place', [[sys.executable, '-c', code]])
    assert found['names'] == ['mobile.example.org']
    assert found['files'] == ['home/left']


def test_the_commands_and_the_nodes_ask_for_nothing_and_leave_what_is_listed(tmp_path) -> None:
    data = make_orchard(tmp_path / 'orchard', train=4, val=2)
    (tmp_path / 'recipe.yaml').write_text(RECIPE)
    (tmp_path / 'images').mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), np.full((48, 64, 3), 90 * i, np.uint8))
    run, out = [sys.executable, '-m'], str(tmp_path / 'out')
    small = ['--input-height', '48', '--input-width', '64']
    trained = str(tmp_path / 'run' / 'last.safetensors')
    commands = {
        'lednet_segment': [*run, 'lednet_ros.offline.command', str(tmp_path / 'images'),
                           '--output', out, '--overlay', *small],
        'lednet_train': [*run, 'lednet_ros.training.train_command', '--data', str(data),
                         '--recipe', str(tmp_path / 'recipe.yaml'), '--set', 'epochs=1',
                         '--output', str(tmp_path / 'run'), '--device', 'cpu'],
        'lednet_evaluate': [*run, 'lednet_ros.training.evaluate_command', '--data', str(data),
                            '--checkpoint', trained, '--output', str(tmp_path / 'scores')],
        'lednet_compile': [*run, 'lednet_ros.segmentation.compile', '--list'],
    }
    try:
        import rclpy  # noqa: F401
    except ImportError:
        pass
    else:  # the nodes, over DDS
        commands['lednet_demo'] = [
            *run, 'lednet_ros.node.demo', '--source', str(tmp_path / 'images'), '--frames', '2',
            '--checkpoint', trained, '--output', str(tmp_path / 'demo')]
    found = dict(zip(commands, isolated(tmp_path / 'place', list(commands.values())), strict=True))
    assert {name: one['said'] for name, one in found.items() if one['code']} == {}
    assert {name: one['names'] for name, one in found.items()} == {name: [] for name in commands}
    allowed = listed()
    assert allowed
    assert {(name, file) for name, one in found.items() for file in one['files']
            if not any(fnmatch(file, pattern) for pattern in allowed)} == set()


@pytest.mark.parametrize('choice', ['', '0'], ids=['unset', 'wanted'])
def test_onnxruntime_reports_to_nobody_unless_the_user_wants_it(tmp_path, choice) -> None:
    pytest.importorskip('onnxruntime')
    code = ('import os, time\n'
            f'os.environ.update({{"ORT_DISABLE_TELEMETRY": {choice!r}}} if {choice!r} else {{}})\n'
            'from lednet_ros.segmentation import Segmenter, SegmenterConfig\n'
            'Segmenter(config=SegmenterConfig(backend="onnxruntime", input_height=64,\n'
            '                                 input_width=96, engine_cache_dir="engines"))\n'
            f'time.sleep(3 * bool({choice!r}))')
    [found] = isolated(tmp_path / 'place', [[sys.executable, '-c', code]])
    assert found['code'] == 0, found['said']
    theirs = [name for name in found['names'] + found['files'] if 'icrosoft' in name]
    if choice and not theirs:
        pytest.skip('this onnxruntime has no telemetry')
    assert bool(theirs) == bool(choice)
