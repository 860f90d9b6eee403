# SPDX-License-Identifier: Apache-2.0
"""A ROS graph for one test: real child processes, real DDS, waits with a deadline.

    talker = graph.start('lednet_ros.nodes.image_source_node', {'source': str(folder)})
    inbox = graph.subscribe('image', Image)
    first, second = inbox.wait(2)
    assert talker.stop(signal.SIGINT) == 0

Nothing here sleeps and hopes: each wait ends by an event or fails by saying what was seen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from warm_start import Forked, WarmStart

from lednet_ros.nodes.shared.ros_start import spin

WITHIN_S = 300.0  # tells what hangs from what is slow: a busy machine takes ten times as long
ASK_AGAIN_S = 20.0  # a service that has not answered

_warm_start = WarmStart()


class Process:
    """A child process; stdout and stderr are read together, line by line, as they come."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path,
        changed: threading.Condition, is_warm: bool = False,
    ) -> None:
        self.command = list(command)
        self.log = log  # holds `output`, and stays after the test
        self._changed = changed
        self._lines: list[str] = []
        here, there = os.pipe()
        self._popen: subprocess.Popen[bytes] | Forked
        if is_warm:
            self._popen = _warm_start.start(self.command[1:], environment, there)
        else:
            self._popen = subprocess.Popen(
                self.command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=there,
                stderr=there, start_new_session=True)  # a Ctrl-C meant for pytest is not its own
        os.close(there)
        self._reader = threading.Thread(target=self._read, args=(here,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """All it wrote until now."""
        with self._changed:
            return ''.join(self._lines)

    def wait(self, within_s: float = WITHIN_S) -> int:
        """Wait for its end; give its return code."""
        try:
            code = self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f'{self.describe()}\nstill runs after {within_s:g} s') from None
        self._reader.join(1.0)  # a grandchild may hold the pipe open for longer
        return code

    def stop(self, number: int = signal.SIGINT, within_s: float = WITHIN_S) -> int:
        """Send a signal and wait for the end; give the return code."""
        self.send(number)
        return self.wait(within_s)

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            self._popen.send_signal(number)

    def describe(self, lines: int = 15) -> str:
        """Its command, its state and the last it wrote, for a message."""
        code = self.returncode
        state = 'runs' if code is None else f'ended with {code}'
        tail = self.output.splitlines()[-lines:]
        return '\n  | '.join([f'{" ".join(self.command)} (pid {self.pid}) {state}:', *tail])

    def end(self) -> bool:
        """Make sure that it is gone; tell whether it went without being killed."""
        try:
            self.stop(signal.SIGINT, within_s=60.0)
            return True
        except AssertionError:
            self._popen.kill()
            self.wait()
            return False

    def _read(self, output: int) -> None:
        with open(output, errors='replace') as lines, self.log.open('w', encoding='utf-8') as log:
            for line in lines:
                log.write(line)
                log.flush()
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()


class Inbox:
    """What arrived on a topic since the subscription was made."""

    def __init__(self, graph: Graph, type_: type, topic: str, qos: QoSProfile | int) -> None:
        self._graph = graph
        self._messages: list[Any] = []
        self._subscription = graph.node.create_subscription(type_, topic, self._receive, qos)
        self.topic = self._subscription.topic_name

    @property
    def messages(self) -> list[Any]:
        """All messages until now, oldest first."""
        with self._graph.changed:
            return list(self._messages)

    def wait(self, count: int = 1, within_s: float = WITHIN_S) -> list[Any]:
        """Wait until `count` messages have come since the start; give all there are."""
        self._graph.wait_until(
            lambda: len(self._messages) >= count, within_s,
            lambda: (f'{len(self._messages)} of {count} messages came on {self.topic}, which has '
                     f'{self._graph.node.count_publishers(self.topic)} publishers'))
        return self.messages

    def wait_for(self, wanted: Callable[[Any], bool], within_s: float = WITHIN_S) -> Any:
        """Wait for a message that is `wanted`; give the first."""
        self._graph.wait_until(
            lambda: any(map(wanted, self._messages)), within_s,
            lambda: f'none of {len(self._messages)} messages on {self.topic} is the wanted one')
        return next(filter(wanted, self.messages))

    def close(self) -> None:
        """Listen no more."""
        self._graph.node.destroy_subscription(self._subscription)

    def _receive(self, message: Any) -> None:
        with self._graph.changed:
            self._messages.append(message)
            self._graph.changed.notify_all()


class Outlet:
    """A publisher that knows when it is heard."""

    def __init__(self, graph: Graph, type_: type, topic: str, qos: QoSProfile | int) -> None:
        self._graph = graph
        self._publisher = graph.node.create_publisher(type_, topic, qos)
        self.topic = self._publisher.topic_name

    def publish(self, message: Any) -> None:
        """Publish to whoever has matched."""
        self._publisher.publish(message)

    def wait_matched(self, subscribers: int = 1, within_s: float = WITHIN_S) -> None:
        """Wait until this end has matched. The other end may be some ms behind: see exchange."""
        self._graph.wait_until(
            lambda: self._publisher.get_subscription_count() >= subscribers, within_s,
            lambda: (f'{self._publisher.get_subscription_count()} of {subscribers} subscribers '
                     f'matched on {self.topic}'))

    def publish_when_matched(
        self, message: Any, subscribers: int = 1, within_s: float = WITHIN_S,
    ) -> None:
        """Publish once this end has matched: enough for a reliable subscriber."""
        self.wait_matched(subscribers, within_s)
        self.publish(message)


class Graph:
    """A node of the test's own, in its own context and thread, and the processes it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory  # of the logs
        self.processes: list[Process] = []
        self.changed = threading.Condition()  # a message came, or a line of output
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node('test', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        # Tests close inboxes while it waits.
        self._thread = threading.Thread(target=spin, args=(self._executor,), daemon=True)
        self._thread.start()

    def start(
        self,
        command: str | Sequence[str],
        parameters: Mapping[str, Any] | None = None,
        remaps: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a node: a module's name, or a command and its words. It may not be up yet.

        Parameters go by file, so that their types arrive as they are. `arguments` follow
        `--ros-args`; `environment` is added to the test's. Python is forked (warm_start.py) but
        where it is given an environment, for that may be read as libraries are loaded.
        """
        words = [sys.executable, '-m', command] if isinstance(command, str) else list(command)
        name = f'{len(self.processes)}_{(command if isinstance(command, str) else words[0])}'
        stem = self.directory / name.replace('/', '_')
        words.append('--ros-args')
        if parameters:
            file = stem.with_name(f'{stem.name}.yaml')
            file.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(parameters)}}))
            words += ['--params-file', str(file)]
        for here, there in (remaps or {}).items():
            words += ['-r', f'{here}:={there}']
        is_warm = words[0] == sys.executable and environment is None
        environment = {**os.environ, 'ROS_LOG_DIR': str(self.directory), **(environment or {})}
        process = Process([*words, *arguments], environment,
                          stem.with_name(f'{stem.name}.log'), self.changed, is_warm)
        self.processes.append(process)
        return process

    def subscribe(self, topic: str, type_: type, qos: QoSProfile | int = 100) -> Inbox:
        """Collect a topic's messages from now on (default: reliable)."""
        return Inbox(self, type_, topic, qos)

    def publisher(self, topic: str, type_: type, qos: QoSProfile | int = 10) -> Outlet:
        """Make a publisher (default: reliable)."""
        return Outlet(self, type_, topic, qos)

    def exchange(
        self, outlet: Outlet, message: Any, inbox: Inbox, within_s: float = WITHIN_S,
    ) -> Any:
        """Publish until an answer with the message's header comes; give the answer.

        The way to reach a best-effort subscriber for certain: one that has not matched yet at
        its own end loses what is sent, and only an answer shows that it has.
        """
        end_s = time.monotonic() + within_s
        outlet.wait_matched(within_s=within_s)

        def answered() -> bool:
            return any(answer.header == message.header for answer in inbox.messages)

        while not answered():
            left_s = end_s - time.monotonic()
            outlet.publish(message)
            try:
                self.wait_until(answered, min(1.0, left_s), (
                    lambda: f'no answer on {inbox.topic} to what went out on {outlet.topic}'))
            except AssertionError:
                if left_s <= 1.0 or not self._anyone_runs():
                    raise
        return next(a for a in inbox.messages if a.header == message.header)

    def call(
        self, type_: type, service: str, request: Any, within_s: float = WITHIN_S,
    ) -> Any:
        """Call a service that may be asked twice; give its response.

        Fast DDS loses a request, or waits 100 ms for the asker's end and loses the answer, where
        the two have not found each other yet.
        """
        client = self.node.create_client(type_, service)
        try:
            self.wait_until(client.service_is_ready, within_s, f'no service {service}')
            futures = [client.call_async(request)]
            end_s = time.monotonic() + within_s
            while not any(future.done() for future in futures):
                with suppress(AssertionError):
                    self.wait_until(lambda: any(f.done() for f in futures), ASK_AGAIN_S, '')
                    break
                assert time.monotonic() < end_s, '\n'.join([
                    f'service {service} did not answer, after {within_s:g} s',
                    *(p.describe() for p in self.processes)])
                futures.append(client.call_async(request))
            return next(future.result() for future in futures if future.done())
        finally:
            self.node.destroy_client(client)

    def change_state(self, node: str, transition: int) -> bool:
        """Ask a lifecycle node for a transition; give whether it succeeded.

        Asked again only where the node shows that the request was lost; where the answer was, the
        state tells.
        """
        from lifecycle_msgs.msg import State, Transition
        from lifecycle_msgs.srv import ChangeState, GetState
        goals = {Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
                 Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
                 Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
                 Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED}
        client = self.node.create_client(ChangeState, f'{node}/change_state')
        request = ChangeState.Request()
        request.transition.id = transition
        try:
            self.wait_until(client.service_is_ready, WITHIN_S, f'no service of {node}')
            end_s = time.monotonic() + WITHIN_S
            future = client.call_async(request)
            while True:
                with suppress(AssertionError):
                    self.wait_until(future.done, ASK_AGAIN_S, '')
                    return bool(future.result().success)
                state = self.call(GetState, f'{node}/get_state', GetState.Request()).current_state
                if state.id == goals.get(transition, State.PRIMARY_STATE_FINALIZED):
                    return True
                assert time.monotonic() < end_s, f'{node} did not answer; it is {state.label}'
                future = client.call_async(request)
        finally:
            self.node.destroy_client(client)

    def wait_for_output(
        self, process: Process, text: str, within_s: float = WITHIN_S,
    ) -> str:
        """Wait until a process has written `text`; give the line."""
        self.wait_until(lambda: text in process.output or process.returncode is not None,
                        within_s, f'no {text!r} was written')
        if text not in process.output:
            process.wait()  # until all it wrote is read
            assert text in process.output, process.describe()
        return next(line for line in process.output.splitlines() if text in line)

    def wait_until(
        self, condition: Callable[[], bool], within_s: float, seen: str | Callable[[], str],
    ) -> None:
        """Wait for a condition; fail with what was `seen` and the processes' last words."""
        end_s = time.monotonic() + within_s
        while True:
            with self.changed:
                if condition():
                    return
                left_s = end_s - time.monotonic()
                if left_s <= 0.0:
                    break
                self.changed.wait(min(left_s, 0.05))  # matching and the like notify nobody
        words = seen if isinstance(seen, str) else seen()
        raise AssertionError('\n'.join(
            [f'{words}, after {within_s:g} s', *(p.describe() for p in self.processes)]))

    def close(self) -> None:
        """End the processes, newest first, then the node; fail if one had to be killed."""
        killed = [process for process in reversed(self.processes) if not process.end()]
        self._context.try_shutdown()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        if killed:
            raise AssertionError('\n'.join(['had to be killed, 60 s after SIGINT:',
                                            *(process.describe() for process in killed)]))

    def _anyone_runs(self) -> bool:
        return any(process.returncode is None for process in self.processes)
