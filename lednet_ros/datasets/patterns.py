# SPDX-License-Identifier: Apache-2.0
"""
Path patterns that find images, and name each one's label image by what their wildcards match.

    leftImg8bit/train/*/*_leftImg8bit.png  ->  gtFine/train/*/*_gtFine_labelIds.png

`*` and `?` match within a name, `[0-8]` one character, `{a,b}` one of several words, and `**/` any
number of folders. The wildcards of a label pattern, of whichever kind, stand for what those of the
image pattern matched, in order; it may have fewer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lednet_ros.common.errors import DataError

_WILDCARD = re.compile(r'\*\*/|\*|\?|\[[^]]+\]|\{[^}]*\}')


class Pattern:
    """A path pattern, relative to a data set's root, with `/` between its parts."""

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix('./')
        if re.search(r'(^|/)\*\*(?!/)', self.text):
            raise DataError(f'pattern {text!r}: ** stands for folders: write **/* for all files '
                            'below')
        try:
            self._regex  # noqa: B018 of brackets it may be none
        except re.error as error:
            raise DataError(f'pattern {text!r}: its brackets hold no characters from one to a '
                            f'later one ({error}): correct them') from error

    @property
    def wildcards(self) -> int:
        """Return how many there are."""
        return len(_WILDCARD.findall(self.text))

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        text, end = '', 0
        for wildcard in _WILDCARD.finditer(self.text):
            text += re.escape(self.text[end:wildcard.start()]) + f'({_regex_of(wildcard[0])})'
            end = wildcard.end()
        return re.compile(text + re.escape(self.text[end:]), re.DOTALL)

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return what the wildcards match in a relative path; None where it does not fit."""
        found = self._regex.fullmatch(path)
        return found.groups() if found else None

    def filled(self, matched: tuple[str, ...]) -> str:
        """Return the path with `matched` in place of the wildcards."""
        words = iter(matched)
        return _WILDCARD.sub(lambda _: next(words), self.text)

    def find(self, root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
        """
        Yield each file's path, relative to the root, and what its wildcards match.

        Links are followed. Raise DataError where a folder cannot be read.
        """
        fixed = _WILDCARD.split(self.text)[0].rpartition('/')[0]
        depth = None if '**/' in self.text else self.text.count('/')
        for path in _files(root, fixed, depth, frozenset()):
            matched = self.match(path)
            if matched is not None:
                yield path, matched


def _regex_of(wildcard: str) -> str:
    if wildcard == '**/':
        return '(?:[^/]+/)*'
    if wildcard[0] == '[':
        return f'[{"^" if wildcard[1] in "!^" else ""}{wildcard[1:-1].lstrip("!^")}]'.replace(
            '\\', r'\\')
    if wildcard[0] == '{':
        return '|'.join(map(re.escape, wildcard[1:-1].split(',')))
    return {'*': '[^/]*', '?': '[^/]'}[wildcard]


def _files(root: Path, folder: str, depth: int | None, above: frozenset[str]) -> Iterator[str]:
    """Yield the paths of the files below a folder, as deep as a pattern has parts."""
    place = os.path.realpath(root / folder)
    if place in above:  # a link to a folder that it lies in
        return
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(f'{root / folder}: cannot be read: {error.strerror}: let this user read '
                        'it') from error
    for entry in entries:
        path = f'{folder}/{entry.name}' if folder else entry.name
        if not entry.is_dir():
            yield path
        elif not entry.name.startswith('.') and (depth is None or path.count('/') < depth):
            yield from _files(root, path, depth, above | {place})
