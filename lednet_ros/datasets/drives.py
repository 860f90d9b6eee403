# SPDX-License-Identifier: Apache-2.0
"""
A data set by drives: each in turn left out of training and scored, as another street would be.

A drive's name is what its images' names have before the first underscore, as in CamVid
(0016E5_00390.png) and, as cities, in Cityscapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.layouts import DataSet


def drive_of(image: Path) -> str:
    """Return the name of the drive an image is from."""
    return image.stem.partition('_')[0]


def leave_one_out(train: DataSet, val: DataSet) -> Iterator[tuple[str, DataSet, DataSet]]:
    """
    Yield for each drive of both splits its name, all pairs of the others, and its own.

    Raise DataError where the names tell no drives apart.
    """
    pairs = (*train.pairs, *val.pairs)
    drives = sorted({drive_of(pair.image) for pair in pairs})
    nameless = [pair.image for pair in pairs if '_' not in pair.image.stem]
    if nameless:
        raise DataError(f'{nameless[0]}: its name has no underscore with the drive before it: '
                        f'name all images DRIVE_NUMBER{nameless[0].suffix}')
    if len(drives) < 2:
        raise DataError(f'{train.root}: all images are of drive {drives[0]}, by what their names '
                        'have before the first underscore: add another drive')
    for drive in drives:
        yield (drive,
               replace(train, split=f'without {drive}', pairs=tuple(
                   pair for pair in pairs if drive_of(pair.image) != drive)),
               replace(val, split=drive, pairs=tuple(
                   pair for pair in pairs if drive_of(pair.image) == drive)))


def drive_table(last: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """
    Yield lines for people: how each drive was seen after the last epoch without it.

    After the last and not the best, which would be chosen by the very drive.
    """
    yield 'left out           mIoU  pixels'
    for drive, row in last.items():
        yield _row(drive, row['val_miou'], row['val_pixel_accuracy'])
    count = len(last)
    yield _row('mean', *(sum(row[key] for row in last.values()) / count
                         for key in ('val_miou', 'val_pixel_accuracy')))


def _row(name: str, miou: float, pixel_accuracy: float) -> str:
    return f'{name:<16}{100 * miou:>7.1f}{100 * pixel_accuracy:>8.1f}'
