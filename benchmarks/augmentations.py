#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What each part of a recipe's augmentation is worth on drives that were not trained on.

    benchmarks/augmentations.py DATA OUTPUT [NAME ...] [--seeds 1 2] [--epochs N]

DATA is a data set of several drives as lednet_train takes it, such as CamVid. For each NAME a
small network is trained from scratch once without each drive, into OUTPUT/NAME/DRIVE-SEED, and
scored on that drive after the last epoch. Stopped, the same command goes on; trainings that are
done are only read. The budget is a small one: a part that makes learning slower can be worth more
in a longer training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_trainings import train

from lednet_ros.datasets.drives import leave_one_out
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.training.recipe import Recipe, load_recipe

WHOLE = 'whole'
LIGHT = {'white_balance': 0.0, 'hue': 0.0, 'grey': 0.0}
CAMERA = {'blur': 0.0, 'noise': 0.0, 'jpeg': 0}
POSE = {'rotation': 0.0, 'perspective': 0.0}
SCALE = {'scale': (1.0, 1.0)}
# What each name changes in the whole.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    'without any': {**LIGHT, **CAMERA, **POSE, **SCALE, 'color': 0.0, 'shading': 0.0},
    'without scale': SCALE,
    'without rotation and perspective': POSE,
    'without color': {'color': 0.0},
    'without white_balance, hue and grey': LIGHT,
    'without shading': {'shading': 0.0},
    'without blur, noise and jpeg': CAMERA,
    'scale 0.5 to 2': {'scale': (0.5, 2.0)},
    'and copy_paste 0.5': {'copy_paste': 0.5},
    'dropout 0.03 and 0.3': {'dropout': (0.03, 0.3)},
}


def main(argv: list[str] | None = None) -> int:
    """Train what is not trained yet, and print a line for each name."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('output', type=Path)
    parser.add_argument('names', nargs='*', default=list(VARIANTS), metavar='NAME',
                        help='; '.join(VARIANTS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[1])
    parser.add_argument('--epochs', type=int, default=24)
    options = parser.parse_args(argv)
    unknown = set(options.names) - set(VARIANTS)
    if unknown:
        parser.error(f'there is no {"; ".join(sorted(unknown))}: choose {"; ".join(VARIANTS)}')
    folds = list(leave_one_out(open_data_set(options.data, 'train'),
                               open_data_set(options.data, 'val')))
    drives = [drive for drive, _, _ in folds]
    print(f'| augmentation | mIoU, mean of the drives | {" | ".join(drives)} | pixels |\n'
          f'|---|---|{"---|" * len(drives)}---|')
    recipe = small(options.epochs)
    for name in options.names:
        ends = [[train(replace(recipe, seed=seed, **VARIANTS[name]), others, own,
                       options.output / name.replace(' ', '_') / f'{drive}-{seed}')
                 for seed in options.seeds] for drive, others, own in folds]
        mious = [100 * statistics.mean(end['val_miou'] for end in of_drive) for of_drive in ends]
        pixels = [end['val_pixel_accuracy'] for of_drive in ends for end in of_drive]
        print(f'| {name} | {statistics.mean(mious):.1f} '
              f'| {" | ".join(f"{miou:.1f}" for miou in mious)} '
              f'| {100 * statistics.mean(pixels):.1f} |', flush=True)
    return 0


def small(epochs: int) -> Recipe:
    """Return the recipe `camvid` at a third of its size."""
    return replace(
        load_recipe('camvid'), input_height=120, input_width=160, crops=((0.0, 96, 128),),
        epochs=epochs, learning_rate=2e-3, ema=0.99)


if __name__ == '__main__':
    sys.exit(main())
