# SPDX-License-Identifier: Apache-2.0
"""A node as a process of its own: started, listened to, and ended whatever happens."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

STOP_WITHIN_S = 3.0  # after SIGINT; then SIGKILL

_COLOUR = re.compile(r'\x1b\[[0-9;]*m')
_LOG_LINE = re.compile(r'\[(ERROR|FATAL)\] \[[\d.]+\] \[[^\]]*\]: (.*)')


class ChildProcess:
    """`python -m MODULE` with parameters and remaps. Its lines are kept, and shown if asked."""

    def __init__(
        self, module: str, parameters: Mapping[str, bool | int | float | str], *,
        remaps: Mapping[str, str] | None = None, show_lines: bool = False,
    ) -> None:
        self.name = module.rsplit('.', 1)[-1]
        self._show_lines = show_lines
        self._lines: deque[str] = deque(maxlen=200)
        command = [sys.executable, '-u', '-m', module, '--ros-args']
        for name, value in parameters.items():
            # JSON is YAML, so a text stays a text: '0' as well as 'a: b'.
            command += ['-p', f'{name}:={json.dumps(value, ensure_ascii=False)}']
        for here, there in (remaps or {}).items():
            command += ['-r', f'{here}:={there}']
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding='utf-8', errors='replace')
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_error(self) -> str:
        """Return the last line it logged as an error; once it has ended, else its last of all."""
        has_ended = self.exit_code is not None
        if has_ended:
            self._reader.join(1.0)
        lines = [_COLOUR.sub('', line) for line in list(self._lines)]
        for line in reversed(lines):
            if match := _LOG_LINE.search(line):
                return match[2]
        return lines[-1] if lines and has_ended else ''

    def interrupt(self) -> None:
        """Ask it to end."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self, at_s: float) -> None:
        """Wait for its end until a moment of the monotonic clock, then end it by force."""
        try:
            self._process.wait(max(0.0, at_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._lines.append(line.strip())
                if self._show_lines:
                    print(f'{self.name}: {line.rstrip()}', file=sys.stderr, flush=True)


def stop_all(children: Iterable[ChildProcess]) -> None:
    """End them all, together within STOP_WITHIN_S."""
    children = list(children)
    for child in children:
        child.interrupt()
    at_s = time.monotonic() + STOP_WITHIN_S
    for child in children:
        child.kill(at_s)
