#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Can the training learn at all? A few images by heart, to an mIoU above 0.9 on themselves.

    benchmarks/overfit.py DATA OUTPUT

DATA is a data set as lednet_train takes it; it begins with the shipped weights and ends when the
mark is reached. Stopped, the same command goes on. The exit code is 0 if the mark was reached.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.segmentation.devices import choose_device
from lednet_ros.training.progress import show_progress
from lednet_ros.training.recipe import Recipe
from lednet_ros.training.run_dir import Output
from lednet_ros.training.train import Job, Training

# Knobs.
IMAGES = 60
MARK = 0.9
RECIPE = Recipe(
    input_height=360, input_width=480, epochs=120, batch=6, flip=False, learning_rate=3e-3,
    warm_up=2.0, weight_decay=0.0, class_weights='enet_sqrt', auxiliary_loss=0.4,
    iou_loss=3.0, dropout=(0.0, 0.0), ema=0.98)


def main(argv: list[str] | None = None) -> int:
    """Train and validate on the same images; 0 if they are known."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('output', type=Path)
    parser.add_argument('--epochs', type=int, default=RECIPE.epochs)
    options = parser.parse_args(argv)
    recipe = dataclasses.replace(RECIPE, epochs=options.epochs)
    data = open_data_set(options.data, 'train')
    few = dataclasses.replace(data, pairs=data.pairs[::max(1, len(data) // IMAGES)][:IMAGES])
    report = check_data(few)
    report.refuse_faults()
    init = load_checkpoint(default_checkpoint())
    with show_progress(is_first=True) as listener:
        training = Training(Job(
            recipe, report, few, Output(options.output, {
                **recipe.to_dict(), 'init': init.sha256,
                'data': [pair.image.name for pair in few.pairs]}), init,
            device=choose_device('auto'),
            listener=listener))
        show_epoch = listener.on_epoch

        def on_epoch(row: Mapping[str, Any]) -> None:
            show_epoch(row)
            training.is_stopped = row['val_miou'] > MARK  # enough

        listener.on_epoch = on_epoch
        training.run()
    best = training.position.best
    print(f'{len(few)} images: mIoU {best:.4f}, {"above" if best > MARK else "NOT above"} {MARK}')
    return 0 if best > MARK else 1


if __name__ == '__main__':
    sys.exit(main())
