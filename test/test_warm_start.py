# SPDX-License-Identifier: Apache-2.0
"""A program that is forked is as one that is executed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from warm_start import Forked, WarmStart

PROGRAM = """
import atexit, os, sys, time
print(sys.argv[1:], os.environ.get('ONLY'), os.environ.get('HOME'), __name__, flush=True)
atexit.register(print, 'at exit')
sys.stderr.write(f'{os.getsid(0) == os.getpid()}\\n')
while sys.argv[1] == 'wait':
    time.sleep(0.1)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope='module')
def warm_start() -> WarmStart:
    return WarmStart()


def start(warm_start: WarmStart, program: Path, *words: str) -> tuple[Forked, int]:
    """Return the program, and the descriptor to read what it writes from."""
    here, there = os.pipe()
    found = warm_start.start([str(program), *words], {'ONLY': 'this'}, there)
    os.close(there)
    return found, here


def test_it_has_words_environment_session_output_and_end_of_its_own(warm_start, tmp_path) -> None:
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    waiting, waiting_output = start(warm_start, program, 'wait')
    found, output = start(warm_start, program, '3', '--x')
    with open(output) as lines:
        assert lines.read().splitlines() == [
            "['3', '--x'] this None __main__", 'True', 'at exit']
    assert found.wait(60.0) == 3
    assert waiting.poll() is None
    assert found.pid != waiting.pid != os.getpid()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(60.0) == -signal.SIGTERM
    waiting.kill()  # harmless
    os.close(waiting_output)


def test_a_module_is_main(warm_start) -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    here, there = os.pipe()
    found = warm_start.start(
        ['-m', 'lednet_ros.nodes.image_source_node', '--help'], {**os.environ}, there)
    os.close(there)
    with open(here) as lines:
        assert lines.read().startswith('usage: image_source_node --ros-args')
    assert found.wait(60.0) == 0
