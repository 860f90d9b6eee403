# SPDX-License-Identifier: Apache-2.0
"""Which images belong to a split: by a list in a file, or as blocks in time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar
from unicodedata import normalize

from lednet_ros.common.errors import DataError
from lednet_ros.images.sources import IMAGE_SUFFIXES

_BLOCK, _MOST_BLOCKS = 50, 10  # images a stretch at least; stretches at most
_PAIR = re.compile(  # an image and its label image
    rf'(.+?(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))})"?)\s+(\S.*\.\w+"?)', re.IGNORECASE)
_FLAG = re.compile(r'\s+(1|-1|0)$')

T = TypeVar('T')


def in_blocks(items: Sequence[T], shares: Mapping[str, float]) -> dict[str, list[T]]:
    """
    Return the items by split; 'train' gets what `shares` (split -> 0 to 1) leave.

    `items` are in the order of time. They are cut into up to 10 equal stretches of 50 or more, and
    the end of each stretch is taken: neighbours in a drive are much alike, so images chosen at
    random would be in train but for their stamp.
    """
    count = max(1, min(_MOST_BLOCKS, len(items) // _BLOCK))
    splits: dict[str, list[T]] = defaultdict(list)
    for i in range(count):
        first, end = i * len(items) // count, (i + 1) * len(items) // count
        length = end - first
        for split, share in reversed([*shares.items()]):
            taken = max(1, round(share * length)) if len(items) > len(shares) else 0
            splits[split] += items[end - taken:end]
            end -= taken
        splits['train'] += items[first:end]
    return splits


class Line(NamedTuple):
    """One line of a split list."""

    image: str
    label: str  # '' where the line names an image alone


def read_list(path: Path) -> list[Line]:
    """
    Read a split list: an image a line, and maybe its label image behind a space.

    Raise DataError.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise DataError(f'{path}: cannot be read: {error.strerror}: give the list of the '
                        "split's images") from error
    except UnicodeDecodeError as error:
        raise DataError(f'{path}: is no UTF-8 text: give a list, an image a line') from error
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        pair = _PAIR.fullmatch(line)  # names have spaces too
        lines.append(Line(*(word.strip('"') for word in (pair.groups() if pair else (line, '')))))
    if not lines:
        raise DataError(f'{path}: names no image: write one a line')
    return lines


def placed(text: str, root: Path) -> Path:
    """Return the file that a list names, below the root or anywhere."""
    path = Path(text)
    return path if path.is_absolute() and path.is_file() else root / _relative(text, root)


def _relative(text: str, root: Path) -> str:
    """Return a path as a pattern finds it below the root, also of one as Windows writes it."""
    return text.replace('\\', '/').removeprefix(f'{root.as_posix()}/').removeprefix(
        './').lstrip('/')


def chosen(
    files: Mapping[str, T], matched: Mapping[str, tuple[str, ...]], lines: Sequence[Line],
    path: Path, root: Path,
) -> list[T]:
    """
    Return those of `files`, by their paths, that a list's lines name.

    A line names a file by its path or the end of it, with or without its suffix, or by what the
    wildcards of its pattern matched. Raise DataError for one that names none, or several.
    """
    by_key: dict[str, set[str]] = defaultdict(set)
    by_end: dict[str, set[str]] = defaultdict(set)
    for file in files:
        pure = PurePosixPath(file)
        for key in (file, str(pure.with_suffix('')), '/'.join(matched[file])):
            by_key[normalize('NFC', key)].add(file)
        for i in range(1, len(pure.parts)):
            for named in (pure, pure.with_suffix('')):
                by_end[normalize('NFC', '/'.join(named.parts[i:]))].add(file)
    found: dict[str, None] = {}
    missing = []
    for line in lines:
        # The last is of VOC's lists of one class, whose second word tells if an image shows it.
        names = (line.image, _relative(line.image, root), _FLAG.sub('', line.image))
        keys = next(filter(None, (by.get(normalize('NFC', name)) for by in (by_key, by_end)
                                  for name in names)), set())
        if len(keys) > 1:
            one, other = sorted(keys)[:2]
            raise DataError(f'{path}: {line.image!r} is {one} as well as {other}: write the path')
        if keys:
            found.setdefault(min(keys))
        else:
            missing.append(line.image)
    if missing:
        raise DataError(
            f'{path}: {len(missing)} of {len(lines)} lines name no image that is there '
            f'({", ".join(missing[:3])}{", ..." if len(missing) > 3 else ""}): correct "images" '
            'in data.yaml, or the list')
    return [files[file] for file in found]
