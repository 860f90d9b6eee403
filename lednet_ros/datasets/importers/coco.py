# SPDX-License-Identifier: Apache-2.0
"""
COCO's JSON (cocodataset.org, format-data): polygons, run lengths, crowds, ignored regions.

One file, or a folder of them; a split is what a file's name or folder says (instances_val.json).
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    folder_among,
    format_named,
    pictures_of,
    read_json,
    split_of,
    text_of,
)
from lednet_ros.datasets.importers.polygons import fill, from_runs, is_area

TOOL = 'COCO'


def is_coco(data: Any) -> bool:
    """Return whether a JSON file's content is COCO's, with annotations."""
    return isinstance(data, Mapping) and {'images', 'annotations', 'categories'} <= set(data)


def open_coco(files: list[Path]) -> Export:
    """Open COCO's files. Raise DataError."""
    classes: dict[str, ImportedClass] = {}
    for file in files:
        with format_named(file, TOOL):
            for category in sorted(
                    read_json(file, _without_shapes)['categories'], key=lambda c: c['id']):
                name = text_of(category['name'])
                classes.setdefault(name, ImportedClass(
                    name, None, str(category.get('supercategory') or '')))
    left_out: Counter[str] = Counter()
    return Export(list(classes.values()), pictures_of(
        files, TOOL, lambda file: _pictures(
            file, folder_among(file, files), read_json(file, _packed), left_out)),
        files, left_out)


def _without_shapes(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop('segmentation', None)
    return entry


def _packed(entry: dict[str, Any]) -> dict[str, Any]:
    """Hold coordinates in a fifth of the memory: a file may have millions."""
    if isinstance(entry.get('segmentation'), list):
        entry['segmentation'] = [array('d', polygon) for polygon in entry['segmentation']]
    for key in ('bbox', 'keypoints'):
        entry.pop(key, None)
    return entry


def _pictures(
    file: Path, below: str, data: Mapping[str, Any], left_out: Counter[str]
) -> Iterator[Picture]:
    names = {c['id']: text_of(c['name']) for c in data['categories']}
    by_image = defaultdict(list)
    for annotation in data['annotations']:
        if 'segments_info' in annotation:
            raise DataError(f"{file}: is of COCO's panoptic form, whose masks lie in PNG files: "
                            'export instances, as polygons or run lengths')
        by_image[annotation['image_id']].append(annotation)
    listed = {image['id'] for image in data['images']}
    left_out['shapes of images that the file does not list'] += sum(
        len(annotations) for id_, annotations in by_image.items() if id_ not in listed)
    for image in data['images']:
        height, width = int(image['height']), int(image['width'])
        # A crowd's outline is rough: what is drawn exactly lies over it.
        annotations = sorted(by_image[image['id']], key=lambda a: not _is_ignored(a))
        yield Picture(
            str(image['file_name']), height, width,
            (drawn for a in annotations
             for drawn in _drawn(a, names, height, width, left_out)),
            split_of(f'{file.parent.name}/{file.stem}'), _folder_of_images(file), below)


def _folder_of_images(file: Path) -> Path:
    """Return where a file's images are: of instances_SPLIT.json in SPLIT or images/SPLIT."""
    subset = file.stem.partition('_')[2]
    folders = [file.parent.parent / 'images' / subset, file.parent.parent / subset]
    return next((folder for folder in folders if subset and folder.is_dir()), file.parent)


def _is_ignored(annotation: Mapping[str, Any]) -> bool:
    # Datumaro, by which CVAT exports, calls every mask a crowd. Attributes tell its files.
    is_crowd = annotation.get('iscrowd') and 'attributes' not in annotation
    return bool(is_crowd or annotation.get('ignore'))


def _drawn(
    annotation: Mapping[str, Any], names: Mapping[int, str], height: int, width: int,
    left_out: Counter[str],
) -> Iterator[Drawn]:
    mask = _mask(annotation.get('segmentation'), height, width, left_out)
    if mask is None:
        return
    if _is_ignored(annotation):
        left_out['regions with iscrowd or ignore, which become 255'] += 1
        yield Drawn('', mask)
    else:
        yield Drawn(names[annotation['category_id']], mask)


def _mask(
    segmentation: Any, height: int, width: int, left_out: Counter[str]
) -> np.ndarray | None:
    if isinstance(segmentation, Mapping):
        return from_runs(dict(segmentation), height, width)
    areas = [polygon for polygon in segmentation or [] if is_area(polygon)]
    left_out['polygons of fewer than 3 points'] += len(segmentation or []) - len(areas)
    if not segmentation:
        left_out['boxes without a mask'] += 1
    return fill(areas, height, width) if areas else None
