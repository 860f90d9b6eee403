# SPDX-License-Identifier: Apache-2.0
"""
data.yaml: where a data set's images and label images lie, and what those hold.

docs/datasets.md has every key, and descriptors/ the data sets that come described.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lednet_ros.common.errors import ConfigError, DataError, LednetRosError
from lednet_ros.common.paths import expanded
from lednet_ros.common.yaml_file import load_yaml
from lednet_ros.datasets.class_files import read_class_file
from lednet_ros.datasets.classes import Classes, identity, read_classes
from lednet_ros.datasets.data_set import DataSet, Pair
from lednet_ros.datasets.patterns import Pattern
from lednet_ros.datasets.splits import chosen, in_blocks, placed, read_list
from lednet_ros.images.sources import IMAGE_SUFFIXES, natural
from lednet_ros.model.labels import LabelSet, builtin_label_set

NAME = 'data.yaml'
_PLACES = ('images', 'labels', 'train', 'val', 'test')
_MEANING = ('classes', 'ignore')
_KEYS = ('name', 'base', 'path', *_PLACES, *_MEANING)
_BUILTIN = ('cityscapes', 'camvid')


@dataclass(frozen=True)
class _Part:
    """The files of a split, as its YAML names them."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    lists: tuple[str, ...] = ()


def described() -> list[str]:
    """Return the names of the data sets that come with a description, for `base`."""
    folder = files('lednet_ros') / 'datasets' / 'descriptors'
    return sorted(Path(str(p)).stem for p in folder.iterdir() if str(p).endswith('.yaml'))


def likely_base(root: Path) -> str:
    """Return which description that comes along fits a directory; '' where none does."""
    for name in described():
        data = _read(_builtin(name))
        listed = [data[s] for s in ('train', 'val') if isinstance(data.get(s), str)]
        classes = data['classes']
        needed = [*listed, classes] if isinstance(classes, str) and '.' in classes else listed
        if not all((root / file).is_file() for file in needed):
            continue
        try:
            pairs, _ = _split_pairs(data, root, _builtin(name), 'train')
        except LednetRosError:
            continue
        if pairs and pairs[0].label.is_file():
            return name
    return ''


def builtin_classes(name: str) -> Classes:
    """Return the classes of a data set that comes with a description."""
    path = _builtin(name)
    return _classes(_read(path), name, path.parent, path)


def _builtin(name: str) -> Path:
    return Path(str(files('lednet_ros') / 'datasets' / 'descriptors' / f'{name}.yaml'))


def open_descriptor(path: Path, split: str) -> DataSet:
    """
    List a split of the data set that a YAML file describes. Reads no image.

    Raise ConfigError, DataError.
    """
    data = _read(path)
    root = (path.parent / expanded(str(data.get('path', '.')))).absolute()
    if not root.is_dir():
        raise DataError(f'{path}: path: {root} is no directory: give the one that holds the data '
                        'set')
    name = str(data.get('name', root.resolve().name))
    classes = _classes(data, name, root, path)
    pairs, left_out = _split_pairs(data, root, path, split)
    if not pairs:
        raise DataError(f'{path}: no image of {split} is left of {_said(data, split)} in {root}: '
                        'correct the patterns, or the shares')
    return DataSet(root, split, classes.labels, tuple(pairs), classes.to_id, path.name, left_out,
                   classes.colors, classes.has_colors)


