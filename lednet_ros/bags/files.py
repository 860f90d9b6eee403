# SPDX-License-Identifier: Apache-2.0
"""What is a bag, and which files it is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from lednet_ros.common.errors import ConfigError, first_line

# Of one recording's files of equal names the first is read: a copy packed or converted lies beside
# it.
STORAGE_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
BAG_SUFFIXES = (*STORAGE_SUFFIXES, '.bag', '.bag.active')  # the latter: ROS 1, unfinished
MAGIC = {b'\x89MCAP0\r\n': 'mcap', b'SQLite format 3\0': 'sqlite3', b'#ROSBAG V': 'ros1'}
METADATA = 'metadata.yaml'
_SIDECARS = ('.db3-wal', '.db3-shm', '.db3-journal')
_NOTES = ('.yaml', '.yml', '.json', '.txt', '.md', '.log')  # may lie in a bag's directory


@dataclass(frozen=True)
class BagFiles:
    """The files of one bag, in the order of their recording."""

    files: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()  # that metadata.yaml names
    digests: dict[str, str] = field(default_factory=dict)  # of message types, by metadata.yaml
    qos: dict[str, Any] = field(default_factory=dict)      # of topics, as it stands there
    custom: dict[str, str] = field(default_factory=dict)   # what a writer has noted there


def is_bag(path: Path) -> bool:
    """Whether this is a bag: a directory of rosbag2, also an unfinished one, or a bag's file."""
    if os.path.isfile(path):
        return path.name.lower().endswith(BAG_SUFFIXES) or kind_of(path) in ('mcap', 'ros1')
    stored = _stored_in(path)
    if os.path.isfile(path / METADATA) and (stored or _metadata(path)):
        return True
    if not stored:
        return False
    others = [p for p in _entries(path) if not p.name.startswith('.') and p not in stored
              and not (os.path.isfile(p) and p.name.lower().endswith((*_SIDECARS, *_NOTES)))]
    return not others and len({_recording(p) for p in stored}) == 1


def kind_of(file: Path) -> str:
    """Return 'mcap', 'sqlite3' or 'ros1' by a file's first bytes, '' where it is none of them."""
    try:
        with file.open('rb') as stream:
            head = stream.read(16)
    except OSError:
        return ''
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), '')


def files_of(path: Path) -> BagFiles:
    """Find the files of a bag. What metadata.yaml says is believed as far as they agree."""
    if os.path.isfile(path):
        return BagFiles((path,))
    stored = _stored_in(path)
    found = _metadata(path)
    paths = found.get('relative_file_paths')
    names = [PurePath(str(p)).name for p in paths] if isinstance(paths, list) else []
    topics = list(_topics(found))
    by_name = {p.name: p for p in stored}
    # Unpacked by hand, a file has lost the end of its name.
    named = {n: by_name.get(n) or by_name.get(n.removesuffix('.zstd')) for n in names}
    files = [p for p in named.values() if p]
    unnamed = [p for p in stored if p not in files]
    missing = [name for name, p in named.items() if not p]
    return BagFiles(
        tuple(_in_order(files + unnamed) if unnamed else files),
        # As many others: they are called otherwise now.
        tuple(missing) if len(missing) > len(unnamed) else (),
        {str(topic['type']): str(topic['type_description_hash']) for topic in topics
         if topic.get('type_description_hash')},
        {str(topic['name']): topic.get('offered_qos_profiles') for topic in topics},
        {str(k): str(v) for k, v in _mapping(found.get('custom_data')).items()})


def without_rosbags(path: Path, error: ImportError) -> ConfigError:
    """Return what to say where the reading of bags cannot be imported."""
    return ConfigError(f'{path}: bags need rosbags 0.10.11 or later ({first_line(error)}): pip '
                       "install 'rosbags>=0.10.11'")


def beside(path: Path) -> list[Path]:
    """Return what lies in a bag's directory and is no part of it."""
    own = {*files_of(path).files, path / METADATA}
    return sorted(p for p in _entries(path)
                  if p not in own and not p.name.lower().endswith(_SIDECARS))


def _stored_in(directory: Path) -> list[Path]:
    """Return rosbag2's files, each recording's once."""
    found: dict[str, Path] = {}
    entries = _entries(directory)
    for suffix in STORAGE_SUFFIXES:
        for path in entries:
            name = path.name
            if name.lower().endswith(suffix) and not name.startswith('.') and os.path.isfile(path):
                found.setdefault(_stem(path), path)
    return _in_order(found.values())


def _entries(directory: Path) -> list[Path]:
    """Return what lies in a directory; nothing where it is none or may not be read."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Sort by the numbers in the names: drive_2, drive_10; 2_drive_..., 10_drive_..."""
    return sorted(paths, key=lambda p: [
        (int(piece), '') if i % 2 else (-1, piece)
        for i, piece in enumerate(re.split('([0-9]+)', p.name))])


def _stem(path: Path) -> str:
    name = path.name.lower()
    suffix = max((s for s in STORAGE_SUFFIXES if name.endswith(s)), key=len, default='')
    return path.name[:len(path.name) - len(suffix)]


def _recording(path: Path) -> str:
    """Return what the names of a split recording share: NAME_3, or 3_NAME_2026_05_01-12_30_00."""
    stem = _stem(path)
    numbered = re.fullmatch(r'[0-9]+_(.+?)_[0-9][0-9_:.T-]*', stem)
    return numbered[1] if numbered else re.sub(r'_[0-9]+$', '', stem)


def _metadata(directory: Path) -> dict[str, Any]:
    """Read rosbag2's metadata; nothing where there is none, or none that can be read."""
    try:
        text = (directory / METADATA).read_text(encoding='utf-8', errors='replace')
        return _mapping(_mapping(yaml.safe_load(text)).get('rosbag2_bagfile_information'))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _topics(metadata: dict[str, Any]) -> Iterator[dict[Any, Any]]:
    topics = metadata.get('topics_with_message_count')
    for entry in topics if isinstance(topics, list) else ():
        topic = _mapping(_mapping(entry).get('topic_metadata'))
        if {'name', 'type'} <= topic.keys():
            yield topic
