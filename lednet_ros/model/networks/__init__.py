# SPDX-License-Identifier: Apache-2.0
"""
The networks there are, by name: LEDNet, and those that its paper's Table 2 compares it with.

Names in recipes and checkpoint files are looked up here alone: no file can have other code loaded.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.lednet import LEDNet


class Network(nn.Module):
    """
    What LEDNet is to the rest of the package, for the others.

    Input: (N, 3, H, W) float RGB, preprocessed, H and W at least 32 and otherwise free.
    Output: (N, num_classes, H, W) scores, the larger the likelier.
    """

    num_classes: int

    def scores(self, x: Tensor) -> Tensor:
        """Return what comes before the upsampling: H and W over the stride, rounded up."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of every pixel."""
        return upsample(self, self.scores(x), x.shape[2:])


AnyNetwork = LEDNet | Network


@dataclass(frozen=True)
class Entry:
    """Where a network is, and how its scores become those of all pixels."""

    title: str            # its class, and what people call it
    module: str           # within lednet_ros.model
    stride: int           # of its scores
    aligned: bool = True  # whether the upsampling aligns corners


NETWORKS = {
    'lednet': Entry('LEDNet', 'lednet', 8),
    'segnet': Entry('SegNet', 'networks.segnet', 1),
    'enet': Entry('ENet', 'networks.enet', 1),
    'erfnet': Entry('ERFNet', 'networks.erfnet', 1),
    'icnet': Entry('ICNet', 'networks.icnet', 4),
    'cgnet': Entry('CGNet', 'networks.cgnet', 8, aligned=False),
    'espnet': Entry('ESPNet', 'networks.espnet', 1),
    'lednet_1d': Entry('LEDNet1D', 'networks.lednet_1d', 8),  # the paper's future work
}


def find_entry(name: str) -> Entry:
    """Return a network's entry. Raise ConfigError for a name that is not in the registry."""
    if name not in NETWORKS:
        near = difflib.get_close_matches(str(name), NETWORKS, 1)
        hint = f'did you mean {near[0]!r}?' if near else f'choose {", ".join(NETWORKS)}'
        raise ConfigError(f'network is {name!r}: {hint}')
    return NETWORKS[name]


def make_network(name: str, num_classes: int) -> AnyNetwork:
    """Make a network by its name, with random weights. Raise ConfigError."""
    entry = find_entry(name)
    module = importlib.import_module(f'lednet_ros.model.{entry.module}')
    network: AnyNetwork = getattr(module, entry.title)(num_classes)
    return network


def name_of(network: AnyNetwork) -> str:
    """Return the name that a network has in the registry. Raise ConfigError."""
    title = type(network).__name__
    for name, entry in NETWORKS.items():
        if entry.title == title:
            return name
    raise ConfigError(f'{title} is no network of the registry: choose {", ".join(NETWORKS)}')


def entry_of(network: AnyNetwork) -> Entry:
    """Return a network's entry."""
    return NETWORKS[name_of(network)]


def upsample(
    network: AnyNetwork, scores: Tensor, size: tuple[int, int] | torch.Size
) -> Tensor:
    """Bring a network's scores, (N, C, h, w), to (height, width) as the network itself does."""
    if tuple(scores.shape[2:]) == tuple(size):
        return scores
    return F.interpolate(
        scores, size, mode='bilinear', align_corners=entry_of(network).aligned)
