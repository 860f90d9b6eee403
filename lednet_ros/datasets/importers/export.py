# SPDX-License-Identifier: Apache-2.0
"""What every importer gives: classes, and pictures with what was drawn on them, in order."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lednet_ros.common.errors import DataError, LednetRosError, first_line
from lednet_ros.datasets.classes import Color
from lednet_ros.images.encodings import MAX_PACKED_PIXELS, MAX_SIDE

SPLITS = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val',
          'validation': 'val', 'test': 'test', 'testing': 'test'}


class ImportedClass(NamedTuple):
    """A class as its tool names it."""

    name: str
    color: Color | None = None  # the tool's own
    category: str = ''


class Drawn(NamedTuple):
    """One shape, as pixels."""

    name: str         # of its class; '' is a region to be ignored
    mask: np.ndarray  # bool (H, W), of the whole picture, or a part of it
    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class Picture:
    """An image, and what was drawn on it: later shapes lie over earlier ones."""

    image: str  # as the tool names it, mostly a path
    height: int
    width: int
    drawn: Iterator[Drawn]
    split: str = ''     # train, val or test, where the export tells
    where: Path | None = None  # a folder that the name is relative to, where there is one
    below: str = ''     # the folder in the data set that keeps it apart from others of its name

    def __post_init__(self) -> None:
        if not (0 < self.height <= MAX_SIDE and 0 < self.width <= MAX_SIDE
                and self.height * self.width <= MAX_PACKED_PIXELS):
            raise ValueError(f'{self.image} of {self.width}x{self.height} pixels')


@dataclass
class Export:
    """An export, opened."""

    classes: list[ImportedClass]
    pictures: Callable[[], Iterator[Picture]]
    files: list[Path]  # that it was read from
    left_out: Counter[str] = field(default_factory=Counter)  # what makes no pixels, by kind


def read_json(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file; `hook` may make each object smaller as it is read. Raise DataError."""
    try:
        with path.open(encoding='utf-8-sig') as file:
            return json.load(file, object_hook=hook)
    except OSError as error:
        raise DataError(f'{path}: cannot be read: {error.strerror}: export it anew') from error
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path}: is no JSON: {first_line(error)}: export it anew') from error


def pictures_of(
    files: list[Path], tool: str, read: Callable[[Path], Iterator[Picture]]
) -> Callable[[], Iterator[Picture]]:
    """Return what yields each file's pictures, their shapes drawn as they are asked for."""
    def pictures() -> Iterator[Picture]:
        for file in files:
            with format_named(file, tool):
                for picture in read(file):
                    yield replace(picture, drawn=_named(picture, file, tool))

    return pictures


def _named(picture: Picture, file: Path, tool: str) -> Iterator[Drawn]:
    with format_named(file, tool, f'{picture.image} '):
        yield from picture.drawn


@contextmanager
def format_named(path: Path, tool: str, what: str = '') -> Iterator[None]:
    """Turn whatever a file of another form leads to into a DataError that names it."""
    try:
        yield
    except LednetRosError:
        raise
    except Exception as error:  # JSON, XML, Pillow and OpenCV each have their own
        raise DataError(f'{path}: {what}is not as {tool} writes it ({type(error).__name__}: '
                        f'{first_line(error)}): export it anew, or name the tool by '
                        '--format') from error


def text_of(name: Any) -> str:
    """Return a class's name as text; '' where there is none, which is no name."""
    return '' if name is None else str(name)


def folder_among(file: Path, files: Sequence[Path]) -> str:
    """
    Return an exported file's folder among those of others, as of several tasks; '' of one alone.

    What a split and tools' own folders are called is left out.
    """
    root = Path(os.path.commonpath([other.parent for other in files]))
    return '/'.join(part for part in file.parent.relative_to(root).parts
                    if part.lower().rstrip('0123456789') not in {'annotations', *SPLITS})


def split_of(path: str) -> str:
    """Return train, val or test where a part of a path says so; else ''."""
    words = path.lower().replace('.', '/').replace('_', '/').replace('-', '/').split('/')
    for word in reversed(words):
        bare = word.rstrip('0123456789')
        if bare in SPLITS:
            return SPLITS[bare]
    return ''
