# SPDX-License-Identifier: Apache-2.0
"""The pages that a process touches anew each time it takes and frees a large block."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

TURNS = 10
PAGES = (64 << 20) // os.sysconf('SC_PAGE_SIZE')  # of a block
PROGRAM = f"""
import resource
import numpy as np
from lednet_ros.common.malloc import keep_all_memory
keep_all_memory()
np.ones(64 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TURNS}):
    np.ones(64 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')


def faults(**variables: str) -> int:
    """Return the page faults of ten large blocks, one after the other."""
    # Huge pages, if numpy asks for them, would be a fault each.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith('MALLOC_')}
    return int(subprocess.run(
        [sys.executable, '-c', PROGRAM], check=True, capture_output=True, text=True,
        env={**environment, 'NUMPY_MADVISE_HUGEPAGE': '0', **variables}).stdout)


def test_a_large_block_is_in_memory_the_second_time() -> None:
    assert faults() < PAGES / 10


def test_what_the_environment_says_of_malloc_is_left() -> None:
    assert faults(MALLOC_PERTURB_='0') > 0.9 * TURNS * PAGES
