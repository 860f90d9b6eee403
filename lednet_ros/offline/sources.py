# SPDX-License-Identifier: Apache-2.0
"""What a source holds: pictures, videos and bags; what is none of them is counted."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lednet_ros.bags.files import BAG_SUFFIXES, beside, is_bag
from lednet_ros.common.errors import ConfigError
from lednet_ros.images.sources import IMAGE_SUFFIXES, STREAMS, but, is_picture, natural
from lednet_ros.offline.output_dir import Output, results_in

# Those of which a directory's films are known. A file that is given itself may have any.
VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.mts',
                  '.m2ts', '.wmv', '.flv', '.3gp', '.ogv', *STREAMS)


class Item(NamedTuple):
    """A picture, video or bag, and what its results are called, without a suffix."""

    path: Path
    name: Path


def result_of(bag: Item) -> Path:
    """Return the name of the bag that is written for one."""
    return bag.name.with_name(f'{bag.name.name}_labels')


@dataclass
class Found:
    """What is to be segmented, sorted; and what is not: (what it is, path)."""

    pictures: list[Item] = field(default_factory=list)
    videos: list[Item] = field(default_factory=list)
    bags: list[Item] = field(default_factory=list)
    skipped: list[tuple[str, Path]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # a line each


def find(source: Path, output: Output) -> Found:
    """Find what a source holds; links are followed. Raise ConfigError where that is nothing."""
    found = Found()
    if is_bag(source):
        _take_bag(source, Path(_name_of(source)), found)
    elif source.is_dir():
        _search(source, output, found)
        for items in (found.pictures, found.videos, found.bags):
            items.sort(key=lambda item: [natural(Path(p)) for p in item.path.parts])
        if not (found.pictures or found.videos or found.bags or found.unreadable):
            others = but(Counter(kind for kind, _ in found.skipped))
            raise ConfigError(f'{source}: holds no image, video or bag{others}: put '
                              f'{", ".join(IMAGE_SUFFIXES)} files into it, or videos, or bags')
    elif not source.is_file():
        raise ConfigError(f'{source}: is no file and no directory: give an image, a directory, a '
                          'video or a bag')
    else:
        # Of ..png and ...png the rest would be no name.
        name = Path(source.stem if source.stem.strip('.') else source.name)
        (found.pictures if is_picture(source) else found.videos).append(Item(source, name))
    return found


def _name_of(bag: Path) -> str:
    """Return a bag's name: a directory's own, also where it is given as '.'; a file's stem."""
    name = Path(os.path.abspath(bag)).name
    suffix = max((s for s in BAG_SUFFIXES if name.lower().endswith(s)), key=len, default='')
    return name if bag.is_dir() else name[:len(name) - len(suffix)] or name


def _take_bag(bag: Path, name: Path, found: Found) -> None:
    found.bags.append(Item(bag, name))
    found.skipped += [('files beside a bag', path) for path in beside(bag)]


def _search(root: Path, output: Output, found: Found) -> None:
    """Go through a directory and those below it."""
    # Each with those around it, as they really are.
    ahead: list[tuple[Path, tuple[str, ...]]] = [(root, (os.path.realpath(root),))]
    while ahead:
        directory, around = ahead.pop()
        try:
            entries = sorted(directory.iterdir())
        except OSError as error:
            found.unreadable.append(f'{directory}: cannot be read: {error.strerror}: let this '
                                    'user read it')
            continue
        results = results_in(directory)
        for path in entries:
            name = path.relative_to(root)
            suffix = path.suffix.lower()
            is_file = os.path.isfile(path)
            if output.holds(path):
                continue
            if path in results:
                found.skipped.append(('results of other runs', path))
            elif path.name.startswith('.'):
                found.skipped.append(('hidden', path))
            elif is_file and suffix in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and is_picture(path):
                found.pictures.append(Item(path, name.with_suffix('')))
            elif is_file and suffix in VIDEO_SUFFIXES:
                found.videos.append(Item(path, name.with_suffix('')))
            elif is_bag(path):
                _take_bag(path, name.with_name(_name_of(path)), found)
            elif os.path.isdir(path):
                real = os.path.realpath(path)
                if real in around:
                    found.skipped.append(('links that lead back', path))
                else:
                    ahead.append((path, (*around, real)))
            elif is_file:
                found.skipped.append((suffix or 'no suffix', path))
            elif (fault := fault_of(path)) and suffix in (
                    *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *BAG_SUFFIXES, ''):
                found.unreadable.append(f'{path}: {fault}')
            else:
                found.skipped.append(('no files', path))


def fault_of(path: Path) -> str:
    """Return why it cannot be told what a path is, with the remedy; nothing where it can."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return ('is a link to what is not there: mend or remove it' if os.path.islink(path) else
                'does not exist: give an image, a directory, a video or a bag')
    except OSError as error:
        return f'cannot be read: {error.strerror}: mend that, or let this user read it'
    return ''
