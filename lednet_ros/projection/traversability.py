# SPDX-License-Identifier: Apache-2.0
"""What a planner may take a class for: free or blocked ground, an obstacle, or nothing known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded
from lednet_ros.common.yaml_file import load_yaml, read_text
from lednet_ros.model.labels import LabelSet, builtin_label_set

# Codes of pixels, ordered so that one comparison tells ground (below OUT), what can hide nothing
# (up to OUT) and obstacles (from OBSTACLE on, each class by a code of its own).
FREE, BLOCKED, OUT, UNKNOWN, OBSTACLE = range(5)
"""Ground that may be driven on; ground that may not; beside the picture; not known; obstacles."""

# Of what several views show of a place the one that says most holds: what blocks the way, free
# ground, then what is hidden or unknown.
RANK = np.full(256, 1, np.uint8)
RANK[[OUT, FREE, BLOCKED]] = 0, 2, 3
CODE_OF_RANK = np.array([OUT, UNKNOWN, FREE, BLOCKED], np.uint8)

BUILTIN = ('camvid', 'cityscapes')
WORDS = {'free': FREE, 'blocked': BLOCKED, 'unknown': UNKNOWN, 'obstacle': OBSTACLE}
_MOST_OBSTACLES = 256 - OBSTACLE


def together(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """
    Return the codes that hold of the same places in two views, uint8 of the same shape.

    Obstacles are of no class then: where they stand, contacts tell.
    """
    return CODE_OF_RANK[np.maximum(RANK[codes], RANK[others])]


@dataclass(frozen=True)
class Traversability:
    """One of WORDS for each class of a label set. Checked when made."""

    labels: LabelSet
    words: tuple[str, ...]  # by class id

    def __post_init__(self) -> None:
        if self.words.count('obstacle') > _MOST_OBSTACLES:
            raise ConfigError(f'traversability of {self.labels.name!r} has '
                              f'{self.words.count("obstacle")} classes of obstacles: '
                              f'{_MOST_OBSTACLES} at most')

    @cached_property
    def codes(self) -> np.ndarray:
        """Return the code of every possible label, uint8 (256,); what is no class is UNKNOWN."""
        codes = np.full(256, UNKNOWN, np.uint8)
        obstacle = OBSTACLE
        for id_, (word, c) in enumerate(zip(self.words, self.labels.classes, strict=True)):
            if c.void:
                continue
            codes[id_] = obstacle if word == 'obstacle' else WORDS[word]
            obstacle += word == 'obstacle'
        codes.setflags(write=False)
        return codes

    def says(self, word: str) -> np.ndarray:
        """Return for every possible label whether this is its class's word: bool (256,)."""
        says = np.zeros(256, bool)
        for id_, (own, c) in enumerate(zip(self.words, self.labels.classes, strict=True)):
            says[id_] = own == word and not c.void
        return says

    @classmethod
    def load(cls, name: str) -> Traversability:
        """Read one of BUILTIN, or a YAML file. Raise ConfigError with file, entry and remedy."""
        try:
            shipped = files('lednet_ros.projection') / 'traversability' / f'{name}.yaml'
            place = Path(str(shipped)) if name in BUILTIN else expanded(name)
            data = load_yaml(
                shipped.read_text(encoding='utf-8') if name in BUILTIN else read_text(place))
        except OSError as error:
            raise ConfigError(f'traversability {name!r}: cannot be read: {error.strerror}: choose '
                              f'{", ".join(BUILTIN)} or a YAML file like theirs') from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = ' '.join(str(error).split())
            raise ConfigError(f'traversability {name}: not a YAML file: {reason}') from error
        return cls.from_dict(data, f'traversability {name}', place.parent)

    @classmethod
    def from_dict(
        cls, data: Any, where: str = 'traversability', directory: Path = Path(),
    ) -> Traversability:
        """Check and take what a YAML file holds; `directory`: where a file of labels lies."""
        if not (isinstance(data, Mapping) and isinstance(data.get('classes'), Mapping)
                and isinstance(data.get('labels'), str)):
            raise ConfigError(f"{where}: give 'labels', a label set, and a mapping 'classes'")
        given = data['labels']
        if given in BUILTIN:
            labels = builtin_label_set(given)
        else:
            file = directory / expanded(given)
            is_checkpoint = file.suffix == '.safetensors'
            labels = LabelSet.from_checkpoint(file) if is_checkpoint else LabelSet.from_yaml(file)
        classes = data['classes']
        for name in classes:
            if name not in labels.names:
                raise ConfigError(f'{where}: {labels.name} has no class {name!r}: its classes are '
                                  f'{", ".join(labels.names)}')
        for name in labels.names:
            if name not in classes:
                raise ConfigError(f'{where}: class {name!r} is missing: give one of '
                                  f'{", ".join(WORDS)}')
            if not isinstance(classes[name], str) or classes[name] not in WORDS:
                raise ConfigError(f'{where}: class {name!r} is {classes[name]!r}: give one of '
                                  f'{", ".join(WORDS)}')
        return cls(labels, tuple(classes[name] for name in labels.names))
