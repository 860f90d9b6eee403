# SPDX-License-Identifier: Apache-2.0
"""Whether confidence is true, and what a `min_confidence` costs and spares on the ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.figure import make_figure
from lednet_ros.model.labels import UNLABELLED, LabelSet
from lednet_ros.projection.traversability import BUILTIN, Traversability
from lednet_ros.training.calibration import BINS, bin_of

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

_CLASSES = 6        # in the table for people; JSON has all
_MAX_CONFIDENCE = 255


class ConfidenceCounts:
    """Pixels by true class, by seen class and by confidence as images hold it, 0 to 255."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes, _MAX_CONFIDENCE + 1), np.int64)

    def add(self, truth: np.ndarray, seen: np.ndarray, confidence: np.ndarray) -> None:
        """Count label images and confidence, integer of one shape; 255 in either is left out."""
        classes = len(self.counts)
        known = (truth != UNLABELLED) & (seen != UNLABELLED)
        rows = truth[known].astype(np.int64) * classes + seen[known]
        self.counts += np.bincount(
            rows * (_MAX_CONFIDENCE + 1) + confidence[known], minlength=self.counts.size
        ).reshape(self.counts.shape)


@dataclass(frozen=True)
class Bin:
    """The pixels whose confidence lies in one range."""

    share: float       # of all pixels, 0 to 1
    confidence: float  # their mean
    accuracy: float    # how many of them are right


@dataclass(frozen=True)
class Reliability:
    """How often pixels are right, by how often they are said to be."""

    bins: tuple[Bin | None, ...]  # of equal width from 0 to 1; None: no pixel

    @classmethod
    def of(cls, counts: np.ndarray) -> Reliability:
        """Judge ConfidenceCounts.counts, int64 (classes, classes, 256)."""
        said = np.arange(_MAX_CONFIDENCE + 1) / _MAX_CONFIDENCE
        pixels, right = counts.sum((0, 1)), np.einsum('iik->k', counts)
        total = max(int(pixels.sum()), 1)
        bins: list[Bin | None] = []
        for place in range(BINS):
            there = bin_of(said) == place
            count = int(pixels[there].sum())
            bins.append(Bin(count / total, float((pixels * said)[there].sum()) / count,
                            float(right[there].sum()) / count) if count else None)
        return cls(tuple(bins))

    @property
    def error(self) -> float:
        """Return the expected calibration error, 0 to 1: the mean distance over all pixels."""
        return sum(b.share * abs(b.confidence - b.accuracy) for b in self.bins if b)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {'expected_calibration_error': round(self.error, 6), 'bins': [
            {'from': round(i / BINS, 6), 'to': round((i + 1) / BINS, 6),
             'share': round(b.share, 6), 'confidence': round(b.confidence, 6),
             'accuracy': round(b.accuracy, 6)} for i, b in enumerate(self.bins) if b]}


