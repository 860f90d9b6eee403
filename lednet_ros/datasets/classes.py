# SPDX-License-Identifier: Apache-2.0
"""The classes of a data.yaml: a label set, and what the label images' ids or colours mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.labels import UNLABELLED, LabelClass, LabelSet

UNKNOWN = 254  # as a class id: a value or a colour that a label image may not hold
OTHERS = 'others'

Color = tuple[int, int, int]  # RGB
_KEYS = ('name', 'id', 'ids', 'color', 'colors', 'category', 'void')


@dataclass(frozen=True)
class Colors:
    """What colours in label images mean."""

    ids: tuple[tuple[Color, int], ...]  # colour -> class id, 255: not scored
    others: int = UNKNOWN               # what all other colours mean

    def to_ids(self, pixels: np.ndarray) -> np.ndarray:
        """Return the class ids, uint8 (H, W), of colours, uint8 (H, W, 3) RGB; 254: unknown."""
        return _table(self)[_packed(pixels)]


@dataclass(frozen=True)
class Classes:
    """A label set, and what label images hold for it."""

    labels: LabelSet
    to_id: np.ndarray        # uint8 (256,): value -> class id, 255: not scored, 254: unknown
    colors: Colors | None    # where label images hold colours: those come before `to_id`
    has_colors: bool         # the classes' colours are given, not made up


@lru_cache(maxsize=2)
def _table(colors: Colors) -> np.ndarray:
    table = np.full(2 ** 24, colors.others, np.uint8)
    for color, id_ in colors.ids:
        table[_packed(np.array(color, np.uint8))] = id_
    return table


def _packed(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(np.uint32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def read_classes(
    name: str, entries: Sequence[Any], ignore: Sequence[Any] = (), where: str = 'data.yaml'
) -> Classes:
    """
    Read data.yaml's `classes` and `ignore`. Raise ConfigError naming the entry.

    Label images hold ids where a class has `id` or `ids`, or all are mere names; else colours.
    """
    classes = [_checked(entry, i, where) for i, entry in enumerate(entries)]
    if all(isinstance(entry, str) for entry in entries):
        classes = [{**c, 'id': i} for i, c in enumerate(classes)]
    by_id = any('id' in c or 'ids' in c for c in classes)
    for c in classes:
        if by_id and not ('id' in c or 'ids' in c):
            raise ConfigError(f'{where}: class {c["name"]!r} has no id, but others have: give '
                              'each "id" or "ids"')
        if not by_id and 'color' not in c and 'colors' not in c:
            raise ConfigError(f'{where}: class {c["name"]!r} has neither "id" nor "color": give '
                              'what the label images hold')
    classes, left_out = _without_ignored(classes, ignore)
    meant = _meanings(classes, left_out, by_id, where)
    shown = _shown_colors(classes, by_id)
    labels = LabelSet(name, tuple(
        LabelClass(c['name'], color, str(c.get('category', c['name'])), bool(c.get('void', False)))
        for c, color in zip(classes, shown, strict=True)))
    if by_id:
        return Classes(labels, _by_value(meant, labels), None, all('color' in c for c in classes))
    if len(labels) > UNKNOWN:
        raise ConfigError(f'{where}: has {len(labels)} classes by colour: give at most {UNKNOWN}')
    return Classes(
        labels, identity(labels),
        Colors(tuple((c, i) for c, i in meant.items() if c != OTHERS),
               meant.get(OTHERS, UNKNOWN)), True)


def identity(labels: LabelSet) -> np.ndarray:
    """Return what values mean that are class ids themselves: uint8 (256,), as DataSet's to_id."""
    to_id = np.full(256, UNKNOWN, np.uint8)
    to_id[:len(labels)] = np.arange(len(labels))
    to_id[labels.void_ids] = UNLABELLED
    to_id[UNLABELLED] = UNLABELLED
    return to_id


def _by_value(meant: Mapping[Any, int], labels: LabelSet) -> np.ndarray:
    to_id = np.full(256, meant.get(OTHERS, UNKNOWN), np.uint8)
    to_id[UNLABELLED] = UNLABELLED
    for value, id_ in meant.items():
        if value != OTHERS:
            to_id[value] = id_
    to_id[np.isin(to_id, labels.void_ids)] = UNLABELLED
    return to_id


