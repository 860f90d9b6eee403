# SPDX-License-Identifier: Apache-2.0
"""A node's process, as far as it can be seen from within one."""

from __future__ import annotations

import atexit
import gc
import os
import re
import signal
import threading
import weakref
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared import process as run


@pytest.fixture
def ros(graph) -> Iterator[None]:
    """Let rclpy be ready in this process."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.mark.usefixtures('ros')
def test_a_callback_that_fails_over_and_over_is_told_of_once_in_a_while(capfd) -> None:
    node, executor = Node('failing'), SingleThreadedExecutor()
    failed = []

    def fail() -> None:
        failed.append(1)
        raise ValueError('no room')

    node.create_timer(0.001, fail)
    executor.add_node(node)
    while len(failed) < 20:
        run._spin_once(executor, node, threading.Event())
    executor.shutdown()
    node.destroy_node()
    assert capfd.readouterr().err.count(
        '[failing]: a callback failed: ValueError: no room: going on') == 1


def test_a_signal_wakes_the_executor() -> None:
    """Python runs a signal's handler only once the main thread is back from waiting in C."""
    class Executor:
        def __init__(self) -> None:
            self.woken = threading.Event()

        def wake(self) -> None:
            self.woken.set()

    executor, handled = Executor(), threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: handled.set())
    try:
        with run._woken_by_signals(executor):
            os.kill(os.getpid(), signal.SIGTERM)
            assert executor.woken.wait(60.0)
            assert handled.wait(60.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.set_wakeup_fd(-1) == -1


def made(stop: threading.Event) -> run.Runnable:
    raise AssertionError('a node was made')


def test_help_says_how_a_node_is_given_its_parameters(capsys) -> None:
    assert run.run('ground', made, ['--help']) == 0
    assert capsys.readouterr().out.startswith('usage: ground_node --ros-args [-p NAME:=VALUE')


@pytest.mark.parametrize(('args', 'words'), [
    (['image:=/eye'], 'image:=/eye: is no argument of this node: .* --ros-args -r NAME:=VALUE'),
    (['--ros-args', '-r', 'a:=b', '--', 'rest'], 'rest: is no argument of this node: .* -p '),
    (['--checkpoint', 'mine'], '--checkpoint: is no argument of this node: '),
], ids=['as ROS 1 had it', 'behind --', 'option'])
def test_an_argument_that_ros_would_pass_over_is_refused(capsys, args, words) -> None:
    assert run.run('segment', made, args) == 1
    assert re.match(f'segment: {words}', capsys.readouterr().err)


def test_what_is_for_ros_is_left_to_it() -> None:
    assert not run.other_words(['--ros-args', '-p', 'x:=1', '--', '--ros-args', '--help'])


@pytest.fixture
def signals(monkeypatch) -> Iterator[None]:
    """Give this process its signal handlers back, and keep its malloc as it is."""
    monkeypatch.setattr(run, 'keep_freed_buffers', lambda: None)
    before = {number: signal.getsignal(number) for number in run.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Brief(Node):
    """Ends at once, or cannot be made; says in `gone` how it left the graph."""

    def __init__(self, gone: list[str], problem: str = '') -> None:
        super().__init__('brief')
        self.done, self.gone = Future(), gone
        self.create_timer(3600.0, self.start)  # which is to know the node that has it
        if problem:
            weakref.finalize(self, gone.append, 'half made')
            raise ConfigError(problem)

    def start(self) -> None:
        self.done.set_result(None)

    def stop(self) -> bool:
        return True

    def destroy_node(self) -> None:
        super().destroy_node()
        self.gone.append('destroyed')


@pytest.mark.usefixtures('graph', 'signals')
def test_a_node_that_has_stopped_leaves_python_no_garbage_to_look_for(monkeypatch) -> None:
    """It would walk through all of torch, longer than launch waits where the cores are busy."""
    at_exit = []
    monkeypatch.setattr(atexit, 'register', at_exit.append)
    assert run.run('brief', lambda stop: Brief([]), []) == 0
    assert at_exit == [gc.freeze]


@pytest.mark.parametrize(('problem', 'code', 'gone'), [
    ('', 0, 'destroyed'), ('the road is closed', 1, 'half made')], ids=['done', 'half made'])
@pytest.mark.usefixtures('graph', 'signals')
def test_a_node_leaves_the_graph_before_its_process_ends(monkeypatch, problem, code, gone) -> None:
    """Else the middleware's threads are at work while C++ takes down what they use."""
    monkeypatch.setattr(atexit, 'register', lambda _: None)
    found: list[str] = []
    gc.disable()  # it comes when it likes
    try:
        assert run.run('brief', lambda stop: Brief(found, problem), []) == code
        assert gone in found  # Kilted's shutdown destroys nodes too
    finally:
        gc.enable()
