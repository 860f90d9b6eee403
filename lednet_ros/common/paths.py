# SPDX-License-Identifier: Apache-2.0
"""Paths as people give them."""

from __future__ import annotations

import os
from pathlib import Path

from lednet_ros.common.errors import ConfigError


def given(text: str) -> str:
    """
    Return an argument's text. Raise ConfigError where it is empty.

    So a shell leaves "$NAME" of a variable that is not set: neither the default is meant, nor, of
    a path, the directory that the command runs in.
    """
    if not text:
        raise ConfigError("'': an argument is empty: give a path, or set the variable that it is "
                          'from')
    return text


def expanded(path: str | os.PathLike[str]) -> Path:
    """
    Return a path with the home directory in place of ~ or ~user. Raise ConfigError, for '' too.

    Where there is none, as with HOME unset and a user of no name, Python leaves the ~: a directory
    called so would be made where the command runs, and 'rm -rf ~' is no way to be rid of it.
    """
    text = given(os.fspath(path))
    whole = os.path.expanduser(text)
    if text.startswith('~') and not os.path.isabs(whole) and not os.path.lexists(text):
        why = ', as HOME is not set' if text[1:2] in ('', '/') else ' of a user of that name'
        raise ConfigError(f'{text}: there is no home directory{why}: give the whole path')
    return Path(whole)
