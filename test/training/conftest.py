# SPDX-License-Identifier: Apache-2.0
"""One thread for small networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope='session')
def _one_thread() -> Iterator[None]:
    """Such small networks gain nothing from threads, and lose much beside other work."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        yield
    torch.set_num_threads(count)
