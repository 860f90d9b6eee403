# SPDX-License-Identifier: Apache-2.0
"""The directory that results go to: what is done stays done, what is foreign stays untouched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lednet_ros.bags.files import files_of, is_bag
from lednet_ros.common.atomic_file import palette_png, png_of, whole_file
from lednet_ros.common.directory_lock import alone_in
from lednet_ros.common.errors import ConfigError
from lednet_ros.images.encodings import BadImage, read_label_image
from lednet_ros.model.labels import LabelSet

CLASSES = 'labels.yaml'  # what the labels mean
# What each command writes beside what has a source's name. The first says what the directory's
# results were made with, and of.
OWN = {
    'lednet_segment': (
        'lednet_segment.json', CLASSES, 'label', 'overlay', 'confidence', 'frame'),
    'lednet_select': (
        'lednet_select.json', CLASSES, 'label', 'images', 'scores', 'cvat.zip',
        'cvat_labels.json', 'labels.txt', 'selection.json'),
}


# Of a record. `states` says, by a result's name, what its origin's files were like.
_DEFAULTS: dict[str, Any] = {'since_ns': 0, 'overwritten_ns': {}, 'origins': {}, 'states': {}}


class Results:
    """What is done of the source at hand: files that appear whole or not at all."""

    def __init__(
        self, directory: Path, again: str, since_ns: int = 0, palette: np.ndarray | None = None,
        began_ns: int | None = None,
    ) -> None:
        """
        Take what is at least as new as `since_ns` for results of before.

        `again` says how to go on. `palette`, uint8 (256, 3) RGB, goes into label images. Other
        processes write results of this run too, from `began_ns` on; None: none does.
        """
        self.directory, self.again, self.since_ns = directory, again, since_ns
        self.palette, self.began_ns = palette, began_ns

    def is_done(self, name: Path, of: Path | None = None) -> bool:
        """
        Whether this result of the source at hand is there from before and may stay.

        An empty file is none: a machine that lost its power leaves such; nor is one that is older
        than the file `of` which it is made. Raise ConfigError.
        """
        path = self.directory / name
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unusable(path, error) from error
        is_empty = stat.S_ISREG(status.st_mode) and not status.st_size
        since_ns = max(self.since_ns, _changed_ns(of) if of else 0)
        return status.st_mtime_ns >= since_ns and not is_empty

    def is_new(self, name: Path) -> bool:
        """Whether another process of this run has made this result, which is there."""
        return self.began_ns is not None and (
            (self.directory / name).stat().st_mtime_ns >= self.began_ns)

    def remove_older(self, *names: Path) -> None:
        """Remove files, also those in directories, of what was in the place of this source."""
        for name in names:
            path = self.directory / name
            with suppress(OSError):
                for file in path.iterdir() if path.is_dir() else (path,):
                    if file.is_file() and file.stat().st_mtime_ns < self.since_ns:
                        file.unlink()

    def write_png(self, name: Path, pixels: np.ndarray) -> None:
        """Write uint8 (H, W), or (H, W, 3) RGB. Raise ConfigError."""
        with self.making(name) as path:
            path.write_bytes(png_of(pixels))

    def write_labels(self, name: Path, labels: np.ndarray) -> None:
        """Write a label image, uint8 (H, W), with the palette if there is one."""
        with self.making(name) as path:
            path.write_bytes(
                png_of(labels) if self.palette is None else palette_png(labels, self.palette))

    def kept_labels(
        self, name: Path, size: tuple[int, int] | None = None
    ) -> np.ndarray | None:
        """Return a label image from before, uint8 (H, W), if it may stay and is of this size."""
        if not self.is_done(name):
            return None
        try:
            found = read_label_image(self.directory / name).values
        except BadImage:
            return None
        return found if size in (None, found.shape) else None

    @contextmanager
    def making(self, name: Path) -> Iterator[Path]:
        """Yield a path to write to; it gets its name when the block ends well, else it is gone."""
        path = self.directory / name
        with self._explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                yield partial

    @contextmanager
    def _explaining(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(path, error) from error

    def _unusable(self, path: Path, error: OSError) -> ConfigError:
        remedy = ('give its source a shorter name' if error.errno == errno.ENAMETOOLONG else
                  'make room or choose another --output')
        return ConfigError(f'{path}: cannot be written: {error.strerror}: {remedy}, then go on by '
                           f'{self.again}')


class Output(Results):
    """
    A directory begun by this command with these settings, so that a second run goes on.

    No other run may write to it until the block ends: a context manager. Raise ConfigError where
    one does, where it holds something else, or results of other settings, unless `overwrite` is
    set; even then only files of results' names are replaced. Those are told by their age, from a
    date in the record: so a run that was stopped goes on without `overwrite`.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], sources: Sequence[Path],
        overwrite: bool, palette: np.ndarray | None = None, command: str = 'lednet_segment',
    ) -> None:
        super().__init__(
            directory, f'the same command{" without --overwrite" if overwrite else ""}',
            palette=palette)
        self._place = directory.resolve()
        settings = {**settings, 'palette': palette is not None}
        self._now_ns = 0    # --overwrite's beginning
        self._command, self._own = command, OWN[command]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with ExitStack() as lock:
                lock.enter_context(alone_in(directory))
                self._go_on(settings, sources, overwrite)
                self._lock = lock.pop_all()
        except OSError as error:
            raise ConfigError(f'{directory}: cannot be used: {error.strerror}: choose another '
                              '--output') from error

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _go_on(
        self, settings: Mapping[str, Any], sources: Sequence[Path], overwrite: bool
    ) -> None:
        """Read the record of a run before this one, if there is one, and write this one's."""
        found = self._read(overwrite)
        if overwrite:
            os.utime(self.directory)
            self._now_ns = self.directory.stat().st_mtime_ns  # by the clock that dates the results
            if _others(found, settings):
                found = {'since_ns': self._now_ns}
        else:
            self._check(found, settings)
        self._record: dict[str, Any] = {  # earlier records lack what has a default here
            **deepcopy(_DEFAULTS), **(found or {}), **settings}
        self._taken: dict[str, str] = {} if overwrite else dict(self._record['origins'])
        if overwrite:
            self._record['overwritten_ns'] |= {
                str(source.resolve()): self._now_ns for source in sources}
        self._save()

    def _read(self, overwrite: bool) -> Any:
        """Return the record of a run before this one, None where there is none."""
        record = self.directory / self._own[0]
        if not record.exists():
            return None
        with suppress(ValueError):
            found = json.loads(record.read_text(encoding='utf-8'))
            if not isinstance(found, dict) or all(
                    isinstance(found.get(name, value), type(value))
                    for name, value in _DEFAULTS.items()):
                return found
        if overwrite:
            return None
        raise ConfigError(f'{self.directory}: its record, {self._own[0]}, is damaged: choose '
                          'another --output, or --overwrite')

    def _check(self, found: Any, settings: Mapping[str, Any]) -> None:
        if found is None and any(self.directory.iterdir()):
            raise ConfigError(f'{self.directory}: is not empty and not of {self._command}: '
                              'choose another --output, or --overwrite')
        if found is not None and (others := _others(found, settings)):
            raise ConfigError(f'{self.directory}: was made with another {", ".join(others)}: '
                              'choose another --output, or --overwrite')

    def _save(self) -> None:
        with whole_file(self.directory / self._own[0]) as path:
            path.write_text(json.dumps(self._record, indent=1) + '\n', encoding='utf-8')

    def write_classes(self, labels: LabelSet) -> None:
        """Write what the labels mean: a label set's YAML. Raise ConfigError."""
        with self.making(Path(CLASSES)) as path:
            path.write_text(
                '# What the ids in the label images mean, in their order; 255 is unlabelled.\n'
                + yaml.safe_dump(labels.to_dict(), sort_keys=False, default_flow_style=None,
                                 allow_unicode=True), encoding='utf-8')

    @property
    def record(self) -> Path:
        """Name of the file that says what the results were made with."""
        return Path(self._own[0])

    def now_ns(self) -> int:
        """Return the time by the clock that dates results. Raise ConfigError."""
        with self._explaining(self.directory / self._own[0]):
            self._save()
        return (self.directory / self._own[0]).stat().st_mtime_ns

    def begin(
        self, source: Path, origins: Mapping[Path, Path],
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """
        Turn to a source; each directory of its results is of one origin.

        Of a video or a bag that has changed no result that is there may stay, which is told. Raise
        ConfigError where a directory is another's.
        """
        ours = {str(name): str(origin.resolve()) for name, origin in origins.items()}
        for name, origin in ours.items():
            if (other := self._taken.get(name, origin)) != origin:
                raise ConfigError(
                    f'{source if source.is_file() else origin} and {other}: would share {name}: '
                    'give each its own --output')
        self._taken |= ours
        known, before = self._record['origins'], self._record['states']
        dates = self._record['overwritten_ns']
        states = {name: _state_of(Path(origin)) for name, origin in ours.items()}
        if not (ours.items() <= known.items() and states.items() <= before.items()):
            # Nothing that is there is of these: another origin, by --overwrite, or another state.
            others = [origin for name, origin in ours.items() if known.get(name, origin) != origin
                      or before.get(name, states[name]) != states[name]]
            dates |= dict.fromkeys(others, self._now_ns or self.now_ns())
            for origin in others if not self._now_ns else ():
                tell(f'{origin}: has changed since an earlier run: its results are made anew')
            known |= ours
            before |= states
            with self._explaining(self.directory / self._own[0]):
                self._save()
        self.since_ns = max(self._record['since_ns'], *(
            dates.get(path, 0) for path in (str(source.resolve()), *ours.values())))

    def holds(self, path: Path) -> bool:
        """Whether a path is, by its place, a result or kept for one."""
        path = Path(os.path.realpath(path))  # resolve() raises on links that lead to themselves
        if self._place not in path.parents:
            return False
        name = path.relative_to(self._place)
        return (name.parts[0] in self._own
                or any(str(part) in self._record['origins'] for part in (name, *name.parents)))


def _state_of(origin: Path) -> str:
    """Return what tells a video or a bag from one that takes its place; '' for pictures."""
    if origin.is_dir() and not is_bag(origin):
        return ''  # they have a date each
    return state_of(files_of(origin).files)


def state_of(files: Iterable[Path]) -> str:
    """Return what tells files from others in their places: a hash of names, sizes and dates."""
    found = hashlib.sha256()
    for file in files:
        with suppress(OSError):
            status = file.stat()
            found.update(os.fsencode(os.path.realpath(file)) + b'\0%d %d\0' % (
                status.st_size, status.st_mtime_ns))
    return found.hexdigest()[:16]


def _changed_ns(file: Path) -> int:
    """Return when a file was written; 0 where its date lies ahead, which says nothing."""
    with suppress(OSError):
        date_ns = file.stat().st_mtime_ns
        return date_ns if date_ns <= time.time_ns() else 0
    return 0


def results_in(directory: Path) -> set[Path]:
    """Return the results of runs that wrote to this directory; none where none did."""
    names: set[str] = set()
    for own in OWN.values():
        with suppress(OSError, ValueError, AttributeError):
            found = json.loads((directory / own[0]).read_text(encoding='utf-8'))
            names |= {*own, *found.get('origins', {})}
    return {directory / name for name in names}


def _others(found: Any, settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that a record does not share."""
    if not isinstance(found, dict):
        return list(settings)
    # What earlier records do not have. A temperature changes no label, unless confidence does.
    temperature = 1.0 if found.get('min_confidence') else settings.get('temperature')
    found = {'output_size': 'camera', 'palette': False, 'temperature': temperature,
             'unfamiliar_share': 0.0, **found}
    return [k for k in settings if found.get(k) != settings[k]]
