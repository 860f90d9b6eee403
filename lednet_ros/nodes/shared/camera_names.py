# SPDX-License-Identifier: Apache-2.0
"""The names that a node's cameras have, of its parameter `cameras`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lednet_ros.common.errors import ConfigError


def camera_names(given: Sequence[str]) -> list[str]:
    """Return the names, [''] where there is one camera without any. Raise ConfigError."""
    names = [name for name in given if name] or ['']
    for name in names:
        if name and not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', name, re.ASCII):
            raise ConfigError(f'camera {name!r} is no ROS name: use letters, digits and _')
        if names.count(name) > 1:
            raise ConfigError(f'camera {name!r} is named twice: give each its own name')
    return names
