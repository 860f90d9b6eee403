# SPDX-License-Identifier: Apache-2.0
"""
Compiled programs on disk, found by what they were made from: built once, checked when read.

What they were made from is an EngineKey, made by `engine_key` of onnxruntime.py and tensorrt.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import lednet_ros
from lednet_ros.common.errors import ConfigError, LednetRosError, first_line
from lednet_ros.common.paths import expanded

T = TypeVar('T')
_log = logging.getLogger(__name__)

_ENGINE, _BAD, _PARTIAL, _LOCK = '.engine', '.bad', '.partial', '.lock'


def default_directory() -> Path:
    """
    Return where engines are kept unless told otherwise: in $XDG_CACHE_HOME or ~/.cache.

    Raise ConfigError where there is no home directory.
    """
    base = os.environ.get('XDG_CACHE_HOME', '')  # to be passed over if it is no whole path
    return (Path(base) if os.path.isabs(base) else expanded('~/.cache')) / 'lednet_ros'


def hash_of_sources(*modules: str) -> str:
    """
    Return a SHA-256 over the source files of modules: another source, another engine.

    Where they are installed without sources, the package's version stands for them.
    """
    digest = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        origin = spec.origin if spec else None
        try:
            digest.update(Path(origin or '').read_bytes())
        except OSError:
            digest.update(lednet_ros.__version__.encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class EngineKey:
    """All that a compiled program depends on: programs of equal keys are interchangeable."""

    kind: str            # 'onnx' or 'tensorrt'
    weights_sha256: str  # Checkpoint.sha256, which leaves out the preprocessing
    sources: str         # hash_of_sources of the modules that decide what it computes
    height: int          # of the network's input in pixels
    width: int
    precision: str       # 'fp16' or 'fp32'
    confidence: bool     # whether the program gives it too
    device: str          # which GPU, or 'cpu'
    versions: tuple[tuple[str, str], ...]  # (library, version), and whatever else must match
    temperature: float = 1.0  # that it divides scores by; 1 where it gives no confidence
    floors: tuple[float, ...] = ()  # of scores, below which that is 0

    @property
    def file_name(self) -> str:
        """A name for people, made unique by a hash over every field."""
        text = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return (f'{self.kind}-{self.height}x{self.width}-{self.precision}-{digest}{_ENGINE}')


@dataclass(frozen=True)
class Cached(Generic[T]):
    """An engine and how it was come by."""

    engine: T
    hit: bool       # it was on disk
    build_s: float  # how long building took; 0 for a hit


@dataclass(frozen=True)
class Entry:
    """One file of the cache."""

    path: Path
    size_bytes: int
    used_s: float        # last used, seconds since the epoch
    is_bad: bool         # set aside, waiting to be looked at or pruned
    key: dict[str, Any]  # the fields of its EngineKey; empty where the file does not say


class EngineCache:
    """
    A directory of engines that several processes may share.

    An engine's file is one line of JSON (its key and the payload's hash) and the payload. It
    appears whole or not at all. What goes wrong with the directory is a warning, never an error.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory: Path | None = None
        self.problem = ''  # why there is no directory
        try:
            self.directory = expanded(directory) if directory else default_directory()
        except ConfigError as error:
            self.problem = str(error)

    def fetch(
        self, key: EngineKey, build: Callable[[], bytes], load: Callable[[bytes], T]
    ) -> Cached[T]:
        """
        Load the engine of this key, building it first where it is not there.

        `load` may raise what it likes over bytes it cannot use; if they came from disk, that file
        is set aside and built anew. Only LednetRosError and MemoryError pass: they say something
        of the machine and not of the file. The same from `build`, or from `load` over what was
        just built, reaches the caller.
        """
        if self.directory is None:
            _log.warning('%s: the engine is built and not kept: give a writable engine_cache_dir',
                         self.problem)
            return self._build(None, key, build, load)
        path = self.directory / key.file_name
        # A file that is there is whole, so a hit needs no lock and works in a read-only directory.
        found = self._load(path, key, load)
        if found:
            return found
        try:
            with _locked(path):
                # Another process may have built it while this one waited.
                return self._load(path, key, load) or self._build(path, key, build, load)
        except _Unwritable as error:
            _log.warning('%s: cannot be written to (%s): the engine is built and not kept: give a '
                         'writable engine_cache_dir', self.directory, error)
        return self._build(None, key, build, load)

    def holds(self, key: EngineKey) -> bool:
        """Whether there is a file for the engine of this key."""
        return self.directory is not None and (self.directory / key.file_name).is_file()

    def can_keep(self) -> bool:
        """Whether the directory can be written to."""
        if self.directory is None:
            return False
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                return True
        except OSError:
            return False

    def entries(self) -> list[Entry]:
        """Return the engines and set-aside files, the last used first."""
        entries = []
        for path in self._files(_ENGINE, _BAD):
            try:
                stat = path.stat()
            except OSError:
                continue  # pruned by another process just now
            entries.append(Entry(
                path, stat.st_size, stat.st_mtime, path.suffix == _BAD, _read_key(path)))
        return sorted(entries, key=lambda entry: -entry.used_s)

    def is_whole(self, entry: Entry) -> bool:
        """Whether an entry's file is as it was written; one that is not is built anew."""
        try:
            header, _, payload = entry.path.read_bytes().partition(b'\n')
            record = json.loads(header)
            dict(record['key']['versions'])
            return not entry.is_bad and record['sha256'] == hashlib.sha256(payload).hexdigest()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def prune(self, unused_for_days: float = 0.0) -> list[Entry]:
        """Delete engines not used for so long (0: all), set-aside files and what was left over."""
        before_s = time.time() - unused_for_days * 86400
        gone = [e for e in self.entries()
                if (e.is_bad or e.used_s <= before_s) and _delete(e.path)]
        for path in self._files(_PARTIAL):
            owner = re.search(r'\.(\d+)\.partial$', path.name)
            if owner and not Path('/proc', owner[1]).exists():
                _delete(path)
        return gone

    def _files(self, *suffixes: str) -> list[Path]:
        if self.directory is None:
            return []
        try:
            return [path for path in self.directory.iterdir() if path.suffix in suffixes]
        except OSError:
            return []

    def _load(
        self, path: Path, key: EngineKey, load: Callable[[bytes], T]
    ) -> Cached[T] | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            engine = load(_payload(content, key))
        except (LednetRosError, MemoryError):
            raise
        except Exception as error:  # what a damaged file makes a runtime raise is anyone's guess
            self._set_aside(path, error)
            return None
        with suppress(OSError):  # a directory may be read-only
            os.utime(path)  # the age that `prune` goes by
        return Cached(engine, hit=True, build_s=0.0)

    def _set_aside(self, path: Path, error: Exception) -> None:
        bad = path.with_suffix(_BAD)
        try:
            os.replace(path, bad)
        except OSError:
            bad = path  # read-only: it stays, and is refused again next time
        _log.warning('%s: this engine is not usable (%s: %s): set aside as %s and built anew',
                     path, type(error).__name__, first_line(error), bad.name)

    def _build(
        self, path: Path | None, key: EngineKey, build: Callable[[], bytes],
        load: Callable[[bytes], T],
    ) -> Cached[T]:
        started_s = time.perf_counter()
        payload = build()
        build_s = time.perf_counter() - started_s
        engine = load(payload)  # before it is kept: what does not load is not worth a file
        if path:
            self._write(path, key, payload)
        return Cached(engine, hit=False, build_s=build_s)

    def _write(self, path: Path, key: EngineKey, payload: bytes) -> None:
        partial = path.with_name(f'{path.name}.{os.getpid()}{_PARTIAL}')
        try:
            with partial.open('wb') as file:
                file.write(_header(key, payload))
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())  # a robot's power goes when it goes
            os.replace(partial, path)
        except OSError as error:
            _log.warning('%s: cannot be written (%s): the engine works and is not kept: make room '
                         'or give another engine_cache_dir', path, error.strerror)
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _delete(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning('%s: cannot be deleted (%s): delete it as its owner', path, error.strerror)
        return False
    return True


class _Unwritable(Exception):
    """The lock file cannot be had."""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the inter-process lock of one engine. It goes with the process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(_LOCK).open('wb')
    except OSError as error:
        raise _Unwritable(error.strerror) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info('%s: another process builds it: waiting', path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise _Unwritable(error.strerror) from error
        yield


def _header(key: EngineKey, payload: bytes) -> bytes:
    record = {'key': asdict(key), 'sha256': hashlib.sha256(payload).hexdigest()}
    return json.dumps(record).encode() + b'\n'


def _payload(content: bytes, key: EngineKey) -> bytes:
    """Return the payload of a file, if the file is what its name promises. Raise ValueError."""
    _, newline, payload = content.partition(b'\n')
    if not newline or not content.startswith(_header(key, payload)):
        raise ValueError('damaged, or of another key')
    return payload


def _read_key(path: Path) -> dict[str, Any]:
    try:
        with path.open('rb') as file:
            return dict(json.loads(file.readline(1 << 16))['key'])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
