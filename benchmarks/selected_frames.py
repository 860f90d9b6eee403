#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Whether frames that lednet_select chooses, once labelled, train better than random ones.

    benchmarks/selected_frames.py DATA OUTPUT [--by variety] [--standing 0.5]

DATA is a labelled data set of several drives as lednet_train takes it, such as CamVid. Of each
drive in train the last quarter is kept to be scored. For each seed a network is trained on COUNT
random frames of the rest, as on a first day of labelling. COUNT more are then drawn at random, or
chosen by it, and it is trained further on all of them. Prints for each way the mean mIoU of the
drives' last quarters, and of each second image of val, after the last epoch. With --standing the
car stands for that share of each drive, at three places: copies of three frames. Stopped, the
same command goes on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from small_trainings import train

from lednet_ros.datasets.drives import drive_of
from lednet_ros.datasets.layouts import DataSet, open_data_set
from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.offline.select import CHOICES
from lednet_ros.offline.selection import Scored, look_of, uncertainty
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.evaluate import evaluate
from lednet_ros.training.recipe import Recipe

CHECKPOINT = 'last.safetensors'
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
    parser.add_argument('--by', nargs='+', choices=CHOICES, default=list(CHOICES))
    parser.add_argument('--standing', type=float, default=0.0, metavar='SHARE')
    options = parser.parse_args(argv)
    data = open_data_set(options.data, 'train')
    val = open_data_set(options.data, 'val')
    pool, ends = parted(data, options.standing)
    tests = [*ends, replace(val, pairs=val.pairs[::2])]
    ways = ('random', *options.by)
    print(f'| seed | before | {" | ".join(ways)} |\n|---|---|{"---|" * len(ways)}')
    gains: dict[str, list[float]] = {way: [] for way in options.by}
    for seed in options.seeds:
        place = options.output / str(seed)
        order = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))]
        first, rest = sorted(order[:options.count]), sorted(order[options.count:])
        before = trained(replace(RECIPE, seed=seed), data, first, place / 'before', tests)
        init = load_checkpoint(place / 'before' / CHECKPOINT)
        rows = {}
        for way in ways:
            more = (order[options.count:2 * options.count] if way == 'random' else
                    chosen_by(way, init, data, rest, options.count))
            rows[way] = trained(replace(FURTHER, seed=seed), data, [*first, *more], place / way,
                                tests, init)
        for way, found in gains.items():
            found.append(rows[way][0] - rows['random'][0])
        cells = [f'{ends:.1f} ({val:.1f})' for ends, val in (before, *rows.values())]
        print(f'| {seed} | {" | ".join(cells)} |', flush=True)
    for way, found in gains.items():
        print(f'{way} to random: mean {statistics.mean(found):+.1f}, '
              f'{min(found):+.1f} to {max(found):+.1f}')
    return 0


def parted(data: DataSet, standing: float) -> tuple[list[int], list[DataSet]]:
    """Return the frames to choose from, and the last quarter of each drive, thinned."""
    rng = np.random.default_rng(0)
    drives: dict[str, list[int]] = {}
    for index, pair in enumerate(data.pairs):
        drives.setdefault(drive_of(pair.image), []).append(index)
    ends = {drive: 3 * len(frames) // 4 for drive, frames in drives.items()}
    pool = []
    for drive, frames in drives.items():
        stops = rng.choice(frames[:ends[drive]], 3, replace=False)
        copies = round(ends[drive] * standing / (1 - standing) / len(stops))
        pool += [frame for index in frames[:ends[drive]]
                 for frame in [index] * (1 + copies * (index in stops))]
    return (pool,
            [replace(data, pairs=tuple(data.pairs[i] for i in frames[ends[drive] + 2::2]))
             for drive, frames in drives.items()])


def chosen_by(
    way: str, checkpoint: Checkpoint, data: DataSet, frames: Sequence[int], count: int
) -> list[int]:
    """Return the frames that lednet_select would choose; each drive is a recording."""
    drives = sorted({drive_of(pair.image) for pair in data.pairs})
    scored = {}
    with Segmenter(checkpoint) as segmenter:
        for place, frame in enumerate(frames):
            image, _ = data.read(frame)
            [seen] = segmenter.segment([image], rgb=True, confidence=True)
            assert seen.confidence is not None
            scored[Scored(drives.index(drive_of(data.pairs[frame].image)), place,
                          uncertainty(seen.confidence),
                          look_of(image, seen.labels, len(segmenter.labels)))] = frame
    return [scored[one] for one in CHOICES[way](list(scored), count)]


def trained(
    recipe: Recipe, data: DataSet, frames: Sequence[int], directory: Path,
    tests: Sequence[DataSet], init: Checkpoint | None = None,
) -> tuple[float, float]:
    """Train on some frames. Return the mean mIoU on all tests but the last, and on that, in %."""
    few = replace(data, pairs=tuple(data.pairs[i] for i in sorted(frames)) * PASSES)
    train(recipe, few, replace(tests[-1], pairs=tests[-1].pairs[:2]), directory, init)
    with Segmenter(directory / CHECKPOINT) as segmenter:
        *ends, val = [100 * evaluate(segmenter, test).scores.miou for test in tests]
    return statistics.mean(ends), val


if __name__ == '__main__':
    sys.exit(main())
