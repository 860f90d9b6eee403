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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.segmentation import Segmenter, SegmenterConfig

VIEWS = ('mirrored', '0.75', '1.25', 'brighter', 'warmer')
BRIGHTER = (255 * (np.arange(256) / 255) ** 0.7).astype(np.uint8)
WARMER = np.array([0.85, 1.0, 1.15])  # of BGR


def at_share(checkpoint: Checkpoint, share: float) -> Segmenter:
    """Return what runs a checkpoint at a share of its input's size."""
    height, width = (8 * round(side * share / 8) for side in (
        checkpoint.metadata.input_height, checkpoint.metadata.input_width))
    return Segmenter(checkpoint, SegmenterConfig(input_height=height, input_width=width))


def agreement(segmenters: Mapping[float, Segmenter], image: np.ndarray) -> np.ndarray:
    """
    Return the shares of the pixels that agree, by view, and the mean confidence, 0 to 1.

    The image is uint8 (H, W, 3) BGR; there is a segmenter of each share of the input's size.
    """
    def labels(seen: np.ndarray, share: float = 1.0) -> np.ndarray:
        return segmenters[share].segment([seen])[0].labels

    plain = segmenters[1.0].segment([image], confidence=True)[0]
    others = [
        labels(np.ascontiguousarray(image[:, ::-1]))[:, ::-1],
        labels(image, 0.75), labels(image, 1.25), labels(cv2.LUT(image, BRIGHTER)),
        labels((image * WARMER).clip(0, 255).astype(np.uint8))]
    assert plain.confidence is not None
    return np.array([*((other == plain.labels).mean() for other in others),
                     plain.confidence.mean() / 255])


def frames_of(video: Path, count: int) -> Iterator[np.ndarray]:
    """Yield so many frames, spread evenly, uint8 (H, W, 3) BGR."""
    capture = cv2.VideoCapture(str(video))
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    for k in range(count):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int((k + 0.5) * length / count))
        is_read, frame = capture.read()
        if is_read:
            yield frame


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
        with ExitStack() as stack:
            segmenters = {share: stack.enter_context(at_share(checkpoint, share))
                          for share in (0.75, 1.0, 1.25)}
            found = 100 * np.mean([agreement(segmenters, frame) for frame in frames], axis=0)
        cells = [found[:-1].mean(), *found]
        print(f'| {checkpoint.name} | {" | ".join(f"{value:.2f}" for value in cells)} |',
              flush=True)


if __name__ == '__main__':
    main()
