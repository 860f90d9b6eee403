# SPDX-License-Identifier: Apache-2.0
"""A thread for each core that others leave free."""

from __future__ import annotations

import csv
import os
import re

import numpy as np
import pytest
import torch

from lednet_ros.cli.train import main
from lednet_ros.common.free_cores import FreeCores
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.segmentation import torch_threads
from lednet_ros.segmentation.backends.torch import TorchBackend
from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.torch_threads import Threads, are_given


@pytest.mark.parametrize(('environment', 'quota', 'given'), [
    ({}, 8, False), ({'OMP_NUM_THREADS': ''}, 8, False), ({'OMP_NUM_THREADS': '3'}, 8, True),
    ({'OMP_NUM_THREADS': '8'}, 8, True), ({'MKL_NUM_THREADS': '3'}, 8, True),
    ({'OMP_NUM_THREADS': '2'}, 2, False), ({'OMP_NUM_THREADS': '1'}, 2, True),
])
def test_what_the_user_says_stays_and_what_a_quota_says_does_not(
    monkeypatch, environment, quota, given
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    monkeypatch.setattr(torch_threads, 'usable_cores', lambda: quota)
    assert are_given(environment) is given


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(torch_threads, 'usable_cores', lambda: 4)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(4)))
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures('four_threads')
def test_threads_follow_the_free_cores_there_and_back(monkeypatch) -> None:
    answers = iter([0.4, 2.0, None, 4.0])
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: next(answers))
    found = Threads(torch.device('cpu'))
    assert [found.follow() for _ in range(4)] == [1, 2, 2, 4]
    assert Threads(torch.device('cuda')).follow() == 4


@pytest.mark.usefixtures('four_threads')
def test_the_torch_backend_takes_as_many_threads_and_gives_the_others_back(monkeypatch) -> None:
    backend = TorchBackend(load_checkpoint(default_checkpoint()), SegmenterConfig(
        backend='torch', device='cpu', input_height=64, input_width=64))
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: 1.2)
    seen: list[int] = []
    backend._graphs[False].register_forward_pre_hook(
        lambda *_: seen.append(torch.get_num_threads()))
    backend.run(np.zeros((1, 64, 64, 3), np.uint8), confidence=False)
    assert seen == [1]
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures('four_threads')
def test_training_beside_others_takes_one_thread_and_says_so(
    orchard, recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: 0.4)
    assert main(['--recipe', str(recipe_file(epochs=1)), '--data', str(orchard), '--output',
                 str(tmp_path / 'out'), '--device', 'cpu']) == 0
    assert torch.get_num_threads() == 4, 'as before'
    with (tmp_path / 'out' / 'history.csv').open() as file:
        [row] = csv.DictReader(file)
    assert float(row['threads']) == 1.0
    assert re.search(r'^epoch 1: loss .* waiting for data, 1 thread$', capsys.readouterr().out,
                     re.M)
