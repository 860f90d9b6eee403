# SPDX-License-Identifier: Apache-2.0
"""A labelling tool's export as a data set: label images, links to the images, and a data.yaml."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from lednet_ros.common.atomic_file import partial_name, png_of
from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.datasets.classes import read_classes, voc_color
from lednet_ros.datasets.descriptor import NAME
from lednet_ros.datasets.importers.export import Drawn, Export, ImportedClass, Picture
from lednet_ros.datasets.importers.finding import ImageFinder
from lednet_ros.images.sources import IMAGE_SUFFIXES
from lednet_ros.model.labels import UNLABELLED

_LONGEST = 120  # characters of a name in an error: some exports have an image in its place


@dataclass(frozen=True)
class ImportConfig:
    """What an import makes of an export."""

    background: str = ''          # the class of what nobody drew; '': not labelled
    images: Path | None = None    # where the images are, if not in the export
    val: float = 0.2              # the share of val, where the export has none
    is_copied: bool = False       # images are copied, not linked to
    has_empty: bool = False       # images with nothing drawn are taken too

    def __post_init__(self) -> None:
        if not 0 < self.val < 1:
            raise ConfigError(f'val is {self.val}: give a share between 0 and 1')


@dataclass
class Imported:
    """What came of it."""

    splits: Counter[str] = field(default_factory=Counter)   # images; '' where there are none
    shapes: int = 0
    pixels: int = 0
    unlabelled: int = 0                                     # pixels
    left_out: Counter[str] = field(default_factory=Counter)  # by kind
    alike: list[tuple[str, str]] = field(default_factory=list)  # classes, to the eye


def import_export(
    export: Export, source: Path, out: Path, config: ImportConfig,
    on_picture: Callable[[], None] = lambda: None,
) -> Imported:
    """
    Write OUT/images (links), OUT/labels and OUT/data.yaml. All of it appears, or nothing.

    Raise ConfigError, DataError.
    """
    classes = _with_background(export.classes, config.background)
    if not classes:
        for picture in export.pictures():  # which counts what there is instead
            deque(picture.drawn, 0)
        raise DataError(f'{source}: nothing with an area was drawn{_besides(export.left_out)}, so '
                        'there is no class: draw polygons, or choose another export')
    if not all(c.name for c in classes):
        raise DataError(f'{source}: has a class without a name: name it in the tool, and export '
                        'it anew')
    if len(classes) > UNLABELLED:
        raise DataError(f'{source}: has {len(classes)} classes: at most {UNLABELLED} have a place '
                        'in label images')
    ids = {c.name: i for i, c in enumerate(classes)}
    result = Imported(left_out=export.left_out, alike=_alike(classes))
    finder = ImageFinder([*([config.images] if config.images else []), *_roots(source)])
    with _appearing(out) as partial:
        missing: list[str] = []
        written: dict[Path, str] = {}
        for picture in export.pictures():
            on_picture()
            image = finder.find(picture)
            if image is not None and image.suffix.lower() not in IMAGE_SUFFIXES:
                raise DataError(f'{image}: is no image that training reads: make it one of '
                                f'{", ".join(IMAGE_SUFFIXES)}')
            if image is None:
                missing.append(picture.image)
            else:
                _write(picture, image, partial, ids, config, result, written)
        _refuse_missing(missing, source, result)
        _write_descriptor(partial / NAME, out.name, classes, result, config)
    return result


def _roots(source: Path) -> list[Path]:
    folder = source if source.is_dir() else source.parent
    # COCO's annotations lie in a folder of their own beside the images.
    return [folder, folder.parent] if source.is_file() and folder.name == 'annotations' else [
        folder]


def _with_background(classes: Sequence[ImportedClass], background: str) -> list[ImportedClass]:
    if not background or any(c.name == background for c in classes):
        return list(classes)
    return [ImportedClass(background), *classes]


def _alike(classes: Sequence[ImportedClass]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    names = [c.name for c in classes]
    pairs = [(first.setdefault(''.join(name.casefold().split()), name), name) for name in names]
    return [(one, other) for one, other in pairs if one != other]


def _write(
    picture: Picture, image: Path, out: Path, ids: dict[str, int], config: ImportConfig,
    result: Imported, written: dict[Path, str],
) -> None:
    labels, count = _labels(picture, ids, config.background, result.left_out)
    if not count and not config.has_empty:
        result.left_out['images with nothing drawn'] += 1
        return
    name = PurePosixPath(picture.below) / _inner(picture.image, image)
    split = picture.split
    label = out / 'labels' / split / name.with_suffix('.png')
    _refuse_shared(picture.image, image, label, written)
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_bytes(png_of(labels))
    link = out / 'images' / split / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if config.is_copied:
        shutil.copyfile(image, link)
    else:
        _link(link, image.resolve())
    result.splits[split] += 1
    result.shapes += count
    result.pixels += labels.size
    result.unlabelled += int(np.count_nonzero(labels == UNLABELLED))


def _link(link: Path, image: Path) -> None:
    try:
        link.symlink_to(image)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        raise ConfigError(f'{link}: this file system has no links ({error.strerror}), as most '
                          'memory sticks: choose another OUT, or --copy the images') from error


def _refuse_shared(
    name: str, image: Path, label: Path, written: dict[Path, str]
) -> None:
    """Raise DataError where a label image is written already, or its image is another's."""
    real = image.resolve()
    if real in written:
        other = written[real]
        raise DataError(f'{name}: is drawn on twice in the export: leave one out, or give '
                        'one file as SOURCE'
                        if other == name else
                        f'{other} and {name}: only one of them is there, as {image}: export it '
                        'with all images, or give their folder by --images')
    if label in written:
        raise DataError(f'{written[label]} and {name}: would share a label image: rename one')
    written[real] = written[label] = name


