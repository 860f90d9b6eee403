# SPDX-License-Identifier: Apache-2.0
"""Python programs that start in a moment: forked from a process that has imported what they need.

To import torch, ONNX Runtime and rclpy takes a node longer than all else at its start. What is
forked is a process as any other, with an environment, arguments, output and end of its own; only
what reads the environment as it is loaded (as OpenMP does) has read the first process's.

    python -u warm_start.py SOCKET    is that process; it ends when the other end is closed.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module

# Nothing of ROS: its middleware begins threads as it is loaded, and waits for them at the end.
IMPORTED = ('lednet_ros.segmentation.loader', 'lednet_ros.segmentation.backends.onnxruntime',
            'lednet_ros.projection.birds_eye', 'onnxruntime')
LARGEST = 1 << 17  # bytes of a request: an environment


class Forked:
    """A program that was started; what subprocess.Popen is to one that was executed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.pid = int(end.recv(64))
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its code, minus the signal's number if one ended it; None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the same once it has ended; raise TimeoutExpired where it does not in time."""
        if self._code is None:
            self._end.settimeout(timeout_s)
            try:
                self._code = int(self._end.recv(64) or -signal.SIGKILL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout_s or 0.0) from None
            self._end.close()
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class WarmStart:
    """The first process, seen from the tests: made at the first start, ended with them."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], output: int,
    ) -> Forked:
        """Start `-m MODULE ...` or `FILE ...` in a session of its own.

        `output` is the descriptor to write to.
        """
        if self._requests is None:
            self._requests = self._begin()
        here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with there:
            socket.send_fds(self._requests, [json.dumps([*words, dict(environment)]).encode()],
                            [output, there.fileno()])
        return Forked(here)

    def _begin(self) -> socket.socket:
        here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with there:
            process = subprocess.Popen(
                [sys.executable, '-u', __file__, str(there.fileno())], stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()], start_new_session=True)

        def end() -> None:
            here.close()
            process.wait()

        atexit.register(end)
        return here


def take(request: bytes, output: int) -> list[str]:
    """In the new process: take on what was asked for; return the program's words."""
    *words, environment = json.loads(request)
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    return words


def serve(requests: socket.socket) -> list[str]:
    """Fork for each request; return in the new process alone, with its words, or at the end."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: the pid, whom to tell its code
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in running:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid, end = running.pop(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    end.send(str(code).encode())
                    end.close()
                    continue
                request, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 2)
                if not request:
                    return []
                output, end_ = descriptors
                end = socket.socket(fileno=end_)
                with warnings.catch_warnings():  # Python's: NumPy's threads are there, and idle
                    warnings.simplefilter('ignore', DeprecationWarning)
                    pid = os.fork()
                if not pid:
                    for pidfd, (_, other) in running.items():
                        os.close(pidfd)
                        other.close()
                    end.close()
                    requests.close()
                    return take(request, output)
                os.close(output)
                end.send(str(pid).encode())
                pidfd = os.pidfd_open(pid)
                running[pidfd] = pid, end
                selector.register(pidfd, selectors.EVENT_READ)


def main() -> None:
    for name in IMPORTED:
        import_module(name)
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    if words[:1] == ['-m']:
        sys.path[0], sys.argv = os.getcwd(), words[1:]
        sys.modules.pop(words[1], None)  # which is to be __main__ now
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    elif words:
        sys.path[0], sys.argv = os.path.dirname(words[0]), words
        runpy.run_path(words[0], run_name='__main__')


if __name__ == '__main__':
    main()
