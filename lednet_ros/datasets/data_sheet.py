# SPDX-License-Identifier: Apache-2.0
"""A data set on one sheet: labelled samples, the legend, each class's share, and the sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lednet_ros.datasets.checks import DataReport
from lednet_ros.datasets.sheet import labelled, write_sheet
from lednet_ros.images.annotate import Share, legend
from lednet_ros.model.labels import UNLABELLED

DATA_SHEET = 'data.png'
_SAMPLES = (('train', 8), ('val', 4))
_COLUMNS = 4
_CARD_WIDTH = 620
_TITLE, _ROW = 64, 22  # of a legend, in pixels


def write_data_sheet(train: DataReport, val: DataReport, path: Path) -> bool:
    """
    Write twelve labelled samples of both splits, beside them each split's classes by share.

    Return whether there is one that can be read. Raise ConfigError, DataError.
    """
    reports = {'train': train, 'val': val}
    pictures = []
    for split, count in _SAMPLES:
        report = reports[split]
        for index in choose_samples(report, count):
            image, labels = report.data.read(index)
            pictures.append((labelled(image, labels, report.data.labels),
                             f'{split}: {report.data.pairs[index].image.name}'))
    if pictures:
        room = _TITLE + _ROW * (len(train.data.labels) // 2 + 1)  # for all classes
        write_sheet(pictures, _COLUMNS, path, lambda height: np.vstack([
            _card(report, max(room, height // 2)) for report in reports.values()]))
    return bool(pictures)


def choose_samples(report: DataReport, count: int) -> list[int]:
    """Return indices of good pairs, in order: of the rarest classes first, then spread evenly."""
    pixels = report.by_image
    chosen: list[int] = []
    for id_ in np.argsort(report.frequencies, kind='stable'):
        if not report.frequencies[id_] or len(chosen) == count // 2:
            continue
        if not any(pixels[place, id_] for place in chosen):
            chosen.append(int(pixels[:, id_].argmax()))
    even = np.linspace(0, len(pixels) - 1, min(count, len(pixels))).round().astype(int)
    chosen += [place for place in even.tolist() if place not in chosen]
    return [report.good[place] for place in sorted(chosen[:count])]


def _card(report: DataReport, height: int) -> np.ndarray:
    """Draw a split's classes with their shares of all pixels, and its images and sizes."""
    data = report.data
    total = max(int(report.values.sum()), 1)
    rows = [Share(c.name, c.color, int(report.pixels[i]) / total)
            for i, c in enumerate(data.labels.classes) if not c.void]
    rows.append(Share('not labelled', (0, 0, 0), int(report.pixels[UNLABELLED]) / total))
    title = f'{data.split}: {len(report.good)} images, {", ".join(_sizes(report))}'
    return legend(height, _CARD_WIDTH, rows, title)


def _sizes(report: DataReport) -> Iterator[str]:
    for (height, width), _ in report.sizes.most_common(2):
        yield f'{width}x{height}'
    if len(report.sizes) > 2:
        yield f'{len(report.sizes) - 2} more sizes'