def _checked(entry: Any, place: int, where: str) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {'name': entry}
    if not isinstance(entry, Mapping):
        raise ConfigError(f'{where}: class {place}: {entry!r} is not a mapping: give name, and '
                          'id, ids or color')
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ConfigError(f'{where}: class {place}: unknown key {unknown[0]!r}: a class has '
                          f'{", ".join(_KEYS)}')
    if not isinstance(entry.get('name'), str) or not entry['name']:
        raise ConfigError(f'{where}: class {place}: name is {entry.get("name")!r}: give a text')
    what = f'{where}: class {place} ({entry["name"]})'
    if not isinstance(entry.get('void', False), bool):
        raise ConfigError(f'{what}: void is {entry["void"]!r}: give true or false')
    checked = dict(entry)
    if 'color' in entry:
        checked['color'] = read_color(entry['color'], what)
    if 'colors' in entry and entry['colors'] != OTHERS:
        checked['colors'] = [read_color(c, what) for c in _listed(entry['colors'], what)]
    for id_ in _own_ids(checked, what):
        _check_id(id_, what)
    return checked


def _own_ids(entry: Mapping[str, Any], what: str) -> list[Any]:
    ids = entry.get('ids', [])
    return [*([entry['id']] if 'id' in entry else []),
            *([] if ids == OTHERS else _listed(ids, what))]


def _listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f'{what}: {value!r} is no list: give one in brackets, or "{OTHERS}"')
    return value


def _check_id(value: Any, what: str) -> None:
    if type(value) is not int or not 0 <= value <= 255:
        raise ConfigError(f'{what}: id is {value!r}: give 0 to 255')


def read_color(value: Any, what: str) -> Color:
    """Read [red, green, blue] or '#rrggbb'. Raise ConfigError."""
    if isinstance(value, str) and re.fullmatch('#[0-9a-fA-F]{6}', value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    if (isinstance(value, Sequence) and len(value) == 3
            and all(type(v) is int and 0 <= v <= 255 for v in value)):
        return value[0], value[1], value[2]
    raise ConfigError(f"{what}: color is {value!r}: give [red, green, blue], 0-255, or '#rrggbb'")


def _without_ignored(
    classes: list[dict[str, Any]], ignore: Sequence[Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the classes that `ignore` does not name, and all that is to be ignored instead."""
    names = {c['name'] for c in classes}
    by_name = {item for item in ignore if isinstance(item, str) and item in names}
    kept = [c for c in classes if c['name'] not in by_name]
    ignored = [{**c, 'name': ''} for c in classes if c['name'] in by_name]
    return kept, [*ignored, *(item for item in ignore if not (
        isinstance(item, str) and item in by_name))]


def _values(entry: Mapping[str, Any], by_id: bool, what: str) -> Iterable[Any]:
    """Return what stands for a class in label images: ids or colours, or 'others'."""
    if by_id:
        return [*_own_ids(entry, what), *([OTHERS] if entry.get('ids') == OTHERS else [])]
    if entry.get('colors') == OTHERS:
        return [OTHERS]
    return [*([entry['color']] if 'color' in entry else []), *entry.get('colors', [])]


def _meanings(
    classes: Sequence[Mapping[str, Any]], ignored: Sequence[Any], by_id: bool, where: str
) -> dict[Any, int]:
    """Return ids or colours -> class ids. Raise ConfigError where one has two meanings."""
    meant: dict[Any, int] = {}

    def mean(value: Any, id_: int, what: str) -> None:
        if meant.setdefault(value, id_) != id_:
            raise ConfigError(f'{where}: {_said(value)} stands for {what} and for something else: '
                              'give it once')

    for i, c in enumerate(classes):
        for value in _values(c, by_id, where):
            mean(value, i, c['name'])
    for item in ignored:
        if isinstance(item, Mapping):
            values = _values(item, by_id, where)
        elif item == OTHERS:
            values = [OTHERS]
        elif by_id:
            _check_id(item, f'{where}: ignore')
            values = [item]
        else:
            values = [read_color(item, f'{where}: ignore')]
        for value in values:
            mean(value, UNLABELLED, '"ignore"')
    return meant


def _said(value: Any) -> str:
    return value if value == OTHERS else (
        '#{:02x}{:02x}{:02x}'.format(*value) if isinstance(value, tuple) else f'id {value}')


def _shown_colors(classes: Sequence[Mapping[str, Any]], by_id: bool) -> list[Color]:
    """Return each class's colour for people: its own, or Pascal VOC's for its first id."""
    shown = []
    for i, c in enumerate(classes):
        own = [v for v in [c.get('color'), *c['colors']][:2] if v] if isinstance(
            c.get('colors'), list) else [c['color']] if 'color' in c else []
        ids = _own_ids(c, '') if by_id else []
        shown.append(own[0] if own else voc_color(ids[0] if ids else i))
    return shown


def voc_color(index: int) -> Color:
    """Return a colour of Pascal VOC's palette, which many tools use too."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return color[0], color[1], color[2]
