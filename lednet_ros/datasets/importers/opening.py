# SPDX-License-Identifier: Apache-2.0
"""Which labelling tool's export it is, by what its files hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.importers.coco import is_coco, open_coco
from lednet_ros.datasets.importers.cvat import open_cvat
from lednet_ros.datasets.importers.export import Export, read_json
from lednet_ros.datasets.importers.finding import files_below
from lednet_ros.datasets.importers.label_studio import is_label_studio, open_label_studio
from lednet_ros.datasets.importers.labelme import is_labelme, open_labelme
from lednet_ros.datasets.importers.supervisely import open_supervisely
from lednet_ros.datasets.importers.ultralytics import is_ultralytics, open_ultralytics

FORMATS = ('coco', 'cvat', 'labelme', 'label_studio', 'supervisely', 'ultralytics')
_OPEN: dict[str, Callable[[list[Path]], Export]] = {
    'coco': open_coco, 'cvat': open_cvat, 'labelme': open_labelme,
    'label_studio': open_label_studio, 'supervisely': open_supervisely,
    'ultralytics': open_ultralytics}


def open_export(source: Path, format_: str = 'auto') -> tuple[str, Export]:
    """
    Open a labelling tool's file or folder; return which tool's it is, too.

    Raise DataError where it is none that is known.
    """
    if not source.exists():
        raise DataError(f'{source}: does not exist: give what the labelling tool exported')
    if source.suffix.lower() == '.zip':
        raise DataError(f'{source}: is packed: unzip it, and give the folder')
    found = _files_by_format(source)
    if format_ == 'auto':
        kinds = [kind for kind in FORMATS if found[kind]]
        if not kinds:
            raise DataError(f'{source}: holds nothing that COCO, CVAT (XML), labelme, Label '
                            'Studio, Supervisely or Ultralytics export: describe its masks in a '
                            'data.yaml, as docs/datasets.md shows')
        if len(kinds) > 1:
            raise DataError(f'{source}: holds files of {" and of ".join(kinds)}: choose one by '
                            '--format')
        format_ = kinds[0]
    if not found[format_]:
        raise DataError(f'{source}: holds no file of {format_}: leave --format out, or choose '
                        'another')
    return format_, _OPEN[format_](found[format_])


def _files_by_format(source: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    files = [source] if source.is_file() else [
        path for path in sorted(files_below(source)) if path.suffix.lower() in (
            '.json', '.xml', *(('.yaml', '.yml') if path.parent == source else ()))]
    projects = [path for path in files if path.name == 'meta.json'
                and isinstance(data := read_json(path), dict) and 'classes' in data]
    if projects:
        found['supervisely'] = projects
        return found
    for file in files:
        kind = _format_of(file)
        if kind:
            found[kind].append(file)
    return found


def _format_of(file: Path) -> str:
    if file.suffix.lower() in ('.yaml', '.yml'):
        return 'ultralytics' if is_ultralytics(file) else ''
    if file.suffix.lower() == '.xml':
        try:
            with file.open('rb') as opened:
                return 'cvat' if b'<annotations>' in opened.read(4096) else ''
        except OSError as error:
            raise DataError(f'{file}: cannot be read: {error.strerror}: let this user read '
                            'it') from error
    data = read_json(file)
    tests = {'coco': is_coco, 'labelme': is_labelme, 'label_studio': is_label_studio}
    return next((kind for kind, test in tests.items() if test(data)), '')
