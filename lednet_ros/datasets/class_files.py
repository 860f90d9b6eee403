# SPDX-License-Identifier: Apache-2.0
"""
The lists of classes that tools and data sets write beside their label images.

labelmap.txt         of CVAT: background:0,0,0::
label_colors.txt     of CamVid and CVAT: 64 128 64 Animal
*colormap.txt        of RUGD: 1 dirt 108 64 20, whose label images hold the colours
_classes.csv         of Roboflow: 1, road
config*.json         of Mapillary Vistas
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lednet_ros.common.errors import DataError

Entry = dict[str, Any]  # a class as data.yaml has it: name, and color or id


def read_class_file(path: Path) -> list[Entry]:
    """Return the classes that a file lists, as data.yaml's. Raise DataError."""
    reader = next((read for pattern, read in _READERS if re.search(pattern, path.name)), None)
    if reader is None:
        raise DataError(f'{path}: is no list of classes that is read here: give labelmap.txt, '
                        'label_colors.txt, *colormap.txt, _classes.csv or config*.json, or write '
                        'the classes into data.yaml')
    try:
        entries = reader(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise DataError(f'{path}: cannot be read: {error.strerror}: data.yaml takes its classes '
                        'from it') from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path}: is not written as {reader.__doc__}: write the classes into '
                        'data.yaml instead') from error
    if not entries:
        raise DataError(f'{path}: lists no class: write the classes into data.yaml instead')
    return entries


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()
            if line.strip() and not line.strip().startswith('#')]


def _labelmap(text: str) -> list[Entry]:
    """CVAT's 'label:red,green,blue:parts:actions'."""
    entries = []
    for line in _lines(text):
        name, color = line.rsplit(':', 3)[:2] if line.count(':') >= 3 else line.split(':')[:2]
        red, green, blue = map(int, color.split(','))
        entries.append({'name': name, 'color': [red, green, blue]})
    return entries


def _label_colors(text: str) -> list[Entry]:
    """CamVid's 'red green blue name'."""
    entries = []
    for line in _lines(text):
        red, green, blue, name = line.split(None, 3)
        entries.append({'name': name, 'color': [int(red), int(green), int(blue)]})
    return entries


def _colormap(text: str) -> list[Entry]:
    """RUGD's 'id name red green blue'."""
    entries = []
    for line in _lines(text):
        *name, red, green, blue = line.split()[1:]
        entries.append({'name': ' '.join(name), 'color': [int(red), int(green), int(blue)]})
    return entries


def _classes_csv(text: str) -> list[Entry]:
    """Roboflow's 'Pixel Value, Class', then 'id, name'."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    return [{'name': name.strip(), 'id': int(value)} for value, name in rows[1:]]


def _mapillary(text: str) -> list[Entry]:
    """Mapillary Vistas' {"labels": [{"name", "readable", "evaluate", "color"}]}."""
    labels = json.loads(text)['labels']
    short = Counter(label['readable'] for label in labels)
    return [{'name': label['readable'] if short[label['readable']] == 1 else label['name'],
             'id': i, 'color': label['color'][:3], 'void': not label['evaluate']}
            for i, label in enumerate(labels)]


_READERS: tuple[tuple[str, Callable[[str], list[Entry]]], ...] = (
    (r'^labelmap\.txt$', _labelmap), (r'^label_colors\.txt$', _label_colors),
    (r'colormap\.txt$', _colormap), (r'^_classes\.csv$', _classes_csv),
    (r'^config.*\.json$', _mapillary))