def _read(path: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """
    Read a descriptor and what it is based on. Raise ConfigError.

    Files (images, labels, splits) and meaning (classes, ignore) are each the base's, or its own:
    but a share (val: 0.3) or ignore by itself is taken into the base's.
    """
    data = _load(path)
    if isinstance(data.get('names'), (list, dict)):
        raise ConfigError(f'{path}: is a data.yaml of Ultralytics, whose labels are polygons: '
                          f'draw them by "lednet_import {path.parent} OUT", and give OUT')
    for key in data:
        if key not in _KEYS:
            raise ConfigError(f'{path}: unknown key {key!r}: data.yaml has {", ".join(_KEYS)}')
    base = data.pop('base', None)
    if base is None:
        return data
    if base not in described() or base in above:
        raise ConfigError(f'{path}: base is {base!r}: choose one of {", ".join(described())}')
    with_base = _read(_builtin(base), (*above, base))
    places = {key for key in _PLACES if key in data}
    # A share of the base's images, or what is ignored of its classes, replaces that alone.
    is_share = all(
        key in ('val', 'test') and isinstance(data[key], (int, float)) for key in places)
    gone = set(_MEANING) if 'classes' in data else set()
    if places and not is_share:
        gone |= set(_PLACES)
    return {**{k: v for k, v in with_base.items() if k not in gone}, **data}


def _load(path: Path) -> dict[str, Any]:
    try:
        data = load_yaml(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read: {error.strerror}: give a data.yaml, as '
                          'docs/datasets.md shows') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not a YAML file: {" ".join(str(error).split())}') from error
    if not isinstance(data, Mapping):
        raise ConfigError(f'{path}: is not a mapping: give "images:", "labels:" and "classes:", '
                          'as docs/datasets.md shows')
    return dict(data)


def _classes(data: Mapping[str, Any], name: str, root: Path, path: Path) -> Classes:
    entries, ignore = data.get('classes'), data.get('ignore', [])
    if not isinstance(ignore, list):
        ignore = [ignore]
    if isinstance(entries, str):
        if entries in _BUILTIN and not ignore:
            labels = builtin_label_set(entries)
            return Classes(labels, identity(labels), None, True)
        if Path(entries).suffix in ('.yaml', '.yml'):
            labels = LabelSet.from_yaml(root / entries)
            return Classes(labels, identity(labels), None, True)
        found = read_class_file(root / entries)
        known = [c['name'] for c in found]
        strange = [i for i in ignore if isinstance(i, str) and i[:1] != '#'
                   and i not in (*known, 'others')]
        if strange:
            raise ConfigError(f'{path}: ignore: {strange[0]!r} is no class of {entries}: it has '
                              f'{", ".join(known[:12])}')
        return read_classes(name, found, ignore, str(path))
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f'{path}: classes is {entries!r}: give a list, as docs/datasets.md '
                          f'shows, a file of them, or one of {", ".join(_BUILTIN)}')
    return read_classes(name, entries, ignore, str(path))


def _split_pairs(
    data: Mapping[str, Any], root: Path, path: Path, split: str
) -> tuple[list[Pair], tuple[str, ...]]:
    """Return a split's pairs, in natural order, and what is left out, in words."""
    shares = {s: _share(data[s], s, path) for s in ('val', 'test')
              if isinstance(data.get(s), (int, float))}
    if sum(shares.values()) >= 1:
        raise ConfigError(f'{path}: val and test take all images: give shares that leave some '
                          'for train')
    if split in shares or (split == 'train' and shares):
        found = _find(_part(data, 'train', path), root, path)
        in_time = sorted(found.pairs, key=lambda pair: natural(pair.image))
        return in_blocks(in_time, shares)[split], (*found.left_out, *_lone(found.alone))
    if split not in data and not (split == 'train' and 'images' in data):
        known = ', '.join(s for s in ('train', 'val', 'test') if s in data) or 'none'
        raise DataError(f'{path}: describes no {split} split (of train, val and test: {known}): '
                        f'give "{split}:" its images, or a share, as in "val: 0.2"')
    found = _find(_part(data, split, path), root, path)
    left_out, unnamed, alone = found.left_out, found.unnamed, found.alone
    for other in {'train', 'val', 'test'} & {*data} - {split, *shares}:
        theirs: set[Path] = set()
        with suppress(DataError):  # it is said where that split is opened
            others = _find(_part(data, other, path), root, path)
            theirs = {p.image for p in others.pairs}
            alone -= others.taken
        unnamed -= theirs
        shared = {p.image for p in found.pairs} & theirs
        if shared:
            raise DataError(f'{path}: {len(shared)} images are in {split} and in {other} '
                            f'({min(shared).name}, for one): let each be in one split')
    if unnamed:
        left_out = (*left_out, f'{len(unnamed)} images that no list names')
    left_out = (*left_out, *_lone(alone))
    return sorted(found.pairs, key=lambda pair: natural(pair.image)), left_out


def _share(value: Any, split: str, path: Path) -> float:
    if isinstance(value, bool) or not 0 < value < 1:
        raise ConfigError(f'{path}: {split} is {value}: give a share between 0 and 1, or files')
    return float(value)


