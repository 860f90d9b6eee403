# SPDX-License-Identifier: Apache-2.0
"""
Label Studio's JSON (labelstud.io/guide/export): polygons, rectangles, ellipses, masks of brushes.

Of a task's annotations the last that is not cancelled is taken. Polygons are filled as its COCO
export's are. Brush masks are run lengths in the form of thi.ng/rle-pack, over the bytes of an RGBA
image, whose alpha is the mask; bitmasks are PNGs with such an alpha.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import cv2
import numpy as np

from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    folder_among,
    format_named,
    pictures_of,
    read_json,
)
from lednet_ros.datasets.importers.polygons import fill, is_area, placed
from lednet_ros.datasets.importers.supervisely import decode_bitmap
from lednet_ros.images.sources import IMAGE_SUFFIXES

TOOL = 'Label Studio'
_KINDS = ('brushlabels', 'bitmasklabels', 'polygonlabels', 'rectanglelabels', 'ellipselabels',
          'labels')


def is_label_studio(data: Any) -> bool:
    """Return whether a JSON file's content is Label Studio's."""
    return (isinstance(data, list) and bool(data) and isinstance(data[0], Mapping)
            and 'annotations' in data[0] and 'data' in data[0])


def open_label_studio(files: list[Path]) -> Export:
    """Open Label Studio's files. Raise DataError."""
    names: dict[str, None] = {}
    for file in files:
        with format_named(file, TOOL):
            for task in read_json(file):
                for result in _results(task):
                    if result['type'] in _KINDS and 'original_width' in result:
                        names.update(dict.fromkeys(result['value'][result['type']]))
    left_out: Counter[str] = Counter()
    return Export([ImportedClass(name) for name in sorted(names)], pictures_of(
        files, TOOL, lambda file: (picture for task in read_json(file) for picture in _pictures(
            file, folder_among(file, files), task, left_out))),
        files, left_out)


def _results(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    kept = [a for a in task['annotations'] if not a.get('was_cancelled')]
    return list(kept[-1]['result']) if kept else []


def _pictures(
    file: Path, below: str, task: Mapping[str, Any], left_out: Counter[str]
) -> Iterator[Picture]:
    """Yield a task's images, mostly one."""
    kept = [a for a in task['annotations'] if not a.get('was_cancelled')]
    left_out['annotations of tasks that have a later one'] += max(0, len(kept) - 1)
    results = [r for r in _results(task) if 'original_width' in r]
    if not results:
        left_out['tasks with nothing drawn'] += 1
        return
    by_image: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_image.setdefault(str(result.get('to_name')), []).append(result)
    for name, own in by_image.items():
        sizes = {(int(r['original_height']), int(r['original_width'])) for r in own}
        if len(sizes) > 1 or len({r.get('item_index') for r in own}) > 1:
            raise ValueError(f'task {task.get("id")}: {name} is of several pictures')
        [(height, width)] = sizes
        yield Picture(_image(task, name, is_alone=len(by_image) == 1), height, width,
                      _drawn(own, height, width, left_out), '', file.parent, below)


def _image(task: Mapping[str, Any], name: str, is_alone: bool) -> str:
    """Return the path or the name of a task's image, out of the address that its data has."""
    data = task['data']
    texts = [data.get(name), *([data.get('image'), *data.values()] if is_alone else [])]
    paths = [_path(text) for text in texts if isinstance(text, str) and text]
    if not paths:
        raise ValueError(f'task {task.get("id")}: nothing says which image {name} is')
    # There may be other texts beside it.
    return next((path for path in paths
                 if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES), paths[0])


def _path(text: str) -> str:
    address = urlparse(text, allow_fragments=False)  # a name may have a #
    inside = re.search('(?:^|&)d=([^&]*)', address.query)
    return unquote(inside[1] if inside and 'local-files' in address.path else address.path)


def _drawn(
    results: Sequence[Mapping[str, Any]], height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    for result in results:
        kind, value = result['type'], result['value']
        shape = _shape_of(value) if kind == 'labels' else kind
        if kind not in _KINDS or not shape:
            left_out[f'results of type {kind}'] += 1
            continue
        if not value[kind]:
            left_out['results without a label'] += 1
            continue
        [name, *more] = value[kind]
        left_out['further labels of one shape'] += len(more)
        mask = _mask(shape, value, height, width)
        if mask is None:
            left_out['polygons of fewer than 3 points'] += 1
        else:
            yield Drawn(str(name), mask)


def _shape_of(value: Mapping[str, Any]) -> str:
    """Return what a shape is whose class is of a control for all kinds; '' of no area."""
    return next((kind for key, kind in (
        ('rle', 'brushlabels'), ('imageDataURL', 'bitmasklabels'), ('points', 'polygonlabels'),
        ('radiusX', 'ellipselabels'), ('height', 'rectanglelabels')) if key in value), '')


def _mask(kind: str, value: Mapping[str, Any], height: int, width: int) -> np.ndarray | None:
    if kind == 'brushlabels':
        if int.from_bytes(bytes(value['rle'][:4]), 'big') != 4 * height * width:
            raise ValueError('a brush mask of another size')
        return unpack(value['rle']).reshape(height, width, 4)[..., 3] > 0
    if kind == 'bitmasklabels':  # black on what is transparent
        mask = decode_bitmap(value['imageDataURL'].partition(',')[2])
        if mask.shape != (height, width):
            raise ValueError('a bitmask of another size')
        return mask
    scale = np.array([width, height]) / 100  # they are in percent
    if kind == 'polygonlabels':
        points = (np.array(value['points'], float).reshape(-1, 2) * scale).ravel().tolist()
        return fill([points], height, width) if is_area(points) else None
    x, y = placed(np.array([value['x'], value['y']]) * scale)
    angle = float(value.get('rotation') or 0)
    if kind == 'ellipselabels':
        mask = np.zeros((height, width), np.uint8)
        rx, ry = placed(np.array([value['radiusX'], value['radiusY']]) * scale)
        cv2.ellipse(mask, (round(x), round(y)), (round(rx), round(ry)), angle, 0, 360, 1, -1)
        return mask.astype(bool)
    w, h = np.array([value['width'], value['height']]) * scale
    across, down = (  # it is turned about its upper left corner
        np.array([math.cos(turn), math.sin(turn)])
        for turn in (math.radians(angle), math.radians(angle + 90)))
    corner = np.array([x, y])
    points = np.concatenate([corner, corner + w * across, corner + w * across + h * down,
                             corner + h * down]).tolist()
    return fill([points], height, width)


def unpack(packed: Sequence[int]) -> np.ndarray:
    """
    Return the bytes, uint8 (N,), that run lengths of thi.ng/rle-pack stand for.

    Raise ValueError where they end too soon.
    """
    bits = np.unpackbits(np.array(packed, np.uint8))
    at = 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(bits):
            raise ValueError('a brush mask that is cut short')
        at += size
        return int(''.join(map(str, bits[at - size:at])), 2)

    count, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if word != 8:
        raise ValueError(f'a brush mask of {word} bits')
    out = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        is_run = number(1)
        end = min(count, done + 1 + number(sizes[number(2)]))
        if is_run:
            out[done:end] = number(word)
        else:
            if at + word * (end - done) > len(bits):
                raise ValueError('a brush mask that is cut short')
            out[done:end] = np.packbits(bits[at:at + word * (end - done)])
            at += word * (end - done)
        done = end
    return out
