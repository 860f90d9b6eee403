# SPDX-License-Identifier: Apache-2.0
"""An evaluation in pictures: the confusion matrix, and the frames seen best and worst."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.errors import ConfigError
from lednet_ros.labels import UNLABELLED, LabelSet
from lednet_ros.panels import captioned_grid
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.datasets import DataSet
from lednet_ros.training.evaluate import Evaluation

_WRONG = (235, 60, 50)  # RGB of a pixel seen as another class


def write_pictures(
    result: Evaluation, segmenter: Segmenter, data: DataSet, directory: Path, count: int
) -> Iterator[Path]:
    """Write confusion.png and `count` of the best and of the worst frames; give their paths.

    Raises ConfigError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / 'confusion.png'
        draw_confusion(result.confusion, data.labels, path)
        yield path
        ranked = sorted((f for f in result.frames if not np.isnan(f.miou)), key=lambda f: -f.miou)
        for kind, frames in (('best', ranked[:count]), ('worst', ranked[::-1][:count])):
            for place, frame in enumerate(frames, 1):
                image, truth = data.read(frame.index)
                seen = segmenter.segment([image], rgb=True)[0].labels
                picture = frame_picture(
                    image, truth, seen, data.labels, f'{frame.name}: mIoU {100 * frame.miou:.1f}')
                path = directory / f'{kind}_{place}.png'
                if not cv2.imwrite(str(path), picture[..., ::-1]):
                    raise ConfigError(f'{path}: cannot be written: make room on the disk')
                yield path
    except OSError as error:
        raise ConfigError(f'{directory}: cannot be written to: {error.strerror}: choose another '
                          '--output') from error


def frame_picture(
    image: np.ndarray, truth: np.ndarray, seen: np.ndarray, labels: LabelSet, title: str
) -> np.ndarray:
    """Show a frame, what it is, what was seen and where that is wrong: uint8 (H, W, 3) RGB."""
    wrong = (truth != UNLABELLED) & (truth != seen)
    mistakes = image // 3
    mistakes[wrong] = _WRONG
    mistakes[truth == UNLABELLED] = 0
    return captioned_grid([
        (image, title), (labels.palette[truth], 'labelled'), (labels.palette[seen], 'seen'),
        (mistakes, f'wrong: {100 * wrong.sum() / max((truth != UNLABELLED).sum(), 1):.1f} %')])


def draw_confusion(counts: np.ndarray, labels: LabelSet, path: Path) -> None:
    """Draw which class, int64 (classes, classes + 1), is seen as which, in percent of its pixels.

    Raises ConfigError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f'drawing needs matplotlib ({error}): pip install '
                          'matplotlib') from error
    rows = [i for i in range(len(labels)) if i not in labels.void_ids]
    columns = [*rows, len(labels)] if counts[:, -1].any() else rows
    names = [*labels.names, 'unlabelled']
    shares = 100 * counts[np.ix_(rows, columns)] / np.maximum(counts[rows].sum(1), 1)[:, None]
    figure = Figure(figsize=(1.8 + 0.55 * len(columns), 1.4 + 0.5 * len(rows)),
                    layout='constrained')
    axes = figure.subplots()
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=100, aspect='auto')
    axes.set_xticks(range(len(columns)), [names[i] for i in columns], rotation=45, ha='right')
    axes.set_yticks(range(len(rows)), [names[i] for i in rows])
    axes.set_xlabel('seen as')
    axes.set_ylabel('is')
    axes.set_title("percent of the class's pixels")
    for y, x in np.ndindex(shares.shape):
        if shares[y, x] >= 0.5:
            axes.text(x, y, f'{shares[y, x]:.0f}', ha='center', va='center', fontsize=9,
                      color='white' if shares[y, x] > 55 else 'black')
    figure.savefig(path, dpi=110)
