# SPDX-License-Identifier: Apache-2.0
"""Polygons and run lengths to pixels by pycocotools, as COCO, CVAT and Label Studio do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError


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
    runs = library.frPyObjects([[float(v) for v in polygon] for polygon in polygons], height,
                               width)
    found: np.ndarray = library.decode(library.merge(runs)).astype(bool)
    return found


def from_runs(runs: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Return COCO's run lengths, compressed or not, as pixels, bool (H, W). Raise ValueError."""
    library = _library()
    if list(runs['size']) != [height, width]:
        raise ValueError(f'run lengths of {runs["size"]} in an image of {[height, width]}')
    counts = runs['counts']
    packed = library.frPyObjects(runs, height, width) if isinstance(counts, list) else {
        'size': runs['size'], 'counts': counts.encode() if isinstance(counts, str) else counts}
    found: np.ndarray = library.decode(packed).astype(bool)
    return found


def is_area(polygon: Sequence[float]) -> bool:
    """Return whether it has three points or more, and both coordinates of each."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0
