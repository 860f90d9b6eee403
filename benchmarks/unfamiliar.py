# SPDX-License-Identifier: Apache-2.0
"""
What unfamiliar_share finds and costs, beside a min_confidence that costs as much.

benchmarks/unfamiliar.py DATA [--split val] [--every N] [--checkpoint FILE] [IMAGE ...]

Of the labelled pixels of a split, what becomes 255 of them all (the cost), of those seen wrongly,
of those without a class, and of pictures that show something else altogether: images given, a
black, an overexposed and a noisy frame, and one far out of focus.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.model.labels import UNLABELLED
from lednet_ros.model.lednet import resize
from lednet_ros.model.score_floors import SHARES
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.letterbox import Fit, place_all
from lednet_ros.training.calibration import softmax


class Scorer:
    """Sees images as the node does: class, its score and its confidence, each (H, W)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing).eval()
        self._size = checkpoint.metadata.input_height, checkpoint.metadata.input_width
        self._temperature = checkpoint.metadata.temperature

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See an image, uint8 (H, W, 3) RGB."""
        fit = Fit.make(image.shape[:2], self._size, 'letterbox')
        frame = torch.from_numpy(place_all([image], [True], [fit]))
        scores = resize(self._graph(frame), self._size)[0].flatten(1).numpy().T
        sure = softmax(scores, self._temperature).max(1)
        return tuple(fit.back(v.astype(np.float32).reshape(self._size))  # type: ignore[return-value]
                     for v in (scores.argmax(1), scores.max(1), sure))


def strange(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield frames that show no street, of an image's size."""
    yield 'black', np.full_like(image, 5)
    yield 'overexposed', np.full_like(image, 250)
    yield 'noise', np.random.default_rng(0).integers(0, 255, image.shape).astype(np.uint8)
    yield 'out of focus', cv2.GaussianBlur(image, (0, 0), image.shape[0] / 9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', type=Path)
    parser.add_argument('images', type=Path, nargs='*')
    parser.add_argument('--split', default='val')
    parser.add_argument('--every', type=int, default=4)
    parser.add_argument('--checkpoint', type=Path, default=default_checkpoint())
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    assert checkpoint.metadata.score_floors, 'the checkpoint has no score_floors'
    see = Scorer(checkpoint)
    data = open_data_set(args.data, args.split)
    data = replace(data, pairs=data.pairs[::args.every])
    pixels = []
    for index in range(len(data)):
        image, truth = data.read(index)
        pixels.append(np.stack([v.ravel() for v in (*see(image), truth.astype(np.float32))]))
    seen, best, sure, truth = np.concatenate(pixels, 1)
    known = truth != UNLABELLED
    kinds = {name: (which, seen, best, sure) for name, which in (
        ('labelled', known), ('wrong', known & (seen != truth)), ('no class', ~known))}
    foreign = [(path.stem[:12], np.asarray(cv2.imread(str(path)))[..., ::-1].copy())
               for path in args.images]
    for name, picture in [*foreign, *strange(image)]:
        looks = see(picture)
        kinds[name] = np.ones(looks[0].shape, bool), *looks
    print('percent of the pixels that become 255, by unfamiliar_share / by a min_confidence that '
          'takes as many of the labelled')
    print(f'{"":>6}' + ''.join(f'{name:>16}' for name in kinds))
    for share in SHARES:
        floors = np.array(checkpoint.metadata.score_floors.at(share))
        cost = (best[known] < floors[seen[known].astype(int)]).mean()
        threshold = np.quantile(sure[known], cost)
        cells = []
        for which, classes, score, certainty in kinds.values():
            low = score[which] < floors[classes[which].astype(int)]
            unsure = certainty[which] < threshold
            cells.append(f'{100 * low.mean():.1f} / {100 * unsure.mean():.1f}')
        print(f'{share:>6}' + ''.join(f'{cell:>16}' for cell in cells))


if __name__ == '__main__':
    main()
