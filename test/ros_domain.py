# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that no other run of the tests on this machine has."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

DOMAINS = 101  # up to domain 101 the ports lie below the system's ephemeral ones


def take_domain() -> tuple[int, socket.socket]:
    """Return a domain, and what holds it until it is closed or this process ends.

    A name of Linux's abstract namespace: no file is left, and none is needed.
    """
    holder = socket.socket(socket.AF_UNIX)
    for i in range(DOMAINS):
        domain = 1 + (os.getpid() + i) % DOMAINS
        with suppress(OSError):
            holder.bind(f'\0lednet_ros test domain {domain}')
            return domain, holder
    raise AssertionError(f'{DOMAINS} runs of the tests have each a domain: end some')
