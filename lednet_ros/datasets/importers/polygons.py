# SPDX-License-Identifier: Apache-2.0
"""Polygons and run lengths to pixels by pycocotools, as COCO, CVAT and Label Studio do it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.images.encodings import MAX_SIDE

_FARTHEST = 4 * MAX_SIDE  # pixels from the corner; libraries hang or crash far from any image


def _library() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError(f'pycocotools draws polygons as these tools do, and cannot be imported '
                          f'({error}): pip install pycocotools') from error
    return mask


def fill(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Return the union of polygons, [x, y, x, y, ...] of three or more points: bool (H, W)."""
    library = _library()
    runs = library.frPyObjects([placed(polygon) for polygon in polygons], height, width)
    found: np.ndarray = library.decode(library.merge(runs)).astype(bool)
    return found


def from_runs(runs: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Return COCO's run lengths, compressed or not, as pixels, bool (H, W). Raise ValueError."""
    if list(runs['size']) != [height, width]:
        raise ValueError(f'run lengths of {runs["size"]} in an image of {[height, width]}')
    counts = runs['counts']
    if isinstance(counts, str):
        counts = _unpacked(counts.encode('ascii'))
    return pixels_of(counts, height * width).reshape(width, height).T  # by columns


def pixels_of(runs: Sequence[int], count: int) -> np.ndarray:
    """
    Return what run lengths stand for, bool (count,); the first is of pixels that are not drawn.

    Raise ValueError where they do not add up: pycocotools would show what lay in memory.
    """
    if sum(runs) != count or min(runs) < 0:
        raise ValueError(f'run lengths that make {sum(runs)} pixels of {count}')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def _unpacked(text: bytes) -> list[int]:
    """Return the run lengths in COCO's text: five bits a byte, from the third on differences."""
    runs: list[int] = []
    value = shift = 0
    for byte in text:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError('run lengths that are damaged')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # there is more of it
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError('run lengths that are cut short')
    return runs


def placed(numbers: Iterable[float]) -> list[float]:
    """Return coordinates as numbers. Raise ValueError for what is no place near an image."""
    values = [float(v) for v in numbers]
    for value in values:
        if not abs(value) <= _FARTHEST:
            raise ValueError(f'a coordinate of {value:g} pixels')
    return values


def is_area(polygon: Sequence[float]) -> bool:
    """Return whether it has three points or more, and both coordinates of each."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0