@dataclass(frozen=True)
class GroundRow:
    """What one `min_confidence` makes of the free ground. Shares from 0 to 1; NaN: of nothing."""

    min_confidence: float
    lost: float               # of the true free ground, what is not seen as such
    false: float              # of what is seen as free, what is not
    seen_as_free: dict[str, float]  # by class that is not free: the share of it seen as free

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; NaN becomes null."""
        def plain(share: float) -> float | None:
            return None if np.isnan(share) else round(share, 6)
        return {'min_confidence': self.min_confidence, 'ground_lost': plain(self.lost),
                'false_of_free': plain(self.false),
                'seen_as_free': {name: plain(v) for name, v in self.seen_as_free.items()}}


def ground_rows(
    counts: np.ndarray, traversability: Traversability,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[GroundRow]:
    """
    Return a row for each threshold of ConfidenceCounts.counts.

    Pixels seen as unlabelled are in no count: shares are of what has a label.
    """
    labels = traversability.labels
    is_free = traversability.says('free')[:len(labels)]
    totals = counts.sum((1, 2))
    rows = []
    for threshold in thresholds:
        # As the Segmenter does: what is less certain becomes 255.
        kept = np.arange(_MAX_CONFIDENCE + 1) >= threshold * _MAX_CONFIDENCE
        seen = counts[:, is_free][:, :, kept].sum((1, 2))
        true, false = int(seen[is_free].sum()), int(seen[~is_free].sum())
        rows.append(GroundRow(
            threshold, 1 - _share(true, int(totals[is_free].sum())), _share(false, true + false),
            {labels.names[i]: _share(int(seen[i]), int(totals[i]))
             for i in np.flatnonzero(~is_free) if i not in labels.void_ids}))
    return rows


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float('nan')


def ground_table(rows: Sequence[GroundRow]) -> Iterator[str]:
    """Say it to people, in percent; of the classes those most often seen as free."""
    first = {name: share for name, share in rows[0].seen_as_free.items() if share > 0}
    names = sorted(first, key=lambda name: -first[name])[:_CLASSES]
    widths = [max(len(name), 6) + 2 for name in names]
    yield 'min_confidence  ground lost  false of free  of each class, seen as free:'
    yield ' ' * 42 + ''.join(f'{name:>{w}}' for name, w in zip(names, widths, strict=True))
    for row in rows:
        cells = [row.seen_as_free[name] for name in names]
        yield (f'{row.min_confidence:>14.2f}{_percent(row.lost):>13}{_percent(row.false):>15}'
               + ''.join(f'{_percent(v):>{w}}' for v, w in zip(cells, widths, strict=True)))


def _percent(share: float) -> str:
    return '-' if np.isnan(share) else f'{100 * share:.2f}'


def find_traversability(name: str, labels: LabelSet) -> Traversability | None:
    """
    Load a traversability by name or file; '': the one of these labels, None where none is.

    Raise ConfigError for one of other classes.
    """
    if not name:
        if labels.name not in BUILTIN:
            return None
        found = Traversability.load(labels.name)
        return found if found.labels.names == labels.names else None
    found = Traversability.load(name)
    if found.labels.names != labels.names:
        raise ConfigError(
            f'traversability {name}: is of {found.labels.name}, but the images are labelled by '
            f'{labels.name}: give a file with a word for each of {", ".join(labels.names)}')
    return found


def draw_reliability(reliability: Reliability, title: str, path: Path) -> None:
    """
    Draw how often pixels are right by how often they are said to be, and how many there are.

    Raise ConfigError where matplotlib is missing.
    """
    figure = make_figure(5.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = np.arange(BINS) / BINS
    accuracy = [b.accuracy if b else 0.0 for b in reliability.bins]
    said = [(b.confidence, b.accuracy) for b in reliability.bins if b]
    upper.bar(edges, accuracy, 1 / BINS, align='edge', color='#7aa6d6', edgecolor='white',
              label='are right')
    upper.plot([0, 1], [0, 1], color='black', linestyle='--', linewidth=1,
               label='as often as said')
    upper.plot(*zip(*said, strict=True), 'o', color='#c0392b', markersize=3,
               label='mean confidence in the bin')
    upper.set_ylabel('share of the pixels that are right')
    upper.set_ylim(0, 1)
    upper.legend(loc='upper left', frameon=False, fontsize=8)
    upper.set_title(f'{title}: expected calibration error {100 * reliability.error:.2f} %',
                    fontsize=10)
    lower.bar(edges, [100 * b.share if b else 0.0 for b in reliability.bins], 1 / BINS,
              align='edge', color='#999999', edgecolor='white')
    if any(b and b.share > 0 for b in reliability.bins):  # else all is void, and matplotlib warns
        lower.set_yscale('log')
    lower.set_ylabel('pixels, %')
    lower.set_xlabel('confidence')
    lower.set_xlim(0, 1)
    figure.savefig(path, dpi=110)


def draw_ground(rows: Sequence[GroundRow], path: Path) -> None:
    """Draw what each `min_confidence` costs and spares. Raise ConfigError without matplotlib."""
    figure = make_figure(6.2, 4.2)
    axes = figure.subplots()
    axes.plot([100 * row.lost for row in rows], [100 * row.false for row in rows], 'o-',
              color='#c0392b')
    for row in rows:
        axes.annotate(f'{row.min_confidence:g}', (100 * row.lost, 100 * row.false),
                      textcoords='offset points', xytext=(5, 5), fontsize=8)
    axes.set_xlabel('true free ground that is lost, %')
    axes.set_ylabel('of what is seen as free, what is not, %')
    axes.set_title('free ground by min_confidence', fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
