# SPDX-License-Identifier: Apache-2.0
"""Scores from a confusion matrix, counted as Cityscapes' evaluator counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lednet_ros.model.labels import UNLABELLED, LabelSet


class Confusion:
    """Pixels by true and by seen class; the last column holds what was left unlabelled."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes + 1), np.int64)

    def add(self, truth: np.ndarray, seen: np.ndarray) -> None:
        """Count label images, integer of one shape; where `truth` is 255 nothing is counted."""
        classes = len(self.counts)
        known = truth != UNLABELLED
        columns = np.minimum(seen[known], classes).astype(np.int64)
        rows = truth[known].astype(np.int64)  # numpy 1 would go on in uint8, and wrap at 256
        self.counts += np.bincount(
            rows * (classes + 1) + columns, minlength=self.counts.size
        ).reshape(self.counts.shape)

    def scores(self, labels: LabelSet) -> Scores:
        """Return the scores of all that was counted."""
        names = labels.names
        iou = iou_of(self.counts)
        groups = list(labels.categories.items())
        grouped = np.zeros((len(groups), len(groups) + 1), np.int64)
        for row, (_, ids) in enumerate(groups):
            for column, (_, others) in enumerate(groups):
                grouped[row, column] = self.counts[np.ix_(ids, others)].sum()
            grouped[row, -1] = self.counts[ids].sum() - grouped[row].sum()
        total = int(self.counts.sum())
        return Scores(
            {names[i]: float(iou[i]) for i in range(len(names)) if i not in labels.void_ids},
            {name: float(v) for (name, _), v in zip(groups, iou_of(grouped), strict=True)},
            float(np.trace(self.counts)) / total if total else float('nan'), total)


@dataclass(frozen=True)
class Scores:
    """How well labels were seen; 0 to 1. A class that neither is nor was seen has NaN."""

    class_iou: dict[str, float]
    category_iou: dict[str, float]
    pixel_accuracy: float
    pixels: int

    @property
    def miou(self) -> float:
        """Return the mean over the classes that there are."""
        return _mean(self.class_iou)

    @property
    def category_miou(self) -> float:
        """Return the mean over the categories that there are."""
        return _mean(self.category_iou)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; NaN becomes null."""
        def plain(values: dict[str, float]) -> dict[str, float | None]:
            return {k: None if np.isnan(v) else round(v, 6) for k, v in values.items()}
        means = plain({'miou': self.miou, 'category_miou': self.category_miou,
                       'pixel_accuracy': self.pixel_accuracy})
        return {**means, 'class_iou': plain(self.class_iou),
                'category_iou': plain(self.category_iou), 'pixels': self.pixels}


def iou_of(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union by class of counts (C, C + 1); NaN of neither."""
    hits = np.diagonal(counts)
    union = counts.sum(1) + counts[:, :-1].sum(0) - hits
    with np.errstate(invalid='ignore'):
        return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def _mean(values: dict[str, float]) -> float:
    found = [v for v in values.values() if not np.isnan(v)]
    return float(np.mean(found)) if found else float('nan')
