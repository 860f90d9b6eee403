# SPDX-License-Identifier: Apache-2.0
"""What lets small trainings take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lednet_ros.training import run_dir


@pytest.fixture(autouse=True, scope='session')
def _one_thread() -> Iterator[None]:
    """Such small networks gain nothing from threads, and lose much beside other work."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        yield
    torch.set_num_threads(count)


@pytest.fixture(autouse=True, scope='session')
def _no_curves() -> Iterator[None]:
    """Leave out curves.png, as without matplotlib: it takes longer than such an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_dir, 'draw_history', lambda rows: None)
        yield
