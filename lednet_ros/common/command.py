# SPDX-License-Identifier: Apache-2.0
"""What every command shares: its errors in one line, its exit codes, and streams that may fail."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from lednet_ros.common.errors import STOPPED, LednetRosError, first_line, printable

NO_READER = 141  # the exit code where nobody reads stdout any more, as a shell says of SIGPIPE

Main = Callable[..., int]

ROS = ('rclpy', 'rpyutils', 'ament_index_python', 'builtin_interfaces', 'rcl_interfaces',
       'tf2_ros')
REMEDIES = {  # of libraries whose name for pip is another, or that pip should not choose alone
    'torch': "install PyTorch's build for this machine, as by pip install torch "
             "(docs/install.md)",
    'cv2': 'pip install opencv-python-headless, or beside ROS 2 sudo apt install python3-opencv',
    'yaml': 'pip install PyYAML',
    'PIL': 'pip install pillow',
}


class OutputLost(LednetRosError):
    """What was written to stdout cannot arrive."""

    has_no_reader = False  # as behind `| head`: no fault to speak of


def command(name: str) -> Callable[[Main], Main]:
    """
    Decorate a command's main: LednetRosError is one line on stderr and exit code 1.

    So is a library that is not installed. Ctrl-C is 130. A closed stdout or stderr is silence, a
    full stdout an error, and a full stderr nothing that could end the work.
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
            except MemoryError as error:
                say(name, f'there is too little memory ({first_line(error)}): end other programs, '
                    'or give it less at once')
                return 1
            except ImportError as error:
                missing = _missing(error)
                if not missing:
                    raise
                say(name, missing)
                return 1

        return run

    return decorate


def say(name: str, *lines: object) -> None:
    """Print to stderr; each line stays one, whatever characters it has."""
    text = '\n'.join(printable(str(line)) for line in lines)
    print(f'{name}: {text}', file=sys.stderr, flush=True)


def positive(text: str) -> float:
    """Read an argument that is a number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r}: give a number above 0')
    return value


def _missing(error: ImportError) -> str:
    """Return which library is not there, or of no use, in one line; '' for a fault of our own."""
    library = (error.name or '').partition('.')[0]
    if not library or library == 'lednet_ros':
        return ''
    if library in ROS or library.endswith('_msgs'):
        return (f'{library}: is not installed: this command needs ROS 2: source its setup.bash, '
                "or take the one of 'make demo' (. .venv/bin/activate)")
    remedy = REMEDIES.get(library, f'pip install {library}')
    if isinstance(error, ModuleNotFoundError):
        return f'{library}: is not installed: {remedy}'
    return f'{library}: cannot be loaded: {first_line(error)}: {remedy}'


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
    """
    Let no stream be missing, no character fail, and a fault be told from the work's.

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
