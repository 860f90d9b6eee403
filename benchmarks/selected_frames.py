#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Whether frames that lednet_select chooses, once labelled, train better than random ones.

    benchmarks/selected_frames.py DATA OUTPUT [--seeds 1 2 3] [--count 30]

DATA is a labelled data set as lednet_train takes it, such as CamVid. For each seed a network is
trained on COUNT random frames of train, as on a first day of labelling. COUNT more of the others
are then chosen by it, or drawn at random, and it is trained further on all of them. Prints the
mIoU on every second image of val after the last epoch. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from small_trainings import train

from lednet_ros.datasets.drives import drive_of
from lednet_ros.datasets.layouts import DataSet, open_data_set
from lednet_ros.model.checkpoint import load_checkpoint
from lednet_ros.offline.selection import Scored, choose, uncertainty
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.recipe import Recipe

PASSES = 5  # over the frames in what counts as an epoch, as these are few
RECIPE = Recipe(
    input_height=120, input_width=160, epochs=16, batch=6, crops=((0.0, 96, 128),),
    scale=(0.7, 1.7), color=0.3, learning_rate=2e-3, warm_up=1.0, weight_decay=1e-2,
    class_weights='enet_sqrt', auxiliary_loss=0.4, dropout=(0.02, 0.05), ema=0.98)
FURTHER = replace(RECIPE, epochs=12, learning_rate=1.5e-3)


def main(argv: list[str] | None = None) -> int:
    """Train what is not trained yet, and print a line for each seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('output', type=Path)
    parser.add_argument('--seeds', nargs='+', type=int, default=[1, 2, 3])
    parser.add_argument('--count', type=int, default=30)
    options = parser.parse_args(argv)
    data = open_data_set(options.data, 'train')
    val = open_data_set(options.data, 'val')
    val = replace(val, pairs=val.pairs[::2])
    print('| seed | before | and random ones | and chosen ones | difference |\n'
          '|---|---|---|---|---|')
    gains = []
    for seed in options.seeds:
        place = options.output / str(seed)
        order = np.random.default_rng(seed).permutation(len(data)).tolist()
        first, rest = sorted(order[:options.count]), sorted(order[options.count:])
        before = miou(train(replace(RECIPE, seed=seed), some(data, first), val, place / 'before'))
        checkpoint = place / 'before' / 'last.safetensors'
        init = load_checkpoint(checkpoint)
        more = {'random': order[options.count:2 * options.count],
                'chosen': chosen_by(checkpoint, data, rest, options.count)}
        after = {name: miou(train(replace(FURTHER, seed=seed), some(data, [*first, *frames]), val,
                                  place / name, init)) for name, frames in more.items()}
        gains.append(after['chosen'] - after['random'])
        print(f'| {seed} | {before:.1f} | {after["random"]:.1f} | {after["chosen"]:.1f} '
              f'| {gains[-1]:+.1f} |', flush=True)
    print(f'mean difference {statistics.mean(gains):+.1f}')
    return 0


def chosen_by(
    checkpoint: Path, data: DataSet, frames: Sequence[int], count: int
) -> list[int]:
    """Return the frames that lednet_select would choose; each drive is a recording."""
    drives = sorted({drive_of(pair.image) for pair in data.pairs})
    scored = {}
    with Segmenter(checkpoint) as segmenter:
        for place, frame in enumerate(frames):
            image, _ = data.read(frame)
            [found] = segmenter.segment([image], rgb=True, confidence=True)
            assert found.confidence is not None
            scored[Scored(drives.index(drive_of(data.pairs[frame].image)), place,
                          uncertainty(found.confidence))] = frame
    return [scored[one] for one in choose(list(scored), count)]


def miou(row: Mapping[str, Any]) -> float:
    """Return a training's last mIoU, in percent."""
    return 100 * float(row['val_miou'])


def some(data: DataSet, frames: Sequence[int]) -> DataSet:
    """Return so many passes over some frames of the data."""
    return replace(data, pairs=tuple(data.pairs[i] for i in sorted(frames)) * PASSES)


if __name__ == '__main__':
    sys.exit(main())
