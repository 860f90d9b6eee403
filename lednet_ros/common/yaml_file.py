# SPDX-License-Identifier: Apache-2.0
"""YAML that people write: PyYAML's safe kind, in which no key may come twice."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import yaml


def read_text(path: Path) -> str:
    """
    Return a text file's content, in UTF-8. Raise OSError, also for a pipe, or UnicodeDecodeError.

    A node that waits for what nobody writes would heed no signal.
    """
    if stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, 'is a pipe', os.fspath(path))
    return path.read_text(encoding='utf-8-sig')


def load_yaml(text: str) -> Any:
    """Return what YAML says. Raise yaml.YAMLError, also over a key that a mapping has twice."""
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506  (it is a SafeLoader)
    except RecursionError as error:
        raise yaml.YAMLError('it is nested too deeply') from error


class _UniqueKeys(yaml.SafeLoader):
    """Of two equal keys PyYAML takes the last, and `road: blocked` above it is not heeded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._judged: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Look at the keys as they are written, before those of a merge (<<) join them."""
        seen = set()
        for key, _ in () if node in self._judged else node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != 'tag:yaml.org,2002:merge':
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f'{key.value!r} is given twice', problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        self._judged.add(node)
        super().flatten_mapping(node)
