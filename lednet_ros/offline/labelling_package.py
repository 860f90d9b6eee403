# SPDX-License-Identifier: Apache-2.0
"""
Frames and pre-labels as labelling tools take them: CVAT's masks, labelme's polygons.

CVAT: 'Segmentation mask 1.1' (docs.cvat.ai, 'Segmentation Mask'), a zip of colour masks that is
uploaded to a task made of the images. labelme: a JSON file beside each image.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from lednet_ros.common.atomic_file import png_of
from lednet_ros.model.labels import UNLABELLED, LabelSet

IGNORED = '__ignore__'  # labelme's own name for what is not labelled
MIN_AREA = 20           # pixels; smaller patches are not drawn as polygons
TOLERANCE = 1.0         # pixels between a polygon and the border that it follows
BACKGROUND = (0, 0, 0)  # CVAT's colour for what is not labelled
_DATE = (1980, 1, 1, 0, 0, 0)  # the same labels are the same bytes


class Polygon(NamedTuple):
    """A patch of one class by its outer border."""

    label: int
    points: np.ndarray  # int32 (K, 2): x, y


def cvat_labels(labels: LabelSet) -> list[tuple[str, tuple[int, int, int]]]:
    """
    Return a name and a colour for each class, each unlike the others and the background's.

    They are the class's own wherever CVAT can tell them apart.
    """
    found: list[tuple[str, tuple[int, int, int]]] = []
    taken = {BACKGROUND, *(one.color for one in labels.classes)}
    for one in labels.classes:
        color = one.color
        if color == BACKGROUND or color in (other for _, other in found):
            color = next(c for c in _voc_colors() if c not in taken)
            taken.add(color)
        found.append((one.name.replace(':', '_'), color))
    return found


def _voc_colors() -> Iterator[tuple[int, int, int]]:
    """Yield Pascal VOC's colours from id 1 on: its bits dealt out to those of red, green, blue."""
    for id_ in range(1, 1 << 24):
        color = [0, 0, 0]
        for bit in range(24):
            color[bit % 3] |= (id_ >> bit & 1) << 7 - bit // 3
        yield color[0], color[1], color[2]


def label_map(labels: LabelSet) -> str:
    """Return CVAT's labelmap.txt."""
    rows = [(name, color) for (name, color), one in zip(
        cvat_labels(labels), labels.classes, strict=True) if not one.void]
    background = IGNORED if 'background' in dict(rows) else 'background'
    return '# label:color_rgb:parts:actions\n' + ''.join(
        f'{name}:{red},{green},{blue}::\n'
        for name, (red, green, blue) in [(background, BACKGROUND), *rows])


def cvat_constructor(labels: LabelSet) -> list[dict[str, Any]]:
    """Return the labels as the 'Raw' tab of CVAT's new tasks and projects takes them, as JSON."""
    return [{'name': name, 'color': '#{:02x}{:02x}{:02x}'.format(*color), 'attributes': []}
            for (name, color), one in zip(cvat_labels(labels), labels.classes, strict=True)
            if not one.void]


def write_cvat(
    path: Path, names: Sequence[str], label_images: Iterable[np.ndarray], labels: LabelSet
) -> None:
    """
    Write the zip for frames of these names (without suffix) and uint8 (H, W) labels.

    Each class is one object of its frame, so that what is unlabelled becomes none.
    """
    count = len(labels)
    classes = np.zeros((256, 3), np.uint8)
    classes[:count] = [color for _, color in cvat_labels(labels)]
    objects = np.zeros((256, 3), np.uint8)
    objects[:count] = list(islice(_voc_colors(), count))
    for colors in (classes, objects):
        colors[labels.void_ids] = BACKGROUND
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        def add(name: str, data: str | bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)

        add('labelmap.txt', label_map(labels))
        add('ImageSets/Segmentation/default.txt', ''.join(f'{name}\n' for name in names))
        for name, image in zip(names, label_images, strict=True):
            for kind, colors in (('Class', classes), ('Object', objects)):
                add(f'Segmentation{kind}/{name}.png',
                    png_of(cv2.applyColorMap(image, colors[:, None])))


def polygons(label_image: np.ndarray) -> list[Polygon]:
    """
    Return the patches of uint8 (H, W) labels, the largest first.

    Drawn in this order each lies over those around it, so that no hole is needed. What is
    unlabelled is a patch only inside of others.
    """
    found: list[tuple[float, Polygon]] = []
    height, width = label_image.shape
    for label in np.unique(label_image):
        mask = (label_image == label).astype(np.uint8)
        borders, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        for border, (_, _, _, around) in zip(borders, tree[0], strict=True):
            if around >= 0:  # a hole's
                continue
            left, top, wide, high = cv2.boundingRect(border)
            touches = left == 0 or top == 0 or left + wide == width or top + high == height
            points = cv2.approxPolyDP(border, TOLERANCE, True)[:, 0]
            area = cv2.contourArea(border)
            if area >= MIN_AREA and len(points) >= 3 and not (label == UNLABELLED and touches):
                found.append((area, Polygon(int(label), points)))
    return [polygon for _, polygon in sorted(found, key=lambda pair: -pair[0])]


def labelme(name: str, label_image: np.ndarray, labels: LabelSet) -> dict[str, Any]:
    """Return the content of labelme's JSON file for an image of this file name beside it."""
    names = {**dict(enumerate(labels.names)), UNLABELLED: IGNORED}
    height, width = label_image.shape
    return {
        'version': '5.0.1', 'flags': {},
        'shapes': [{
            'label': names[polygon.label], 'points': polygon.points.astype(float).tolist(),
            'group_id': None, 'shape_type': 'polygon', 'flags': {}}
            for polygon in polygons(label_image)],
        'imagePath': name, 'imageData': None, 'imageHeight': height, 'imageWidth': width}
