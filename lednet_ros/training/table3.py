# SPDX-License-Identifier: Apache-2.0
"""Checkpoints beside each other in the columns of the paper's Table 3, over time and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.figure import make_figure
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.model.networks import entry_of
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.training.evaluate import evaluate, short_name
from lednet_ros.training.metrics import Scores

ROUNDS = 5  # of one frame for each in turn
# The paper's own Table 3, in percent, on Cityscapes' test split: 19 classes, Cla, Cat. Its rows of
# ERFNet and ICNet are left out, as the text of the paper at hand has no figures there.
PAPER = {
    'SegNet': '96.4 73.2 84.0 28.4 29.0 35.7 39.8 45.1 87.0 63.8 91.8 62.8 42.8 89.3 38.1 43.1 '
              '44.1 35.8 51.9 57.0 79.1',
    'ENet': '96.3 74.2 75.0 32.2 33.2 43.4 34.1 44.0 88.6 61.4 90.6 65.5 38.4 90.6 36.9 50.5 48.1 '
            '38.8 55.4 58.3 80.4',
    'ESPNet': '97.0 77.5 76.2 35.0 36.1 45.0 35.6 46.3 90.8 63.2 92.6 67.0 40.9 92.3 38.1 52.5 '
              '50.1 41.8 57.2 60.3 82.2',
    'CGNet': '95.5 78.7 88.1 40.0 43.0 54.1 59.8 63.9 89.6 67.6 92.9 74.9 54.9 90.2 44.1 59.5 '
             '25.2 47.3 60.2 64.8 85.7',
    'LEDNet': '97.1 78.6 90.4 46.5 48.1 60.9 60.4 71.1 91.2 60.0 93.2 74.3 51.8 92.3 61.0 72.4 '
              '51.0 43.3 70.2 69.2 86.8',
    'LEDNet, coarse too': '98.1 79.5 91.6 47.7 49.9 62.8 61.3 72.8 92.6 61.2 94.9 76.2 53.7 90.9 '
                          '64.4 64.0 52.7 44.4 71.6 70.6 87.1',
}


@dataclass(frozen=True)
class Row:
    """One checkpoint."""

    name: str        # of the file, without its suffix
    network: str     # LEDNet, ENet, ...
    parameters: int
    scores: Scores
    ms: float        # of a frame, camera to labels: the median of ROUNDS, taking turns
    backend: str


@dataclass(frozen=True)
class Table3:
    """All of one run."""

    data: str
    split: str
    images: int
    is_cityscapes: bool
    rows: tuple[Row, ...]

    def lines(self) -> Iterator[str]:
        """Yield the table in percent; of Cityscapes with the paper's rows below."""
        names = self.rows[0].scores.class_iou
        header = [*(short_name(name, names) for name in names), 'Cla', 'Cat']
        table = [('', header)] + [(_title(row), _cells(row.scores)) for row in self.rows]
        if self.is_cityscapes:
            table += [(f'{name} (paper, test split)', cells.split())
                      for name, cells in PAPER.items()]
        first = max(len(title) for title, _ in table)
        widths = [max(6, len(name) + 1) for name in header]
        for title, cells in table:
            shown = (f'{cell:>{w}}' for cell, w in zip(cells, widths, strict=True))
            yield f'{title:<{first}}' + ''.join(shown)
        yield ''
        for row in self.rows:
            yield (f'{_title(row)}: class mIoU {100 * row.scores.miou:.2f}, '
                   f'{row.parameters / 1e6:.2f} M parameters, {row.ms:.1f} ms a frame by '
                   f'{row.backend}')

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        rows = [{**asdict(row), 'scores': row.scores.to_dict()} for row in self.rows]
        return {'data': self.data, 'split': self.split, 'images': self.images, 'rows': rows}

    def draw(self, directory: Path) -> Path:
        """Draw mIoU over time, as large as the networks are. Return the picture's path."""
        figure = make_figure(7, 5)
        axes = figure.add_subplot()
        for row in self.rows:
            axes.scatter(row.ms, 100 * row.scores.miou, 60 * row.parameters / 1e5, alpha=0.5)
            axes.annotate(f'{row.name}, {row.parameters / 1e6:.2f} M',
                          (row.ms, 100 * row.scores.miou))
        axes.set_xscale('log')
        for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatter('{x:g}')
        axes.margins(0.25, 0.15)  # room for the largest and for what stands beside the last
        axes.set_xlabel('ms a frame, camera to labels, on this machine')
        axes.set_ylabel(f'class mIoU in % on {self.split} of {self.data}')
        axes.grid(alpha=0.3)
        path = directory / 'table3.png'
        try:
            figure.savefig(path, dpi=120)
        except OSError as error:
            raise ConfigError(f'{path}: cannot be written: {error.strerror}: choose another '
                              '--output') from error
        return path


def measure(
    files: Sequence[str], config: SegmenterConfig, data: DataSet,
    on_frame: Callable[[], None] = lambda: None,
) -> Table3:
    """Score checkpoints on one split and time them in turns. Raise ConfigError, DataError."""
    checkpoints = [load_checkpoint(file) for file in files]
    for checkpoint in checkpoints:  # before the first is scored
        if checkpoint.labels.names != data.labels.names:
            raise ConfigError(
                f'{checkpoint.name} knows other classes ({checkpoint.labels.name}) than the data '
                f'({data.labels.name}): leave it out of the table')
    with ExitStack() as stack:
        segmenters = [stack.enter_context(Segmenter(one, config)) for one in checkpoints]
        scores = [evaluate(segmenter, data, on_frame).scores for segmenter in segmenters]
        frame_ms = time_in_turns(segmenters, data.read(0)[0])
        rows = tuple(
            _row(checkpoint, segmenter, its_scores, ms) for checkpoint, segmenter, its_scores, ms
            in zip(checkpoints, segmenters, scores, frame_ms, strict=True))
    return Table3(data.root.name, data.split, len(data),
                  data.labels.name == 'cityscapes' and len(rows[0].scores.class_iou) == 19, rows)


def time_in_turns(segmenters: Sequence[Segmenter], frame: np.ndarray) -> list[float]:
    """Return the median ms of one frame, uint8 (H, W, 3) RGB, for each."""
    taken: list[list[float]] = [[] for _ in segmenters]
    for _ in range(ROUNDS):
        for segmenter, times in zip(segmenters, taken, strict=True):
            from_s = time.perf_counter()
            segmenter.segment([frame], rgb=True)
            times.append((time.perf_counter() - from_s) * 1e3)
    return [statistics.median(times) for times in taken]


def _row(checkpoint: Checkpoint, segmenter: Segmenter, scores: Scores, ms: float) -> Row:
    return Row(Path(checkpoint.name).stem, entry_of(checkpoint.network).title,
               sum(p.numel() for p in checkpoint.network.parameters()), scores, ms,
               segmenter.backend)


def _title(row: Row) -> str:
    return f'{row.network} ({row.name})'


def _cells(scores: Scores) -> list[str]:
    values = (*scores.class_iou.values(), scores.miou, scores.category_miou)
    return ['-' if np.isnan(v) else f'{100 * v:.1f}' for v in values]
