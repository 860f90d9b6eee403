# SPDX-License-Identifier: Apache-2.0
"""
labelme's JSON (github.com/wkentaro/labelme), one beside each image, drawn as labelme draws.

That is by Pillow, outline included, in the order of the file. `__ignore__` is not labelled.
"""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    format_named,
    pictures_of,
    read_json,
    split_of,
    text_of,
)
from lednet_ros.datasets.importers.polygons import placed

TOOL = 'labelme'
IGNORED = '__ignore__'
_LINES = ('line', 'linestrip', 'point', 'points')


def is_labelme(data: Any) -> bool:
    """Return whether a JSON file's content is labelme's."""
    return isinstance(data, Mapping) and {'shapes', 'imagePath'} <= set(data)


def open_labelme(files: list[Path]) -> Export:
    """Open labelme's files. Raise DataError."""
    names: set[str] = set()
    for file in files:
        with format_named(file, TOOL):
            names |= {text_of(shape['label']) for shape in read_json(file)['shapes']
                      if shape.get('shape_type') not in _LINES}
    left_out: Counter[str] = Counter()
    root = Path(os.path.commonpath([file.parent for file in files]))
    ordered = sorted(names - {IGNORED}, key=lambda name: (name != '_background_', name))
    return Export([ImportedClass(name) for name in ordered], pictures_of(
        files, TOOL, lambda file: iter([_picture(file, root, left_out)])),
        files, left_out)


def _picture(file: Path, root: Path, left_out: Counter[str]) -> Picture:
    data = read_json(file)
    height, width = int(data['imageHeight']), int(data['imageWidth'])
    return Picture(str(data['imagePath']), height, width,
                   _drawn(data['shapes'], height, width, left_out),
                   split_of(file.parent.name), file.parent,
                   file.parent.relative_to(root).as_posix())


def _drawn(
    shapes: list[Mapping[str, Any]], height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    for shape in shapes:
        kind = shape.get('shape_type') or 'polygon'
        name = '' if shape['label'] == IGNORED else text_of(shape['label'])
        if kind in _LINES:
            left_out[f'{kind.removesuffix("s")}s, which have no area'] += 1
        elif kind == 'mask':
            left, top = map(int, placed(shape['points'][0]))
            yield Drawn(name, _decoded(shape['mask']), left, top)
        elif kind in ('polygon', 'oriented_rectangle') and len(shape['points']) < 3:
            left_out['polygons of fewer than 3 points'] += 1
        else:
            yield Drawn(name, _mask(kind, shape['points'], height, width))


def _decoded(text: str) -> np.ndarray:
    """Return a mask, bool (H, W), of a PNG in base 64. Raise ValueError, or what Pillow does."""
    mask = np.array(Image.open(BytesIO(base64.b64decode(text))))
    if mask.ndim != 2:
        raise ValueError('a mask in colours')
    return mask.astype(bool)


def _mask(kind: str, points: list[list[float]], height: int, width: int) -> np.ndarray:
    picture = Image.new('L', (width, height))
    draw = ImageDraw.Draw(picture)
    xy = [(x, y) for x, y in map(placed, points)]
    if kind == 'circle':
        (cx, cy), (px, py) = xy
        [radius] = placed([math.hypot(cx - px, cy - py)])
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), outline=1, fill=1)
    elif kind == 'rectangle':
        (x0, y0), (x1, y1) = xy
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=1, fill=1)
    elif kind in ('polygon', 'oriented_rectangle'):
        draw.polygon(xy, outline=1, fill=1)
    else:
        raise ValueError(f'shape_type {kind!r} is not known here')
    return np.array(picture, bool)
