#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Every network of Table 2 by one recipe and budget, and LEDNet without each of its parts.

    benchmarks/same_budget.py DATA OUTPUT [NAME ...] [--seeds 1 2] [--epochs N]

DATA is a data set as lednet_train takes it, such as CamVid. Each network is trained from scratch
at a small size, into OUTPUT/NAME-SEED; the table has what it scores after the last epoch, on the
val split. Stopped, the same command goes on; networks that are done are only read. The budget is
a small one: it says what learns fast, not what is best in the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from small_trainings import train
from torch import Tensor, nn

from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model import lednet
from lednet_ros.model.networks import NETWORKS, make_network
from lednet_ros.training.recipe import Recipe

RECIPE = Recipe(
    input_height=180, input_width=240, epochs=10, batch=8, crops=((0.0, 144, 192),),
    scale=(0.7, 1.7), color=0.3, learning_rate=2e-3, warm_up=1.0, weight_decay=1e-2,
    class_weights='enet_sqrt', dropout=(0.02, 0.05), ema=0.99)


class WholeUnit(nn.Module):
    """An SS-nbt unit without its split: one factorized branch over all channels (ERFNet's)."""

    def __init__(self, channels: int, dropout: float, dilation: int = 1) -> None:
        super().__init__()
        self.branch = lednet.FactorizedBranch(channels, True, dilation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W), as the unit does."""
        return F.relu(x + self.branch(x))


class OnlyMid(nn.Module):
    """The decoder without pyramid and global branch: the 1x1 convolution to the classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.mid = lednet.ConvBNReLU(in_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, num_classes, H, W), as the APN does."""
        scores: Tensor = self.mid(x)
        return scores


# What stands in lednet.py instead of the part that is left out.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    'without_shuffle': {'channel_shuffle': lambda x: x},
    'without_split': {'SSnbtUnit': WholeUnit},
    'without_apn': {'APN': OnlyMid},
}


def main(argv: list[str] | None = None) -> int:
    """Train what is not trained yet, and print a line for each."""
    names = [*NETWORKS, *ABLATIONS]
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('output', type=Path)
    parser.add_argument('names', nargs='*', default=names, metavar='NAME', help=', '.join(names))
    parser.add_argument('--seeds', nargs='+', type=int, default=[1])
    parser.add_argument('--epochs', type=int, default=RECIPE.epochs)
    options = parser.parse_args(argv)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f'there is no {", ".join(sorted(unknown))}: choose {", ".join(names)}')
    data = open_data_set(options.data, 'train')
    val = open_data_set(options.data, 'val')
    print('| network | parameters | val mIoU, mean of the seeds | each seed | pixels | minutes |\n'
          '|---|---|---|---|---|---|')
    for name in options.names:
        ends = []
        for seed in options.seeds:
            recipe = replace(RECIPE, epochs=options.epochs, seed=seed,
                             network=name if name in NETWORKS else 'lednet')
            with without(name):
                ends.append(train(
                    recipe, data, val, options.output / f'{name}-{seed}', variant=name))
        mious = [100 * end['val_miou'] for end in ends]
        print(f'| {name} | {count_parameters(name, len(val.labels)):,} '
              f'| {statistics.mean(mious):.1f} | {", ".join(f"{one:.1f}" for one in mious)} '
              f'| {100 * statistics.mean(end["val_pixel_accuracy"] for end in ends):.1f} '
              f'| {statistics.mean(end["seconds"] for end in ends) / 60:.0f} |', flush=True)
    return 0


def without(name: str) -> AbstractContextManager[Any]:
    """Return a context in which lednet.py lacks what an ablation leaves out."""
    return patch.multiple(lednet, **ABLATIONS[name]) if name in ABLATIONS else nullcontext()


def count_parameters(name: str, classes: int) -> int:
    """Return how many parameters one of the names has."""
    with without(name), torch.device('meta'):
        network = make_network(name if name in NETWORKS else 'lednet', classes)
    return sum(one.numel() for one in network.parameters())


if __name__ == '__main__':
    sys.exit(main())
