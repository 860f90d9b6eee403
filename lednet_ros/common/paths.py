# SPDX-License-Identifier: Apache-2.0
"""Paths as people give them."""

from __future__ import annotations

import os
from pathlib import Path

from lednet_ros.common.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> Path:
    """
    Return a path with the home directory in place of ~ or ~user. Raise ConfigError.

    Where there is none, as with HOME unset and a user of no name, Python leaves the ~: a directory
    called so would be made where the command runs, and 'rm -rf ~' is no way to be rid of it.
    """
    given = os.fspath(path)
    whole = os.path.expanduser(given)
    if given.startswith('~') and not os.path.isabs(whole) and not os.path.lexists(given):
        why = ', as HOME is not set' if given[1:2] in ('', '/') else ' of a user of that name'
        raise ConfigError(f'{given}: there is no home directory{why}: give the whole path')
    return Path(whole)
