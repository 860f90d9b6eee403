# SPDX-License-Identifier: Apache-2.0
"""What every command shares: its errors in one line, its exit codes, and streams that may fail."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from lednet_ros.errors import STOPPED, LednetRosError, printable

NO_READER = 141  # the exit code where nobody reads stdout any more, as a shell says of SIGPIPE

Main = Callable[..., int]


class OutputLost(LednetRosError):
    """What was written to stdout cannot arrive."""

    has_no_reader = False  # as behind `| head`: no fault to speak of


def command(name: str) -> Callable[[Main], Main]:
    """Decorate a command's main: LednetRosError is one line on stderr and exit code 1.

    Ctrl-C is 130. A closed stdout or stderr is silence, a full stdout an error, and a full stderr
    nothing that could end the work.
    """
    def decorate(main: Main) -> Main:
        @wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            _prepare_streams()
            try:
                try:
                    code = main(argv)
                except SystemExit:  # argparse, after --help
                    sys.stdout.flush()
                    raise
                sys.stdout.flush()
                return code
            except KeyboardInterrupt:
                return STOPPED
            except OutputLost as lost:
                _forget_stdout()
                if lost.has_no_reader:
                    return NO_READER
                say(name, *lost.args)
                return 1
            except LednetRosError as error:
                if not error.is_said_elsewhere:
                    say(name, *error.args)
                return 1

        return run

    return decorate


def say(name: str, *lines: object) -> None:
    """Print to stderr; each line stays one, whatever characters it has."""
    text = '\n'.join(printable(str(line)) for line in lines)
    print(f'{name}: {text}', file=sys.stderr, flush=True)


class _Stdout(io.FileIO):
    """Says what it was that failed: an OSError of its own would pass for one of the work's."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            lost = OutputLost(f'standard output: cannot be written: {error.strerror}: make room, '
                              'or send it elsewhere')
            lost.has_no_reader = isinstance(error, BrokenPipeError)
            raise lost from error


class _Stderr(io.FileIO):
    """Loses what cannot be written: there is nobody to tell."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def _prepare_streams() -> None:
    """Let no stream be missing, no character fail, and a fault be told from the work's.

    A stream that is not the process's own, as in a test, is left alone.
    """
    # A file opened later must not get the number of a closed stream: C code writes there.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for stream, raw in (('stdout', _Stdout), ('stderr', _Stderr)):
        found = getattr(sys, stream)
        if found is None:
            setattr(sys, stream, open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115
        elif found is getattr(sys, f'__{stream}__'):
            found.flush()
            buffer: Any = raw(found.fileno(), 'w', closefd=False)
            if not found.write_through:
                buffer = io.BufferedWriter(buffer)
            setattr(sys, stream, io.TextIOWrapper(
                buffer, encoding=found.encoding, errors='backslashreplace',
                line_buffering=found.line_buffering, write_through=found.write_through))


def _forget_stdout() -> None:
    """Send what is left of it into nothing: Python flushes once more as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
