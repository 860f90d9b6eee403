# SPDX-License-Identifier: Apache-2.0
"""
Labelled images on disk: what a data.yaml describes (descriptor.py), or one of three layouts.

What labelling tools export as polygons and brush masks is drawn by importers/.


cityscapes  leftImg8bit/SPLIT/CITY/*_leftImg8bit.png  gtFine/SPLIT/CITY/*_gtFine_labelIds.png
            and gtCoarse/train_extra for the 20 000 coarsely labelled images
camvid      SPLIT/*.png  SPLITannot/*.png (0 to 10; 11 is void), SPLIT being train, val or test
folders     images/SPLIT/*  labels/SPLIT/*.png  labels.yaml, for one's own: label images hold
            class ids, 255 what is not labelled, and are named as their images

A labels.yaml in the first two means classes of one's own there too, with ids in its order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.classes import identity
from lednet_ros.datasets.data_set import DataSet, Pair
from lednet_ros.datasets.descriptor import (
    NAME,
    builtin_classes,
    described,
    likely_base,
    open_descriptor,
)
from lednet_ros.images.sources import IMAGE_SUFFIXES, natural
from lednet_ros.model.labels import UNLABELLED, LabelSet, builtin_label_set

__all__ = ['DataSet', 'Pair', 'open_data_set']

LABELS = 'labels.yaml'

# Names in lists of classes, by their letters: what is no class, and what only the list of CamVid's
# 32 classes has, which its arrangement of 11 joins.
_NO_CLASS = ('void', 'unlabelled', 'unlabeled')
_OF_CAMVIDS_32 = {'columnpole', 'lanemkgsdriv', 'suvpickuptruck'}


Meaning = tuple[LabelSet, np.ndarray, str]  # of values: see DataSet's labels, to_id, labels_from


def open_data_set(root: Path, split: str, coarse: bool = False) -> DataSet:
    """
    List a split of a data set: by its descriptor, or by the layout of its directory.

    `root` is a YAML file, or a directory, in which a data.yaml wins. `coarse` adds Cityscapes'
    train_extra with its gtCoarse labels to train. Reads no image. Raise ConfigError, DataError.
    """
    descriptor = root / NAME if root.is_dir() else root
    if descriptor.is_file():
        if coarse:
            raise DataError(f'{descriptor}: describes nothing coarse: set coarse=false')
        return open_descriptor(descriptor, split)
    if not root.is_dir():
        raise DataError(f'{root}: is no directory and no file: give the directory that holds the '
                        f'data set, or a YAML file that describes it')
    layouts: dict[str, Callable[[Path, str, bool], DataSet]] = {
        'leftImg8bit': _cityscapes, 'images': _folders, f'{split}annot': _camvid}
    for mark, layout in layouts.items():
        if (root / mark).is_dir():
            if coarse and layout is not _cityscapes:
                raise DataError(f'{root}: is not Cityscapes, so there is nothing coarse: '
                                'set coarse=false')
            return layout(root, split, coarse)
    _refuse_described(root)
    raise DataError(
        f'{root}: holds no {split} split of a known layout: leftImg8bit/ and gtFine/ '
        f'(Cityscapes), {split}/ and {split}annot/ (CamVid), or images/{split}/, labels/{split}/ '
        f'and labels.yaml: describe yours in {root / NAME}, as docs/datasets.md shows, for which '
        f'"base:" knows {", ".join(described())}; of a labelling tool\'s polygons and brush '
        'masks lednet_import makes one')


def _refuse_described(root: Path) -> None:
    """Raise DataError where a description that comes along fits, naming it."""
    base = likely_base(root)
    if base:
        raise DataError(f'{root}: looks like what is described as {base}: write "base: {base}" '
                        f'into {root / NAME}, and see docs/datasets.md')


def _camvid(root: Path, split: str, coarse: bool) -> DataSet:
    meaning = _own_labels(root)
    if not meaning:
        labels = builtin_label_set('camvid')
        _refuse_other_colors(root / 'label_colors.txt', labels)
        to_id = identity(labels)
        to_id[len(labels)] = UNLABELLED
        meaning = labels, to_id, f"CamVid's own, as there is no {LABELS}"
    return _paired(root, split, meaning, root / split, root / f'{split}annot')


def _refuse_other_colors(path: Path, labels: LabelSet) -> None:
    """Raise DataError where a file that lists classes, as CVAT writes it, lists others."""
    try:
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f'{path}: cannot be read: {error.strerror}: mend it, or write '
                        f'{path.parent / LABELS}') from error
    found = [' '.join(word for word in line.split() if not word.isdigit())
             for line in lines if line.strip() and not line.startswith('#')]
    listed = [name for name in map(_letters, found) if name not in _NO_CLASS]
    if listed != [_letters(name) for name in labels.names] and not set(listed) >= _OF_CAMVIDS_32:
        raise DataError(
            f"{path}: lists {', '.join(found[:8])}, but without a {LABELS} the label images' "
            f"values would be taken for CamVid's {len(labels)} classes: write "
            f'{path.parent / LABELS}, with your classes in the order of their ids')


def _letters(name: str) -> str:
    return ''.join(c for c in name.casefold() if c.isalnum())


def _folders(root: Path, split: str, coarse: bool) -> DataSet:
    meaning = _own_labels(root)
    if not meaning:
        _refuse_described(root)
        raise DataError(
            f'{root / LABELS}: does not exist, and as {root} holds images/ it was taken for '
            f'images/{split}/, labels/{split}/ and that file: write into it "classes:" and then, '
            'in the order of the ids, a line "  - {name: road, color: [128, 64, 128]}" for each')
    return _paired(root, split, meaning, root / 'images' / split, root / 'labels' / split)


def _cityscapes(root: Path, split: str, coarse: bool) -> DataSet:
    labels, to_id, labels_from = _own_labels(root) or _cityscapes_labels()
    pairs, left_out = _cityscapes_pairs(root, split, 'gtFine')
    if coarse and split == 'train':
        more_pairs, more_left_out = _cityscapes_pairs(root, 'train_extra', 'gtCoarse')
        pairs, left_out = pairs + more_pairs, left_out + more_left_out
    return DataSet(root, split, labels, tuple(pairs), to_id, labels_from, left_out)


def _cityscapes_labels() -> Meaning:
    classes = builtin_classes('cityscapes')
    return classes.labels, classes.to_id, f"Cityscapes' own, as there is no {LABELS}"


def _cityscapes_pairs(root: Path, split: str, kind: str) -> tuple[list[Pair], tuple[str, ...]]:
    directory, ending = root / 'leftImg8bit' / split, '_leftImg8bit.png'
    found = sorted(path for city in directory.glob('*') for path in city.glob('*'))
    images = [path for path in found if path.name.lower().endswith(ending.lower())
              and not path.name.startswith('.') and not path.is_dir()]
    if not images:
        raise DataError(f'{directory}: holds no CITY/*{ending}: unpack the images there')
    others = len(found) - len(images)
    return ([Pair(image, root / kind / split / image.parent.name
                  / f'{image.name[:-len(ending)]}_{kind}_labelIds.png') for image in images],
            (f'{others} files in {directory} that are no *{ending}',) if others else ())


def _own_labels(root: Path) -> Meaning | None:
    """
    Return what a labels.yaml says of files that hold its ids; None where there is none.

    Raise ConfigError, DataError.
    """
    found = [path for path in root.iterdir() if path.name.lower() in (LABELS, 'labels.yml')]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f'{found[0]} and {found[1].name}: are both there: keep one')
    labels = LabelSet.from_yaml(found[0])
    return labels, identity(labels), found[0].name


def _paired(
    root: Path, split: str, meaning: Meaning, images: Path, label_images: Path
) -> DataSet:
    files, no_images = _listed(images, IMAGE_SUFFIXES)
    if not files:
        raise DataError(f'{images}: holds no image{f" but {no_images}" if no_images else ""}: put '
                        f'{", ".join(IMAGE_SUFFIXES)} files there')
    label_files, no_labels = _listed(label_images, ('.png',))
    _by_stem(files, 'a label image')
    unused = _by_stem(label_files, 'an image')
    pairs = tuple(Pair(file, unused.pop(file.stem, label_images / f'{file.stem}.png'))
                  for file in files)
    alone = f'{len(unused)} label images without an image' if unused else ''
    return DataSet(root, split, meaning[0], pairs, meaning[1], meaning[2], tuple(
        f'{what} in {where}' for what, where in (
            (no_images, images), (alone, label_images), (no_labels, label_images)) if what))


def _by_stem(files: Sequence[Path], shared: str) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise DataError(f'{other} and {file.name}: would share {shared}: rename one')
    return stems


def _listed(directory: Path, suffixes: Sequence[str]) -> tuple[list[Path], str]:
    """Return the files with these suffixes, in whatever case, and what else is there, in words."""
    files, others = [], Counter[str]()
    try:
        for path in sorted(directory.iterdir(), key=natural):
            if path.name.startswith('.'):  # as macOS adds to each file of a foreign disk
                others['hidden'] += 1
            elif path.is_dir():
                others['folders'] += 1
            elif path.suffix.lower() in suffixes:
                files.append(path)
            else:
                others[path.suffix.lower() or 'without a suffix'] += 1
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise DataError(f'{directory}: cannot be read: {error.strerror}: let this user read '
                        'it') from error
    return files, ', '.join(f'{count} {kind}' for kind, count in others.most_common())
