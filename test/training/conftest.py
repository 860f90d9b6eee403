# SPDX-License-Identifier: Apache-2.0
"""A data set and a recipe for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from orchard import RECIPE, make_orchard


@pytest.fixture(autouse=True, scope='session')
def _one_thread() -> Iterator[None]:
    """Such small networks gain nothing from threads, and lose much beside other work."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        yield
    torch.set_num_threads(count)


@pytest.fixture
def orchard(tmp_path: Path) -> Path:
    """A data set in folders: 8 images to train with, 3 for validation."""
    return make_orchard(tmp_path / 'orchard')


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Make a recipe for the orchard, with knobs changed."""
    def make(**knobs: object) -> Path:
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**yaml.safe_load(RECIPE), **knobs}))
        return path
    return make
