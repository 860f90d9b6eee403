# SPDX-License-Identifier: Apache-2.0
"""An evaluation in pictures: the confusion matrix, and the frames seen best and worst."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lednet_ros.common.atomic_file import write_png
from lednet_ros.common.errors import ConfigError
from lednet_ros.common.figure import make_figure, require_matplotlib
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.datasets.sheet import draw_sheet, labelled
from lednet_ros.images.annotate import captioned_grid, class_colors, with_legend
from lednet_ros.model.labels import UNLABELLED, LabelSet
from lednet_ros.projection.traversability import Traversability
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.comparison import Comparison
from lednet_ros.training.evaluate import Evaluation
from lednet_ros.training.reliability import (
    GroundRow,
    Reliability,
    draw_ground,
    draw_reliability,
)
from lednet_ros.training.robustness import FAMILY, JUDGED, STRENGTHS, Robustness, change

# RGB of a pixel seen as another class; of an obstacle's pixel seen as free ground
_WRONG, _DANGEROUS = (225, 150, 40), (255, 0, 120)
_PICTURES = re.compile(
    r'((best|worst|won|lost)_\d+|confusion|reliability|min_confidence|robustness|changes)\.png')


def require_directory(directory: Path) -> None:
    """Raise ConfigError where no picture could be drawn or written: before hours of scoring."""
    require_matplotlib()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ConfigError(f'{directory}: cannot be written to: {error.strerror}: choose another '
                          '--output') from error


def remove_pictures(directory: Path) -> None:
    """Remove an earlier evaluation's pictures, which would be taken for this one's."""
    for path in directory.iterdir():
        if _PICTURES.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def write_pictures(
    result: Evaluation, segmenter: Segmenter, data: DataSet, directory: Path, count: int,
    ground: Traversability | None = None,
) -> Iterator[Path]:
    """
    Write confusion.png and `count` of the best and of the worst frames; give their paths.

    Raise ConfigError.
    """
    try:
        path = directory / 'confusion.png'
        draw_confusion(result.confusion, data.labels, path)
        yield path
        ranked = sorted((f for f in result.frames if not np.isnan(f.miou)), key=lambda f: -f.miou)
        for kind, frames in (('best', ranked[:count]), ('worst', ranked[::-1][:count])):
            for place, frame in enumerate(frames, 1):
                image, truth = data.read(frame.index)
                seen = segmenter.segment([image], rgb=True)[0].labels
                picture = frame_picture(
                    image, truth, seen, data.labels, f'{frame.name}: mIoU {100 * frame.miou:.1f}',
                    ground)
                path = directory / f'{kind}_{place}.png'
                write_png(path, picture)
                yield path
    except OSError as error:
        raise ConfigError(f'{directory}: cannot be written to: {error.strerror}: choose another '
                          '--output') from error


def frame_picture(
    image: np.ndarray, truth: np.ndarray, seen: np.ndarray, labels: LabelSet, title: str,
    ground: Traversability | None = None,
) -> np.ndarray:
    """
    Show a frame, what it is, what was seen and where that is wrong: uint8 (H, W, 3) RGB.

    Obstacles seen as free ground have a colour of their own, where `ground` says which those are.
    """
    return with_legend(captioned_grid([
        (image, title), (labels.palette[truth], 'labelled'), (labels.palette[seen], 'seen'),
        mistakes_picture(image, truth, seen, ground)]), _colors(labels, ground))


def mistakes_picture(
    image: np.ndarray, truth: np.ndarray, seen: np.ndarray, ground: Traversability | None,
    name: str = '',
) -> tuple[np.ndarray, str]:
    """Return a frame darkened with its mistakes in colour, and a caption with their share."""
    wrong = (truth != UNLABELLED) & (truth != seen)
    mistakes = image // 3
    mistakes[wrong] = _WRONG
    known = max(int((truth != UNLABELLED).sum()), 1)
    caption = f'{name}wrong: {100 * wrong.sum() / known:.1f} %'
    if ground:
        dangerous = wrong & ground.says('obstacle')[truth] & ground.says('free')[seen]
        mistakes[dangerous] = _DANGEROUS
        caption += f', dangerous: {100 * dangerous.sum() / known:.2f} %'
    mistakes[truth == UNLABELLED] = 0
    return mistakes, caption


def _colors(
    labels: LabelSet, ground: Traversability | None
) -> list[tuple[str, tuple[int, int, int]]]:
    return [*class_colors(labels), ('mistake', _WRONG),
            *([('obstacle seen as free ground', _DANGEROUS)] if ground else []),
            ('not labelled', (0, 0, 0))]


def write_side_by_side(
    comparison: Comparison, segmenters: tuple[Segmenter, Segmenter], data: DataSet,
    directory: Path, count: int, ground: Traversability | None,
) -> Iterator[Path]:
    """
    Write the frames that the first of two checkpoints wins and loses most; give their paths.

    Raise ConfigError.
    """
    order = np.argsort(comparison.differences, kind='stable')  # NaN come last
    order = order[~np.isnan(comparison.differences[order])]
    for kind, indices in (('won', order[::-1][:count]), ('lost', order[:count])):
        for place, index in enumerate(indices, 1):
            difference = comparison.differences[index]
            if (difference > 0) != (kind == 'won') or not difference:
                continue
            image, truth = data.read(int(index))
            title = f'{data.pairs[index].image.name}: mIoU {100 * difference:+.1f}'
            panels = [(image, title), (data.labels.palette[truth], 'labelled')]
            for segmenter, name in zip(segmenters, comparison.names, strict=True):
                seen = segmenter.segment([image], rgb=True)[0].labels
                panels += [(data.labels.palette[seen], name),
                           mistakes_picture(image, truth, seen, ground)]
            path = directory / f'{kind}_{place}.png'
            write_png(path, with_legend(captioned_grid(panels), _colors(data.labels, ground)))
            yield path


def write_reliability(
    reliability: Reliability, rows: Sequence[GroundRow], name: str, directory: Path
) -> Iterator[Path]:
    """
    Write reliability.png and, where there are rows, min_confidence.png; give their paths.

    Raise ConfigError.
    """
    path = directory / 'reliability.png'
    draw_reliability(reliability, name, path)
    yield path
    if rows:
        path = directory / 'min_confidence.png'
        draw_ground(rows, path)
        yield path


def write_robustness(
    robustness: Robustness, segmenter: Segmenter, data: DataSet, directory: Path
) -> Iterator[Path]:
    """
    Write robustness.png, the curves, and changes.png, a frame as changed and seen.

    Gives their paths. Raise ConfigError, DataError.
    """
    path = directory / 'robustness.png'
    draw_robustness(robustness, path)
    yield path
    path = directory / 'changes.png'
    index = len(data) // 2
    image, truth = data.read(index)
    pictures = []
    for name, change_ in FAMILY.items():
        for strength, amount in enumerate(change_.amounts, 1):
            view, _ = change(image, truth, name, strength, index)
            seen = segmenter.segment([view], rgb=True)[0].labels
            pictures.append((labelled(view, seen, data.labels), f'{name} {strength}: {amount:g}'))
    write_png(path, with_legend(draw_sheet(pictures, STRENGTHS), class_colors(data.labels)))
    yield path


def draw_robustness(robustness: Robustness, path: Path) -> None:
    """
    Draw the mean IoU by strength of each change, and their mean.

    Raise ConfigError where matplotlib is missing.
    """
    figure = make_figure(8.5, 4.6)
    axes = figure.subplots()
    strengths = range(STRENGTHS + 1)
    curves = {**robustness.changed, 'mean': robustness.mean}
    for place, (name, values) in enumerate(curves.items()):
        is_mean = name == 'mean'
        axes.plot(strengths, [100 * v for v in (robustness.clean, *values)], label=name,
                  linewidth=3 if is_mean else 1.3, color='black' if is_mean else f'C{place % 10}',
                  linestyle='--' if place >= 10 and not is_mean else '-')
    axes.axhline(100 * robustness.clean, color='lightgrey', zorder=0)
    axes.set_xlabel('strength of the change (0: none)')
    axes.set_ylabel('mIoU, %')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title(f'{100 * robustness.kept[JUDGED - 1]:.0f} % of the clean '
                   f'{100 * robustness.clean:.1f} is left at strength {JUDGED}')
    figure.savefig(path, dpi=110)


def draw_confusion(counts: np.ndarray, labels: LabelSet, path: Path) -> None:
    """
    Draw which class, int64 (classes, classes + 1), is seen as which, in percent of its pixels.

    Raise ConfigError where matplotlib is missing.
    """
    rows = [i for i in range(len(labels)) if i not in labels.void_ids]
    columns = [*rows, len(labels)] if counts[:, -1].any() else rows
    names = [*labels.names, 'unlabelled']
    shares = 100 * counts[np.ix_(rows, columns)] / np.maximum(counts[rows].sum(1), 1)[:, None]
    figure = make_figure(1.8 + 0.55 * len(columns), 1.4 + 0.5 * len(rows))
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
