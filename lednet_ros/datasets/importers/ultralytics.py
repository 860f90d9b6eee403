# SPDX-License-Identifier: Apache-2.0
"""
Ultralytics' segmentation labels (docs.ultralytics.com/datasets/segment): a YAML and *.txt.

A line is a class and a polygon, in shares of the image's width and height. As there, the smaller
shape lies over the larger one, and OpenCV fills them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from lednet_ros.common.errors import DataError
from lednet_ros.common.yaml_file import load_yaml
from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    format_named,
    pictures_of,
    split_of,
)
from lednet_ros.datasets.importers.finding import files_below
from lednet_ros.datasets.importers.polygons import placed
from lednet_ros.images.sources import IMAGE_SUFFIXES

TOOL = 'Ultralytics'
_ORIENTATION = 0x0112
_FARTHEST = 2.0  # a share of a side: what is farther away was not divided by it


def is_ultralytics(file: Path) -> bool:
    """Return whether a YAML file names classes as Ultralytics' do."""
    try:
        data = load_yaml(file.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(data, dict) and isinstance(data.get('names'), (list, dict)) and (
        'train' in data or 'nc' in data)


def open_ultralytics(files: list[Path]) -> Export:
    """Open a data set by its YAML file. Raise DataError."""
    file = files[0]
    if len(files) > 1:
        raise DataError(f'{file} and {files[1].name}: both name classes: give the one that is '
                        'meant as SOURCE, or take the other away')
    with format_named(file, TOOL):
        data = load_yaml(file.read_text(encoding='utf-8-sig'))
        names = _names(data['names'])
    if 'kpt_shape' in data:
        raise DataError(f'{file}: has kpt_shape, so its labels are boxes with points of poses, '
                        'which have no area: export polygons')
    root = file.parent
    found = sorted(files_below(root))
    labels = [path for path in found if path.suffix == '.txt' and path.name != 'classes.txt'
              and 'labels' in path.relative_to(root).parts]
    if not labels:
        raise DataError(f'{file}: has no labels/**/*.txt beside it: export the labels too')
    left_out: Counter[str] = Counter()
    with format_named(file, TOOL):
        splits = _splits(data, root)
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES
              and 'images' in path.relative_to(root).parts]
    labelled = set(labels)

    def pictures(path: Path) -> Iterator[Picture]:
        if path in labelled:
            yield _picture(_image_of(path, root), path, root, names, splits, left_out)
        elif _renamed(path, root, 'images', 'labels').with_suffix('.txt') not in labelled:
            yield _picture(path, None, root, names, splits, left_out)  # nothing is drawn on it

    return Export([ImportedClass(name) for name in names.values()],
                  pictures_of([*labels, *images], TOOL, pictures), [file, *labels], left_out)


def _names(names: Any) -> dict[int, str]:
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(i): str(name) for i, name in sorted(pairs)}


def _splits(data: dict[str, Any], root: Path) -> dict[Path, str]:
    """Return which split folders and images are of, by the YAML, where they are there."""
    splits: dict[Path, str] = {}
    for split in ('train', 'val', 'test'):
        places = data.get(split) or []
        for place in [places] if isinstance(places, str) else places:
            path = root / place
            if path.suffix == '.txt' and path.is_file():
                lines = path.read_text(encoding='utf-8-sig').splitlines()
                splits |= {_whole(path.parent / line.strip()): split for line in lines}
            elif path.is_dir():
                splits[_whole(path)] = split
    return splits


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _picture(
    image: Path, labels: Path | None, root: Path, names: dict[int, str],
    splits: dict[Path, str], left_out: Counter[str],
) -> Picture:
    with Image.open(image) as opened:
        width, height = opened.size
        if opened.getexif().get(_ORIENTATION, 1) >= 5:
            width, height = height, width
    parts = [part for part in image.relative_to(root).parts if part != 'images']
    place = _whole(image)
    split = next((splits[p] for p in (place, *place.parents) if p in splits),
                 split_of('/'.join(parts[:-1])))
    inner = [part for part in parts[:-1] if not split_of(part)]
    return Picture('/'.join([*inner, image.name]), height, width,
                   _drawn(labels, names, height, width, left_out) if labels else iter(()),
                   split, image.parent)


def _image_of(path: Path, root: Path) -> Path:
    """Return the image of a label file: of its name, in images/ instead of labels/."""
    bare = _renamed(path, root, 'labels', 'images')
    for suffix in (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)):
        if (image := bare.with_name(bare.stem + suffix)).is_file():
            return image
    raise DataError(f'{path}: has no image {bare.with_suffix("")}.*: put it there')


def _renamed(path: Path, root: Path, old: str, new: str) -> Path:
    """Return a path with another name of the last folder called `old`."""
    parts = list(path.relative_to(root).parts)
    place = len(parts) - 1 - parts[::-1].index(old)
    return root.joinpath(*parts[:place], new, *parts[place + 1:])


def _drawn(
    path: Path, names: dict[int, str], height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    shapes = []
    for line in filter(None, map(str.split, path.read_text(encoding='utf-8-sig').splitlines())):
        if len(line) < 7 or len(line) % 2 == 0:
            left_out['boxes without a mask' if len(line) == 5 else
                     'lines that are no polygon of 3 points or more'] += 1
            continue
        if float(line[0]) not in names:
            raise ValueError(f'class {line[0]} of {len(names)}')
        shares = np.array(line[1:], float).reshape(-1, 2)
        points = np.array(placed((shares * [width, height]).ravel())).reshape(-1, 2)
        if abs(shares).max() > _FARTHEST:
            raise ValueError(f"{abs(shares).max():g}, which is no share of the image's sides")
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        shapes.append(Drawn(names[int(float(line[0]))], mask.astype(bool)))
    yield from sorted(shapes, key=lambda drawn: -int(drawn.mask.sum()))
