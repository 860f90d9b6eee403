# SPDX-License-Identifier: Apache-2.0
"""The package as a robot's workspace builds it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('colcon_core') is None, reason='needs colcon')

ROOT = Path(__file__).parents[1]
MADE = ('build', 'install', 'log', 'demo_output')  # not part of a clone


def run(*command: str, cwd: Path) -> str:
    # Empty, the variable would make ament's packages unfindable; here they are in the venv.
    environment = {**os.environ,
                   'AMENT_PREFIX_PATH': os.environ.get('AMENT_PREFIX_PATH') or sys.prefix}
    done = subprocess.run(command, cwd=cwd, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def workspace(tmp_path) -> Path:
    source = tmp_path / 'src' / 'lednet_ros'
    source.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in MADE and not path.name.startswith('.'):
            (source / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize('arguments', [[], ['--symlink-install']], ids=['plain', 'symlink'])
def test_colcon_builds_what_ros2_run_and_launch_look_for(workspace, arguments) -> None:
    run(sys.executable, '-m', 'colcon', 'build', *arguments, cwd=workspace)
    prefix = workspace / 'install' / 'lednet_ros'
    share = prefix / 'share' / 'lednet_ros'
    assert (prefix / 'share/ament_index/resource_index/packages/lednet_ros').is_file()
    assert (share / 'package.xml').is_file()
    for folder in ('launch', 'config'):
        assert {f.name for f in (share / folder).iterdir()} == {
            f.name for f in (ROOT / folder).iterdir() if f.is_file()}
    for name in ('segment_node', 'image_source_node', 'lednet_demo'):
        script = prefix / 'lib' / 'lednet_ros' / name
        assert os.access(script, os.X_OK)
        if not arguments:  # colcon's develop step writes the Python it runs with
            assert script.read_text().startswith('#!/usr/bin/env python3\n')


@pytest.mark.full
def test_colcon_test_runs_the_tests_and_colcon_test_result_counts_them(workspace) -> None:
    run(sys.executable, '-m', 'colcon', 'build', cwd=workspace)
    run(sys.executable, '-m', 'colcon', 'test', '--pytest-args', '-k', 'test_labels',
        cwd=workspace)
    result = run(sys.executable, '-m', 'colcon', 'test-result', '--all', cwd=workspace)
    assert '0 errors, 0 failures' in result
    assert 'Summary: 0 tests' not in result
