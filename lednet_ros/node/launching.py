# SPDX-License-Identifier: Apache-2.0
"""What the launch files decide, without launch: names that stay relative, flags, files."""

from __future__ import annotations

import os
from pathlib import Path

from lednet_ros.errors import ConfigError


def camera_info_beside(image: str) -> str:
    """Return a driver's CameraInfo topic: /camera/image_raw has /camera/camera_info beside it.

    A relative topic stays relative.
    """
    folder, slash, _ = image.rpartition('/')
    return f'{folder}{slash}camera_info'


def namespace_to_add(namespace: str, pushed: str) -> str:
    """Return the namespace for a node in a launch file that may lie in PushRosNamespace.

    A parent launch file's `namespace` reaches the files it includes, as Nav2's does, and its
    PushRosNamespace too: what was pushed is not put before the names a second time.
    """
    wanted = namespace.strip('/')
    return '' if f'/{pushed.strip("/")}'.endswith(f'/{wanted}') else wanted


def is_true(name: str, value: str) -> bool | None:
    """Return what a launch argument says, in any case and in Python's or YAML's words; '': None.

    Raise ConfigError for other words.
    """
    words = {'': None, 'true': True, '1': True, 'yes': True, 'on': True,
             'false': False, '0': False, 'no': False, 'off': False}
    word = value.strip().lower()
    if word not in words:
        raise ConfigError(f'{name} is {value!r}: give true or false')
    return words[word]


def parameter_files(value: str) -> list[str]:
    """Return the file, or none for ''. Raise ConfigError where there is none of this name."""
    if not value:
        return []
    file = Path(os.path.expanduser(value))
    if not file.is_file():
        raise ConfigError(f'params_file {value}: there is no such file: give one that exists, or '
                          'leave it out for the defaults')
    return [str(file)]
