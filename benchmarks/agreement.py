#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
How much of a road without labels keeps its class under another view, by checkpoint.

    benchmarks/agreement.py VIDEO [VIDEO ...] --checkpoints FILE [FILE ...] [--frames N]

Of N frames of each video, spread evenly: the share of the pixels that have the same class
mirrored, at 0.75 and 1.25 times the size, brighter, and in a warmer light; and how sure it is of
them by its temperature. Who is sure of a mistake agrees with itself too: look at pictures as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.model.lednet import resize
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.letterbox import Fit, place_all
from lednet_ros.training.calibration import softmax

VIEWS = ('mirrored', '0.75', '1.25', 'brighter', 'warmer')
BRIGHTER = (255 * (np.arange(256) / 255) ** 0.7).astype(np.uint8)
WARMER = np.array([1.15, 1.0, 0.85])


class Network:
    """Gives the scores of images, uint8 (H, W, 3) RGB, at a share of the checkpoint's input."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing).eval()
        self._metadata = checkpoint.metadata

    @torch.no_grad()
    def __call__(self, image: np.ndarray, share: float = 1.0) -> np.ndarray:
        """Return float32 (C, h, w), without the letterbox's bars."""
        size = (8 * round(self._metadata.input_height * share / 8),
                8 * round(self._metadata.input_width * share / 8))
        fit = Fit.make(image.shape[:2], size, 'letterbox')
        scores = resize(self._graph(torch.from_numpy(place_all([image], [True], [fit]))), size)
        return np.asarray(scores[0, :, fit.top:fit.top + fit.height,
                                 fit.left:fit.left + fit.width].numpy())


def agreement(network: Network, image: np.ndarray, temperature: float) -> np.ndarray:
    """Return the shares of the pixels that agree, by view, and the mean confidence, 0 to 1."""
    scores = network(image)
    labels = scores.argmax(0).astype(np.uint8)
    others = [
        network(image[:, ::-1])[:, :, ::-1].argmax(0),
        *(cv2.resize(network(image, share).argmax(0).astype(np.uint8), labels.shape[::-1],
                     interpolation=cv2.INTER_NEAREST) for share in (0.75, 1.25)),
        network(cv2.LUT(image, BRIGHTER)).argmax(0),
        network((image * WARMER).clip(0, 255).astype(np.uint8)).argmax(0)]
    sure = softmax(scores.reshape(len(scores), -1).T, temperature).max(1).mean()
    return np.array([*((other == labels).mean() for other in others), sure])


def frames_of(video: Path, count: int) -> Iterator[np.ndarray]:
    """Yield so many frames, spread evenly, uint8 (H, W, 3) RGB."""
    capture = cv2.VideoCapture(str(video))
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    for k in range(count):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int((k + 0.5) * length / count))
        is_read, frame = capture.read()
        if is_read:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def main() -> None:
    """Print a row for each checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('videos', nargs='+', type=Path, metavar='VIDEO')
    parser.add_argument('--checkpoints', nargs='+', required=True, metavar='FILE')
    parser.add_argument('--frames', type=int, default=4, metavar='N')
    options = parser.parse_args()
    frames = [frame for video in options.videos for frame in frames_of(video, options.frames)]
    if not frames:
        parser.error('no frame of these can be read')
    print(f'{len(frames)} frames; the same class, in percent of the pixels\n\n'
          f'| checkpoint | all | {" | ".join(VIEWS)} | confidence |\n'
          f'|---|---|{"---|" * len(VIEWS)}---|')
    for name in options.checkpoints:
        checkpoint = load_checkpoint(name)
        network = Network(checkpoint)
        found = 100 * np.mean([agreement(network, frame, checkpoint.metadata.temperature)
                               for frame in frames], axis=0)
        cells = [found[:-1].mean(), *found]
        print(f'| {checkpoint.name} | {" | ".join(f"{value:.2f}" for value in cells)} |',
              flush=True)


if __name__ == '__main__':
    main()