def _inner(name: str, image: Path) -> PurePosixPath:
    """Return the path of an image in the data set: as its tool names it, but inside."""
    parts = [p for p in PurePosixPath(name.replace('\\', '/')).parts
             if p not in ('/', '..', '.') and not p.endswith(':')]  # a drive of Windows
    # What is hidden would be passed over by the data.yaml.
    return PurePosixPath(*(re.sub(r'^\.', '_', p) for p in (*parts[:-1], image.name)))


def _labels(
    picture: Picture, ids: dict[str, int], background: str, left_out: Counter[str]
) -> tuple[np.ndarray, int]:
    """Return a picture's labels, uint8 (H, W), and how many shapes made them."""
    labels = np.full((picture.height, picture.width),
                     ids[background] if background else UNLABELLED, np.uint8)
    count = 0
    for drawn in picture.drawn:
        if drawn.name and drawn.name not in ids:
            raise DataError(f'{picture.image}: holds {drawn.name!r}, which the export does not '
                            'list as a class: export it anew')
        if _paint(labels, drawn, ids[drawn.name] if drawn.name else UNLABELLED):
            count += 1
        else:
            left_out['shapes that cover no pixel of their image'] += 1
    return labels, count


def _paint(labels: np.ndarray, drawn: Drawn, id_: int) -> bool:
    """Lay a shape over the labels, but for what is beyond their edge; return if any is left."""
    height, width = drawn.mask.shape
    top, left = max(0, drawn.top), max(0, drawn.left)
    part = labels[top:max(0, drawn.top + height), left:max(0, drawn.left + width)]
    mask = drawn.mask[top - drawn.top:, left - drawn.left:][:part.shape[0], :part.shape[1]]
    part[mask] = id_
    return bool(mask.any())


def _refuse_missing(missing: Sequence[str], source: Path, result: Imported) -> None:
    if missing:
        names = ', '.join([*(name[:_LONGEST] for name in missing[:3]),
                           *(['...'] if len(missing) > 3 else [])])
        raise DataError(f'{source}: {len(missing)} of its images are not there, or twice '
                        f'({names}): export it with images, or give their folder by --images')
    if not result.splits:
        raise DataError(f'{source}: no image has anything drawn on it'
                        f'{_besides(result.left_out)}: label some')


def _besides(left_out: Counter[str]) -> str:
    found = ', '.join(f'{count} {kind}' for kind, count in left_out.items() if count)
    return f' (left out: {found})' if found else ''


def _write_descriptor(
    path: Path, name: str, classes: Sequence[ImportedClass], result: Imported,
    config: ImportConfig,
) -> None:
    splits = sorted(result.splits)
    files = {split: {'images': f'images/{split}/**/*.*', 'labels': f'labels/{split}/**/*.png'}
             for split in splits}
    data: dict[str, object] = {'name': name}
    if '' in splits or 'train' not in splits:
        data |= {'images': 'images/**/*.*', 'labels': 'labels/**/*.png', 'val': config.val}
    elif 'val' in splits:
        data |= files
    else:
        data |= {**files['train'], 'val': config.val,
                 **{split: files[split] for split in splits if split != 'train'}}
    data['classes'] = classes_ = [
        {'name': c.name, 'id': i, 'color': list(c.color or voc_color(i + 1)),
         **({'category': c.category} if c.category else {})} for i, c in enumerate(classes)]
    read_classes(name, classes_)  # raises ConfigError for what lednet_train would
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True,
                                   default_flow_style=None, width=100), encoding='utf-8')


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield a folder that gets its name when the block ends well. Raise ConfigError."""
    place = Path(os.path.abspath(out))  # '.' has no name
    if place == Path.cwd() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(f'{out}: is there already: choose a new OUT')
    partial = place.with_name(partial_name(place.name))
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f'{out}: cannot be made: {error.strerror}: choose another '
                          'OUT') from error
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise ConfigError(f'{error.filename or out}: {error.strerror}: make room, mend that, or '
                          'choose another OUT') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
