# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints on the same images: by class, by frame, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lednet_ros.model.labels import LabelSet
from lednet_ros.training.evaluate import Evaluation
from lednet_ros.training.metrics import iou_of

RESAMPLES = 2000
EVEN = 0.001  # of a frame's mIoU: a smaller difference is neither won nor lost

_BLOCKS = 20  # of neighbouring frames, that are drawn together, as they are much alike


@dataclass(frozen=True)
class Comparison:
    """How much better the first of two is. Scores and their differences from 0 to 1."""

    names: tuple[str, str]
    classes: dict[str, tuple[float, float]]  # IoU of both; NaN where a class is nowhere
    miou: tuple[float, float]
    interval: tuple[float, float]  # of the difference of mIoU: 95 % of the resamples
    better: float                  # the share of the resamples in which the first is better
    differences: np.ndarray        # float (frames,): of each frame's mIoU

    @property
    def won(self) -> int:
        """Return how many frames the first sees better."""
        return int((self.differences > EVEN).sum())

    @property
    def lost(self) -> int:
        """Return how many frames the first sees worse."""
        return int((self.differences < -EVEN).sum())

    def table(self) -> Iterator[str]:
        """Say it to people, in percent."""
        width = max(map(len, (*self.classes, 'class mIoU')))
        yield f'{"":<{width}}  {self.names[0]} - {self.names[1]}'
        for name, values in (*self.classes.items(), ('class mIoU', self.miou)):
            yield (f'{name:<{width}}' + ''.join(f'{_percent(v):>8}' for v in values)
                   + f'{100 * (values[0] - values[1]):>+9.2f}')
        low, high = (100 * v for v in self.interval)
        yield (f'frames won {self.won}, lost {self.lost}, even '
               f'{len(self.differences) - self.won - self.lost}')
        yield (f'difference of mIoU {100 * (self.miou[0] - self.miou[1]):+.2f}, 95 % of '
               f'{RESAMPLES} resamples {low:+.2f} to {high:+.2f}; better in '
               f'{100 * self.better:.0f} % of them: '
               + ('no chance of these frames' if low > 0 or high < 0 else
                  'may be chance of these frames'))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; NaN becomes null."""
        def plain(value: float) -> float | None:
            return None if np.isnan(value) else round(float(value), 6)
        return {'names': list(self.names), 'miou': list(map(plain, self.miou)),
                'class_iou': {name: list(map(plain, v)) for name, v in self.classes.items()},
                'difference': plain(self.miou[0] - self.miou[1]),
                'interval_95': list(map(plain, self.interval)), 'better': plain(self.better),
                'frames_won': self.won, 'frames_lost': self.lost}


def compare(
    first: Evaluation, second: Evaluation, labels: LabelSet, names: tuple[str, str]
) -> Comparison:
    """Compare two evaluations of the same images."""
    scored = [i for i in range(len(labels)) if i not in labels.void_ids]
    counts = np.stack([np.stack([frame.confusion for frame in evaluation.frames])
                       for evaluation in (first, second)])  # (2, frames, classes, classes + 1)
    weights = _resamples(counts.shape[1]).astype(np.float64)
    means = []
    for one in counts:
        sums = (weights @ one.reshape(len(one), -1)).reshape(-1, *one.shape[1:])  # whole numbers
        means.append(np.array([_mean(iou_of(matrix)[scored]) for matrix in sums]))
    difference = means[0] - means[1]
    low, high = np.quantile(difference, (0.025, 0.975))
    return Comparison(
        names, {name: (iou, second.scores.class_iou[name])
                for name, iou in first.scores.class_iou.items()},
        (first.scores.miou, second.scores.miou), (float(low), float(high)),
        float((difference > 0).mean()),
        np.array([a.miou - b.miou for a, b in zip(first.frames, second.frames, strict=True)]))


def _resamples(frames: int) -> np.ndarray:
    """Return how often each frame is in each resample, int64 (RESAMPLES, frames)."""
    blocks = np.arange(frames) * min(_BLOCKS, frames) // frames
    count = int(blocks[-1]) + 1
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
    return drawn[:, blocks]


def _mean(values: np.ndarray) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else float('nan')


def _percent(share: float) -> str:
    return '-' if np.isnan(share) else f'{100 * share:.2f}'
