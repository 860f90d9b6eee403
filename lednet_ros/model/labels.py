# SPDX-License-Identifier: Apache-2.0
"""
A label set: which classes a network knows, their names, colours and categories.

A checkpoint carries its own, which decides names and colours on topics and in pictures: the files
of label_sets/ are for trainings (docs/api.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import safetensors
import yaml

from lednet_ros.common.errors import ConfigError, first_line
from lednet_ros.common.yaml_file import load_yaml, read_text

UNLABELLED = 255
"""The label of a pixel without a class: not seen, not sure, or of a void class."""


@dataclass(frozen=True)
class LabelClass:
    """One class; its id is its place in the set."""

    name: str
    color: tuple[int, int, int]  # RGB, 0 to 255
    category: str
    void: bool = False           # the network knows it, label images show it as 255


@dataclass(frozen=True)
class LabelSet:
    """The classes of a network, in the order of its scores. Checked when made."""

    name: str
    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= UNLABELLED:
            raise ConfigError(
                f'label set {self.name!r} has {len(self.classes)} classes: '
                f'give 1 to {UNLABELLED}, ids are one byte and {UNLABELLED} means unlabelled')
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f'label set {self.name!r} names {name!r} twice: give each class its own name')
            if {'Cc', 'Cs', 'Zl', 'Zp'} & set(map(category, name)):  # lists have a name a line
                raise ConfigError(f'label set {self.name!r} has a class {name!r}: give a name on '
                                  'one line, without control characters')

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Class names by id."""
        return [c.name for c in self.classes]

    @property
    def categories(self) -> dict[str, list[int]]:
        """Class ids by category, void classes left out, in order of first appearance."""
        categories: dict[str, list[int]] = {}
        for id_, c in enumerate(self.classes):
            if not c.void:
                categories.setdefault(c.category, []).append(id_)
        return categories

    @cached_property
    def palette(self) -> np.ndarray:
        """RGB colour of every possible label, uint8 (256, 3); black where there is no class."""
        palette = np.zeros((256, 3), np.uint8)
        for id_, c in enumerate(self.classes):
            if not c.void:
                palette[id_] = c.color
        palette.setflags(write=False)
        return palette

    @cached_property
    def void_ids(self) -> list[int]:
        """Ids of the classes that come out as 255."""
        return [id_ for id_, c in enumerate(self.classes) if c.void]

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """
        Read a label set from a YAML file (docs/api.md, 'Your own checkpoint', shows one).

        Raise ConfigError with the file, the entry and the remedy.
        """
        try:
            data = load_yaml(read_text(Path(path)))
        except OSError as error:
            raise ConfigError(f'{path}: cannot be read: {error.strerror}: give a YAML file with a '
                              "'name' and a list 'classes'") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = ' '.join(str(error).split())
            raise ConfigError(f'{path}: not a YAML file: {reason}') from error
        return cls.from_dict(data, where=str(path))

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> LabelSet:
        """Read the label set in a checkpoint's own record, without torch. Raise ConfigError."""
        try:
            with safetensors.safe_open(path, framework='np') as file:
                data = json.loads((file.metadata() or {})['lednet_ros'])['labels']
        except OSError as error:
            raise ConfigError(f'{path}: cannot be read: {error.strerror or first_line(error)}: '
                              'give a checkpoint file') from error
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f'{path}: holds no label set ({first_line(error)}): give a '
                              'checkpoint that lednet_train or save_checkpoint wrote') from error
        return cls.from_dict(data, where=str(path))

    @classmethod
    def from_dict(cls, data: Any, where: str = 'label set') -> LabelSet:
        """Check and take what a YAML file or a checkpoint's record holds."""
        if not isinstance(data, Mapping) or not isinstance(data.get('classes'), Sequence):
            raise ConfigError(f"{where}: not a label set: give 'name' and a list 'classes'")
        return cls(
            name=str(data.get('name', 'unnamed')),
            classes=tuple(_read_class(c, f'{where}: class {i}')
                          for i, c in enumerate(data['classes'])))

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, of plain JSON types."""
        classes: list[dict[str, Any]] = []
        for c in self.classes:
            entry: dict[str, Any] = {
                'name': c.name, 'color': list(c.color), 'category': c.category}
            if c.void:
                entry['void'] = True
            classes.append(entry)
        return {'name': self.name, 'classes': classes}


def builtin_label_set(name: str) -> LabelSet:
    """One of the label sets that come with the package: 'cityscapes' or 'camvid'."""
    file = files('lednet_ros.model') / 'label_sets' / f'{name}.yaml'
    return LabelSet.from_dict(load_yaml(file.read_text(encoding='utf-8')), where=name)


def _read_class(entry: Any, where: str) -> LabelClass:
    if not isinstance(entry, Mapping):
        raise ConfigError(f'{where}: {entry!r} is not a mapping: give name, color and category')
    unknown = set(entry) - {'name', 'color', 'category', 'void'}
    if unknown:
        raise ConfigError(f'{where}: unknown key {sorted(map(str, unknown))[0]!r}: '
                          'a class has name, color, category and void')
    name, color, void = entry.get('name'), entry.get('color'), entry.get('void', False)
    category = entry.get('category', name)
    if not isinstance(name, str) or not name:
        raise ConfigError(f'{where}: name is {name!r}: give a text')
    if not (isinstance(color, Sequence) and len(color) == 3
            and all(type(v) is int and 0 <= v <= 255 for v in color)):
        raise ConfigError(f'{where} ({name}): color is {color!r}: give [red, green, blue], 0-255')
    if not isinstance(category, str):
        raise ConfigError(f'{where} ({name}): category is {category!r}: give a text')
    if not isinstance(void, bool):
        raise ConfigError(f'{where} ({name}): void is {void!r}: give true or false')
    return LabelClass(name, (color[0], color[1], color[2]), category, void)
