# SPDX-License-Identifier: Apache-2.0
"""
Errors a user can mend: one line, naming the thing, the cause and the remedy.

What is not in this family is a bug and keeps its traceback.
"""

STOPPED = 130  # the exit code of a command that Ctrl-C ended, as a shell says of SIGINT


class LednetRosError(Exception):
    """Base of the family, made with one line, or some; commands print them and exit with 1."""

    is_said_elsewhere = False  # by the first of several processes, whose error it is

    def __str__(self) -> str:
        return '\n'.join(map(str, self.args))


class ConfigError(LednetRosError):
    """A setting, a label set or a path is not usable as given."""


class CheckpointError(LednetRosError):
    """A checkpoint file is missing, damaged, or of another network."""


class DataError(LednetRosError):
    """A data set's files are not usable as they lie."""


class BackendUnavailable(LednetRosError):
    """What should run the network is not on this machine."""


class OutOfMemory(LednetRosError):
    """The memory, the GPU's or the computer's, does not hold what was asked for."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters; its class if none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def in_words(error: BaseException, whole: tuple[type[BaseException], ...] = ()) -> str:
    """Return what an error says: all of it if it is of the family or `whole`, else one line."""
    if isinstance(error, (LednetRosError, *whole)):
        return str(error)
    return f'{type(error).__name__}: {first_line(error)}'


def printable(text: str) -> str:
    """Return the text as one line: what cannot be printed, as a file's name may hold, escaped."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