def _part(data: Mapping[str, Any], split: str, path: Path) -> _Part:
    own = data.get(split, {})
    if isinstance(own, str):
        own = {'list': own}
    if not isinstance(own, Mapping) or set(own) - {'images', 'labels', 'list'}:
        raise ConfigError(f'{path}: {split} is {own!r}: give it images, labels, list, or some of '
                          'them')
    images, labels, lists = (
        _texts(own.get(key, data.get(key, [])), f'{path}: {split}: {key}')
        for key in ('images', 'labels', 'list'))
    if not lists and not images:
        raise ConfigError(f'{path}: {split} has no images: give a pattern, as images/{split}/*.*')
    if len(labels) not in ((1, len(images)) if images else (0, 1)):
        raise ConfigError(f'{path}: {split} has {len(images)} patterns of images but '
                          f'{len(labels)} of labels: give one, or as many')
    return _Part(images, labels, lists)


def _texts(value: Any, what: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'{what} is {value!r}: give a pattern, or a list of them')
    return tuple(texts)


class _Found(NamedTuple):
    """The files of a split."""

    pairs: list[Pair]
    left_out: tuple[str, ...]  # in words
    unnamed: set[Path]         # images that the patterns find and the list does not name
    taken: set[str]            # label images of what the patterns find, relative to the root
    alone: set[str]            # those that the patterns of labels find beside them


def _find(part: _Part, root: Path, path: Path) -> _Found:
    """Return what patterns and lists name. Raise ConfigError, DataError."""
    found: dict[str, Pair] = {}
    matched: dict[str, tuple[str, ...]] = {}
    by_labels: dict[str, Pattern] = {}  # which pattern names a file's label image
    no_images, hidden = 0, 0
    labels = part.labels * len(part.images) if len(part.labels) == 1 else part.labels
    for images_text, labels_text in zip(part.images, labels, strict=True):
        images, label = Pattern(images_text), Pattern(labels_text)
        if label.wildcards > images.wildcards:
            raise ConfigError(f'{path}: labels {labels_text!r} has more wildcards than images '
                              f'{images_text!r}, which say what they stand for')
        for file, words in images.find(root):
            if file.rpartition('/')[2].startswith('.'):
                hidden += 1
            elif Path(file).suffix.lower() not in IMAGE_SUFFIXES:
                no_images += 1
            elif label.match(file) is None or label.text == images.text:
                found[file] = Pair(root / file, root / label.filled(words))
                matched[file], by_labels[file] = words, label
    left_out = tuple(f'{count} {what}' for count, what in (
        (hidden, 'hidden files'), (no_images, 'files that are no images')) if count)
    taken = {pattern.filled(matched[file]) for file, pattern in by_labels.items()}
    alone = {file for pattern in set(by_labels.values()) for file, _ in pattern.find(root)
             if file not in found and file.lower().endswith('.png')
             and not file.rpartition('/')[2].startswith('.')} - taken
    if not part.lists:
        return _Found(_each_its_own(list(found.values())), left_out, set(), taken, alone)
    pairs = [pair for text in part.lists for pair in _listed(root / text, root, found, matched)]
    return _Found(_each_its_own(pairs), left_out, {
        pair.image for pair in found.values()} - {pair.image for pair in pairs}, taken, alone)


def _lone(files: set[str]) -> tuple[str, ...]:
    """Say how many label images have no image."""
    return (f'{len(files)} label images without an image',) if files else ()


def _listed(
    path: Path, root: Path, found: Mapping[str, Pair], matched: Mapping[str, tuple[str, ...]]
) -> list[Pair]:
    lines = read_list(path)
    if all(line.label for line in lines):
        return list(dict.fromkeys(
            Pair(placed(line.image, root), placed(line.label, root)) for line in lines))
    if any(line.label for line in lines):
        raise DataError(f'{path}: only some of its lines name a label image: let all, or none')
    return chosen(found, matched, lines, path, root)


def _each_its_own(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs. Raise DataError where two images would share a label image."""
    images: dict[Path, Path] = {}
    for pair in pairs:
        other = images.setdefault(pair.label, pair.image)
        if other != pair.image:
            raise DataError(f'{other} and {pair.image}: would share {pair.label}: let the labels '
                            'pattern have all the wildcards of the images pattern')
    return pairs


def _said(data: Mapping[str, Any], split: str) -> str:
    own = data.get(split)
    part = own if isinstance(own, Mapping) else data
    return ', '.join(map(str, _texts(part.get('images', data.get('images', [])), split))) or 'it'
