# SPDX-License-Identifier: Apache-2.0
"""
CVAT's XML 1.1 for images and for video (docs.cvat.ai, XML annotation format).

Shapes lie over each other by z_order, then as they stand in the file. They are drawn as CVAT's own
"Segmentation mask" export draws them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import cv2
import numpy as np

from lednet_ros.common.errors import ConfigError, DataError, first_line
from lednet_ros.datasets.classes import read_color
from lednet_ros.datasets.importers.export import (
    Drawn,
    Export,
    ImportedClass,
    Picture,
    folder_among,
    format_named,
    pictures_of,
    split_of,
)
from lednet_ros.datasets.importers.polygons import fill, is_area, pixels_of, placed

TOOL = 'CVAT'
_SHAPES = ('box', 'polygon', 'mask', 'ellipse')
_NO_AREA = ('polyline', 'points', 'cuboid', 'skeleton', 'tag')


def open_cvat(files: list[Path]) -> Export:
    """Open CVAT's files. Raise DataError."""
    classes: dict[str, ImportedClass] = {}
    for file in files:
        with format_named(file, TOOL):
            for found in _classes(file):
                classes.setdefault(found.name, found)
    left_out: Counter[str] = Counter()
    return Export(list(classes.values()), pictures_of(
        files, TOOL, lambda file: _pictures(file, folder_among(file, files), left_out)), files,
        left_out)


def _elements(file: Path, tags: Sequence[str]) -> Iterator[Element]:
    """Yield the outermost elements of these tags, each read whole; then they are forgotten."""
    depth = 0
    try:
        for event, element in ElementTree.iterparse(file, ('start', 'end')):
            if element.tag not in tags:
                continue
            depth += 1 if event == 'start' else -1
            if event == 'end' and depth == 0:
                yield element
                element.clear()
    except ElementTree.ParseError as error:
        raise DataError(f'{file}: is no whole XML: {first_line(error)}: export it anew') from error
    except OSError as error:
        raise DataError(f'{file}: cannot be read: {error.strerror}: export it anew') from error


def _classes(file: Path) -> Iterator[ImportedClass]:
    for meta in _elements(file, ('meta',)):
        for label in meta.iter('label'):
            if label.find('parent') is None:  # of a skeleton's points
                name, color = label.findtext('name') or '', label.findtext('color')
                try:
                    yield ImportedClass(name, read_color(color, name) if color else None)
                except ConfigError:  # a colour is not worth an import
                    yield ImportedClass(name)
        return


def _pictures(file: Path, below: str, left_out: Counter[str]) -> Iterator[Picture]:
    sizes: dict[str, tuple[int, int]] = {}
    # A project's tasks count their frames each by itself.
    tracks: dict[tuple[str, str, int], list[tuple[Element, str]]] = defaultdict(list)

    def picture(name: str, size: tuple[int, int], subset: str,
                shapes: list[tuple[Element, str]]) -> Picture:
        folder, split = file.parent / 'images' / subset, split_of(subset)
        apart = '' if split or subset == 'default' else subset
        return Picture(name, *size, _drawn(shapes, *size, left_out), split,
                       folder if folder.is_dir() else file.parent,
                       '/'.join(filter(None, (below, apart))))

    for element in _elements(file, ('meta', 'image', 'track')):
        if element.tag == 'meta':
            sizes = dict(_video_sizes(element))
        elif element.tag == 'image':
            size = int(element.attrib['height']), int(element.attrib['width'])
            shapes = [(shape, '' if shape.tag == 'attribute' else shape.attrib['label'])
                      for shape in element]
            yield picture(element.attrib['name'], size, element.attrib.get('subset', ''), shapes)
        else:
            task, subset = (element.attrib.get(key, '') for key in ('task_id', 'subset'))
            for shape in element:
                if shape.attrib.get('outside') != '1':
                    tracks[subset, task, int(shape.attrib['frame'])].append(
                        (_bare(shape), element.attrib['label']))
    for (subset, task, frame), shapes in sorted(tracks.items()):
        video = sizes.get(task, sizes.get(''))
        if video is None:
            raise DataError(f'{file}: has tracks, but no <original_size>: export it as "CVAT for '
                            'video"')
        yield picture(f'frame_{frame:06}', video, subset, shapes)


def _video_sizes(meta: Element) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the (height, width) of each task's video by the task's id; of a lone one by ''."""
    found = [(task.findtext('id') or '', task) for task in meta.iter('task')]
    for id_, part in [*found, *([('', meta)] if len(found) < 2 else [])]:
        if (video := part.find('.//original_size')) is not None:
            yield id_, (int(video.findtext('height') or 0), int(video.findtext('width') or 0))


def _bare(shape: Element) -> Element:
    return Element(shape.tag, shape.attrib)


def _drawn(
    shapes: list[tuple[Element, str]], height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    for shape, name in sorted(shapes, key=lambda s: int(s[0].attrib.get('z_order', 0))):
        if shape.tag in _SHAPES:
            yield from _shape(shape, name, height, width, left_out)
        elif shape.tag != 'attribute':
            left_out[f'{shape.tag.removesuffix("s")}s, which have no area'
                     if shape.tag in _NO_AREA else
                     f'<{shape.tag}>, which is not known here'] += 1


def _shape(
    shape: Element, name: str, height: int, width: int, left_out: Counter[str]
) -> Iterator[Drawn]:
    at = shape.attrib
    if shape.tag == 'mask':
        left, top, w, h = (int(at[key]) for key in ('left', 'top', 'width', 'height'))
        runs = pixels_of([int(run) for run in at['rle'].split(',')], h * w)
        yield Drawn(name, runs.reshape(h, w), left, top)  # by rows
    elif shape.tag == 'ellipse':
        mask = np.zeros((height, width), np.uint8)
        cx, cy, rx, ry = (round(v) for v in placed(
            float(at[key]) for key in ('cx', 'cy', 'rx', 'ry')))
        cv2.ellipse(mask, (cx, cy), (rx, ry), float(at.get('rotation', 0)), 0, 360, 1, -1)
        yield Drawn(name, mask.astype(bool))
    else:
        points = _box(at) if shape.tag == 'box' else [
            float(v) for pair in at['points'].split(';') for v in pair.split(',')]
        if is_area(points):
            yield Drawn(name, fill([points], height, width))
        else:
            left_out['polygons of fewer than 3 points'] += 1


def _box(at: dict[str, str]) -> list[float]:
    """Return a box's corners, turned about its middle."""
    left, top, right, bottom = (float(at[key]) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
    angle = math.radians(float(at.get('rotation', 0)))
    cx, cy = left + (right - left) / 2, top + (bottom - top) / 2
    points = []
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
        points += [cx + math.cos(angle) * (x - cx) - math.sin(angle) * (y - cy),
                   cy + math.sin(angle) * (x - cx) + math.cos(angle) * (y - cy)] if angle else [
                       x, y]
    return points
