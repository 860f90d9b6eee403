# SPDX-License-Identifier: Apache-2.0
"""
Supervisely's projects (docs.supervisely.com, annotation format): meta.json, DATASET/ann, /img.

Objects lie over each other as they stand in the file. Polygons have holes, and are filled by
OpenCV as Supervisely's package fills them.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.datasets.classes import read_color
from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    format_named,
    pictures_of,
    read_json,
    split_of,
)
from lednet_ros.datasets.importers.finding import files_below
from lednet_ros.datasets.importers.polygons import placed

TOOL = 'Supervisely'


def open_supervisely(files: list[Path]) -> Export:
    """Open projects by their meta.json. Raise DataError."""
    classes: dict[str, ImportedClass] = {}
    annotations: list[Path] = []
    for meta in files:
        with format_named(meta, TOOL):
            for c in read_json(meta)['classes']:
                classes.setdefault(str(c['title']), ImportedClass(
                    str(c['title']), _color(c.get('color'))))
        own = sorted(path for path in files_below(meta.parent)
                     if path.suffix == '.json' and path.parent.name == 'ann')
        if not own:
            raise DataError(f'{meta.parent}: has a meta.json, but no DATASET/ann/*.json: export '
                            'the project with its annotations')
        annotations += own
    left_out: Counter[str] = Counter()
    root = Path(os.path.commonpath([meta.parent for meta in files]))
    return Export([*classes.values()], pictures_of(
        annotations, TOOL, lambda file: iter([_picture(file, root, read_json(file), left_out)])),
        [*files, *annotations], left_out)


def _color(value: Any) -> tuple[int, int, int] | None:
    try:
        return read_color(value, '')
    except ConfigError:
        return None


def _picture(
    file: Path, root: Path, data: Mapping[str, Any], left_out: Counter[str]
) -> Picture:
    height, width = int(data['size']['height']), int(data['size']['width'])
    dataset = file.parent.parent
    # Data sets may hold others, and so one name comes in two of them.
    return Picture((dataset.relative_to(root) / 'img' / file.stem).as_posix(), height, width,
                   _drawn(data['objects'], height, width, left_out), split_of(dataset.name), root)


def _drawn(
    objects: list[Mapping[str, Any]], height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    for thing in objects:
        kind, name = thing['geometryType'], str(thing['classTitle'])
        if kind == 'bitmap':
            left, top = map(int, thing['bitmap']['origin'])
            yield Drawn(name, decode_bitmap(thing['bitmap']['data']), left, top)
        elif kind in ('polygon', 'rectangle') and not thing['points']['exterior']:
            left_out[f'{kind}s of no points'] += 1
        elif kind in ('polygon', 'rectangle'):
            yield Drawn(name, _filled(kind, thing['points'], height, width))
        else:
            left_out[f'objects of type {kind}'] += 1


def decode_bitmap(text: str) -> np.ndarray:
    """Return a bitmap, bool (H, W): a PNG, mostly deflated once more. Raise ValueError."""
    data = base64.b64decode(text)
    with suppress(zlib.error):
        data = zlib.decompress(data)
    pixels: np.ndarray | None = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ValueError('a bitmap that is no PNG')
    if pixels.ndim == 3:
        pixels = pixels[..., 3] if pixels.shape[2] == 4 else pixels.max(axis=2)
    return pixels > 0


def _filled(kind: str, points: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    exterior = _points(points['exterior'])
    if kind == 'rectangle':
        (x0, y0), (x1, y1) = exterior.min(0).tolist(), exterior.max(0).tolist()
        mask[max(0, y0):y1 + 1, max(0, x0):x1 + 1] = 1
    else:
        cv2.fillPoly(mask, [exterior], 1)
        for hole in points.get('interior', []):
            if hole:
                cv2.fillPoly(mask, [_points(hole)], 0)
    return mask.astype(bool)


def _points(points: Any) -> np.ndarray:
    """Return points, int32 (K, 2), rounded to pixels. Raise ValueError."""
    numbers = placed(v for point in points for v in point)
    return np.array(numbers).reshape(-1, 2).round().astype(np.int32)
