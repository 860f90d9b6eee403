# SPDX-License-Identifier: Apache-2.0
"""How well a checkpoint, run as a robot runs it, sees a labelled split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lednet_ros.datasets.checks import (
    classes_without_pixels,
    refuse_binary_masks,
    require_classes,
    scored_ids,
)
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.labels import LabelSet
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.metrics import Confusion, Scores
from lednet_ros.training.reliability import ConfidenceCounts

WRAP = 21  # classes in a row of the table: the paper's width


@dataclass(frozen=True)
class FrameScore:
    """How well one frame was seen."""

    index: int     # of the data set
    name: str
    miou: float    # over the classes that are in it
    confusion: np.ndarray  # int64 (classes, classes + 1), as that of the whole


@dataclass(frozen=True)
class Evaluation:
    """What came out of a whole split."""

    scores: Scores
    confusion: np.ndarray  # int64 (classes, classes + 1): true, seen; the last: left unlabelled
    frames: tuple[FrameScore, ...]
    backend: str
    confidence: np.ndarray  # int64 (classes, classes, 256): true, seen, 255 x confidence


def evaluate(
    segmenter: Segmenter, data: DataSet, on_frame: Callable[[], None] = lambda: None
) -> Evaluation:
    """Score label images of the camera's size against a split. Raise ConfigError, DataError."""
    require_classes(segmenter.checkpoint.name, segmenter.labels, data)
    total, sure = Confusion(len(data.labels)), ConfidenceCounts(len(data.labels))
    values = np.zeros(256, np.int64)
    frames = []
    for index in range(len(data)):
        image, found, _ = data.read_values(index)
        values += np.bincount(found.ravel(), minlength=256)
        truth = data.to_id[found]
        seen = segmenter.segment([image], rgb=True, confidence=True)[0]
        one = Confusion(len(data.labels))
        one.add(truth, seen.labels)
        assert seen.confidence is not None
        sure.add(truth, seen.labels, seen.confidence)
        total.counts += one.counts
        present = one.counts.sum(1) > 0
        iou = [v for v, there in zip(one.scores(data.labels).class_iou.values(),
                                     present[scored_ids(data.labels)], strict=True) if there]
        frames.append(FrameScore(index, data.pairs[index].image.name,
                                 float(np.mean(iou)) if iou else float('nan'), one.counts))
        on_frame()
    refuse_binary_masks(data, values)
    return Evaluation(total.scores(data.labels), total.counts, tuple(frames), segmenter.backend,
                      sure.counts)


def left_out(result: Evaluation, labels: LabelSet) -> Iterator[str]:
    """Yield which classes no pixel has, and what became of them in the means."""
    truth = result.confusion.sum(1)
    absent = classes_without_pixels(labels, truth)
    wrongly = [name for name in absent if not np.isnan(result.scores.class_iou[name])]
    nowhere = [name for name in absent if name not in wrongly]
    if nowhere:
        yield f'no pixel is labelled {", ".join(nowhere)}: left out of the mean'
    if wrongly:
        yield f'no pixel is labelled {", ".join(wrongly)}, but some are seen as that: counts as 0'


def table(scores: Scores) -> Iterator[str]:
    """Yield the scores in percent as Table 3 of the paper has them, then by category."""
    def rows(values: dict[str, float], means: dict[str, float]) -> Iterator[str]:
        cells = [(short_name(name, values), v) for name, v in values.items()] + list(means.items())
        for i in range(0, len(cells), WRAP):
            part = [(name, '-' if np.isnan(v) else f'{100 * v:.1f}')
                    for name, v in cells[i:i + WRAP]]
            widths = [max(4, len(name), len(value)) + 1 for name, value in part]
            for row in zip(*part, strict=True):
                yield ''.join(f'{cell:>{w}}' for cell, w in zip(row, widths, strict=True))

    yield from rows(scores.class_iou, {'Cla': scores.miou, 'Cat': scores.category_miou})
    yield ''
    yield from rows(scores.category_iou, {'Cat': scores.category_miou})
    yield ''
    yield (f'class mIoU {100 * scores.miou:.2f}, category mIoU {100 * scores.category_miou:.2f}, '
           f'pixel accuracy {100 * scores.pixel_accuracy:.2f}, of {scores.pixels} pixels')


def short_name(name: str, names: dict[str, float]) -> str:
    """Shorten a name as the paper does: 'Roa', 'TLi'; in full where that names two."""
    def short(name: str) -> str:
        words = name.title().split() or [name]
        return words[0][:3] if len(words) < 2 else words[0][0] + words[1][:2]

    return short(name) if [short(n) for n in names].count(short(name)) == 1 else name
