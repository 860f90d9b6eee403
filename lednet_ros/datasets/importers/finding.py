# SPDX-License-Identifier: Apache-2.0
"""Where the images of an export lie, whatever folders its tool knew them in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from lednet_ros.datasets.importers.export import Picture
from lednet_ros.datasets.patterns import Pattern
from lednet_ros.images.sources import IMAGE_SUFFIXES


def files_below(root: Path) -> Iterator[Path]:
    """Yield a folder's files, those of its folders too, without the hidden. Raise DataError."""
    for path, _ in Pattern('**/*').find(root):
        if not path.rpartition('/')[2].startswith('.'):
            yield root / path


class ImageFinder:
    """Finds images by their names, in folders and then anywhere below them."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._by_name: dict[str, list[Path]] = {}
        self._is_searched = False

    def find(self, picture: Picture) -> Path | None:
        """Return an image's path; None where it is not there, or there are several."""
        # os.path: a name that no file can have, too long for one, is none that is there.
        if Path(picture.image).is_absolute() and os.path.isfile(picture.image):
            return Path(picture.image)
        name = picture.image.replace('\\', '/').lstrip('/')
        folders = [*([picture.where] if picture.where else []), *self._roots]
        for path in (folder / inner / name for folder in folders for inner in ('', 'images')):
            if PurePosixPath(name).suffix and os.path.isfile(path):
                return path
        found = self._nearest(PurePosixPath(name))
        # Label Studio puts eight characters and a dash before an uploaded file's name.
        if not found and PurePosixPath(name).name[8:9] == '-':
            found = self._nearest(PurePosixPath(PurePosixPath(name).name[9:]))
        if len(found) > 1 and picture.where:  # each task has its images beside its own export
            shared = [len(os.path.commonpath([path, picture.where])) for path in found]
            found = [path for path, length in zip(found, shared, strict=True)
                     if length == max(shared)]
        return found[0] if len(found) == 1 else None

    def _nearest(self, name: PurePosixPath) -> list[Path]:
        """Return the images whose paths end most alike."""
        candidates = self._named(name.name)
        for read in (str, _as_read):
            for count in range(len(name.parts), 0, -1):
                tail = [read(part) for part in name.with_suffix('').parts[-count:]]
                fitting = [p for p in candidates if tail == [
                    read(part) for part in p.with_suffix('').parts[-count:]]]
                if fitting:
                    return fitting
        return candidates

    def _named(self, name: str) -> list[Path]:
        """Return the images of a name, with or without its suffix, wherever they are."""
        if not self._is_searched:
            self._is_searched = True
            for root in self._roots:
                for path in files_below(root):
                    if path.suffix.lower() in IMAGE_SUFFIXES:
                        for key in {path.name, path.stem}:
                            self._by_name.setdefault(_as_read(key), []).append(path)
        # A link to an image is the same one: an import leaves such.
        return list({path.resolve(): path
                     for path in self._by_name.get(_as_read(name), [])}.values())


def _as_read(name: str) -> str:
    """Return a name without what people do not see: its case, and how a system writes accents."""
    return normalize('NFC', name).casefold()
