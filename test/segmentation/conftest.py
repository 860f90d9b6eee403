# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of this folder."""

import copy
import dataclasses

import gpu_stand_ins
import pytest
import torch

from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is the CPU."""
    gpu_stand_ins.install(monkeypatch)


@pytest.fixture
def no_graphs(stand_ins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, where nothing can be captured."""
    monkeypatch.setattr(torch.cuda, 'graph', gpu_stand_ins.no_capture)


@pytest.fixture
def overflowing() -> Checkpoint:
    """The shipped network, with activations beyond what fp16 holds. In fp32 it says the same."""
    checkpoint = load_checkpoint(default_checkpoint())
    network = copy.deepcopy(checkpoint.network)
    branch = network.encoder.units1[0].left
    with torch.no_grad():  # a ReLU between them: what the first multiplies the second divides
        branch.conv1.weight *= 2e4
        branch.conv1.bias *= 2e4
        branch.conv2.weight /= 2e4
    return dataclasses.replace(checkpoint, network=network)
