#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Average the weights of checkpoints that were trained from one another, and score the result.

    tools/average_checkpoints.py DATA OUT CHECKPOINT CHECKPOINT [...] [--calibration-of CHECKPOINT]

The mean of such weights sees as well as the best of them, often better, and costs nothing more to
run (Wortsman et al., "Model soups", 2022). OUT gets the record of the last checkpoint, the hashes
of all of them as `averaged`, scores on DATA's val split, and a temperature fitted to that. Where a
training learnt from val too, confidence there says nothing of other images: --calibration-of takes
temperature and score floors from a checkpoint that did not, and the scores are called by that.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lednet_ros.common.atomic_file import require_place  # noqa: E402
from lednet_ros.common.command import command  # noqa: E402
from lednet_ros.common.errors import ConfigError  # noqa: E402
from lednet_ros.datasets.layouts import open_data_set  # noqa: E402
from lednet_ros.model.checkpoint import (  # noqa: E402
    Checkpoint,
    load_checkpoint,
    write_checkpoint,
)
from lednet_ros.segmentation import Segmenter, SegmenterConfig  # noqa: E402
from lednet_ros.training.calibration import calibrate, write_calibrated  # noqa: E402
from lednet_ros.training.evaluate import evaluate  # noqa: E402


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Return the mean, with the last one's record. Raise ConfigError where they do not fit."""
    *others, last = checkpoints
    states = [one.network.state_dict() for one in checkpoints]
    for one, state in zip(others, states[:-1], strict=True):
        if (one.labels != last.labels or one.preprocessing != last.preprocessing
                or {name: value.shape for name, value in state.items()}
                != {name: value.shape for name, value in states[-1].items()}):
            raise ConfigError(f'{one.name} and {last.name}: are of different networks, classes or '
                              'preprocessing: give checkpoints trained from one another')
    network = copy.deepcopy(last.network)
    network.load_state_dict({
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        for name, value in states[-1].items()})
    training = {**last.metadata.training, 'averaged': [one.sha256 for one in checkpoints]}
    return Checkpoint(network, last.labels, last.preprocessing, replace(
        last.metadata, training=training, temperature=1.0, score_floors=None))


@command('average_checkpoints')
def main(argv: Sequence[str] | None = None) -> int:
    """Write the mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument('--calibration-of', type=Path, metavar='CHECKPOINT')
    options = parser.parse_args(argv)
    if len(options.checkpoints) < 2:
        parser.error('give two checkpoints or more')
    require_place(options.out)
    val = open_data_set(options.data, 'val')
    mean = average([load_checkpoint(path) for path in options.checkpoints])
    unseen = load_checkpoint(options.calibration_of) if options.calibration_of else None
    if unseen and 'calibration' not in unseen.metadata.training:
        raise ConfigError(f'{unseen.name}: is not calibrated: give one that lednet_train or '
                          'lednet_evaluate --calibrate wrote')
    with Segmenter(mean, SegmenterConfig(backend='torch', device='cpu')) as segmenter:
        scores = evaluate(segmenter, val).scores
    if unseen:
        calibration = {**unseen.metadata.training['calibration'], 'of': unseen.sha256}
        write_checkpoint(options.out, replace(mean, metadata=replace(
            mean.metadata, training={**mean.metadata.training, 'calibration': calibration},
            scores={'val, learnt from': scores.to_dict()},
            temperature=unseen.metadata.temperature,
            score_floors=unseen.metadata.score_floors)))
        print(f'{options.out}: val, learnt from, mIoU {scores.miou:.4f}; temperature '
              f'{unseen.metadata.temperature:.3f} of {unseen.name}')
        return 0
    found = calibrate(mean, val, torch.device('cpu'))
    write_calibrated(replace(mean, metadata=replace(
        mean.metadata, scores={'val': scores.to_dict()})), found, options.out)
    print(f'{options.out}: val mIoU {scores.miou:.4f}; {found}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
