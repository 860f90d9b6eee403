# SPDX-License-Identifier: Apache-2.0
"""Labelled images on disk: three layouts, one way to read them.

cityscapes  leftImg8bit/SPLIT/CITY/*_leftImg8bit.png  gtFine/SPLIT/CITY/*_gtFine_labelIds.png
            and gtCoarse/train_extra for the 20 000 coarsely labelled images
camvid      SPLIT/*.png  SPLITannot/*.png (0 to 10; 11 is void), SPLIT being train, val or test
folders     images/SPLIT/*  labels/SPLIT/*.png  labels.yaml, for one's own: label images hold
            class ids, 255 what is not labelled, and are named as their images
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lednet_ros.errors import DataError
from lednet_ros.frame_sources import IMAGE_SUFFIXES, natural, read_image
from lednet_ros.labels import UNLABELLED, LabelSet, builtin_label_set

UNKNOWN = 254  # in DataSet.to_id: a value that a label image may not hold


@dataclass(frozen=True)
class Pair:
    """An image and its label image."""

    image: Path
    label: Path


@dataclass(frozen=True)
class DataSet:
    """One split: pairs of files, and what the label images' values mean."""

    root: Path
    split: str
    labels: LabelSet
    pairs: tuple[Pair, ...]
    to_id: np.ndarray  # uint8 (256,): file value -> class id, 255: not scored, 254: unknown

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the image, uint8 (H, W, 3) RGB, and its labels, uint8 (H, W), 255 not scored.

        Raises DataError naming the file.
        """
        pair = self.pairs[index]
        image = read_image(pair.image)
        if image is None:
            raise DataError(f'{pair.image}: cannot be read as an image: replace it')
        values = read_label(pair.label)
        if image.shape[:2] != values.shape:
            raise DataError(
                f'{pair.label}: is {values.shape[1]}x{values.shape[0]} but its image '
                f'{image.shape[1]}x{image.shape[0]}: give both the same size')
        ids = self.to_id[values]
        if (ids == UNKNOWN).any():
            strange = sorted(set(values[ids == UNKNOWN].tolist()))
            raise DataError(
                f'{pair.label}: holds {", ".join(map(str, strange[:8]))}, which label set '
                f'{self.labels.name!r} does not know: relabel it, or name the class')
        return np.ascontiguousarray(image[..., ::-1]), ids


def read_label(path: Path) -> np.ndarray:
    """Read a label image, uint8 (H, W), as its file stores it: grey or by palette, one byte.

    Raises DataError. Pillow, because OpenCV turns a palette's indices into its colours.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in ('L', 'P', '1'):
                raise DataError(f'{path}: is a {file.mode} image: a label image holds one byte a '
                                'pixel, the class id')
            return np.asarray(file, np.uint8)
    except FileNotFoundError as error:
        raise DataError(f'{path}: does not exist: label its image, or take that out') from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f'{path}: is too large: cut it into tiles, and its image too') from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f'{path}: cannot be read as a label image: replace it') from error


def open_data_set(root: Path, split: str, coarse: bool = False) -> DataSet:
    """List a split of the data set in a directory, whichever of the layouts it has.

    `coarse` adds Cityscapes' train_extra with its gtCoarse labels to train. Reads no image.
    Raises DataError.
    """
    if not root.is_dir():
        raise DataError(f'{root}: is no directory: give the one that holds the data set')
    layouts: dict[str, Callable[[Path, str, bool], DataSet]] = {
        'leftImg8bit': _cityscapes, 'images': _folders, f'{split}annot': _camvid}
    for mark, layout in layouts.items():
        if (root / mark).is_dir():
            if coarse and layout is not _cityscapes:
                raise DataError(f'{root}: is not Cityscapes, so there is nothing coarse: '
                                'set coarse=false')
            return layout(root, split, coarse)
    raise DataError(
        f'{root}: holds no {split} split of a known layout: leftImg8bit/ and gtFine/ '
        f'(Cityscapes), {split}/ and {split}annot/ (CamVid), or images/{split}/, labels/{split}/ '
        'and labels.yaml')


def _camvid(root: Path, split: str, coarse: bool) -> DataSet:
    labels = builtin_label_set('camvid')
    to_id = _identity(labels)
    to_id[len(labels)] = UNLABELLED
    return _paired(root, split, labels, to_id, root / split, root / f'{split}annot')


def _folders(root: Path, split: str, coarse: bool) -> DataSet:
    labels = LabelSet.from_yaml(root / 'labels.yaml')
    return _paired(root, split, labels, _identity(labels),
                   root / 'images' / split, root / 'labels' / split)


def _cityscapes(root: Path, split: str, coarse: bool) -> DataSet:
    try:
        from cityscapesscripts.helpers.labels import labels as theirs
    except ImportError as error:
        raise DataError(f'{root}: is Cityscapes, whose label ids cityscapesscripts knows: '
                        'pip install cityscapesscripts') from error
    to_id = np.full(256, UNKNOWN, np.uint8)
    for label in theirs:
        if label.id >= 0:
            to_id[label.id] = UNLABELLED if label.ignoreInEval else label.trainId
    pairs = _cityscapes_pairs(root, split, 'gtFine')
    if coarse and split == 'train':
        pairs += _cityscapes_pairs(root, 'train_extra', 'gtCoarse')
    return DataSet(root, split, builtin_label_set('cityscapes'), tuple(pairs), to_id)


def _cityscapes_pairs(root: Path, split: str, kind: str) -> list[Pair]:
    images = sorted((root / 'leftImg8bit' / split).glob('*/*_leftImg8bit.png'))
    if not images:
        raise DataError(f'{root / "leftImg8bit" / split}: holds no CITY/*_leftImg8bit.png: unpack '
                        'the images there')
    return [Pair(image, root / kind / split / image.parent.name / image.name.replace(
        '_leftImg8bit.png', f'_{kind}_labelIds.png')) for image in images]


def _paired(root: Path, split: str, labels: LabelSet, to_id: np.ndarray, images: Path,
            label_images: Path) -> DataSet:
    files = sorted((p for p in images.glob('*') if p.suffix.lower() in IMAGE_SUFFIXES),
                   key=natural)
    if not files:
        raise DataError(f'{images}: holds no image: put {", ".join(IMAGE_SUFFIXES)} files there')
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise DataError(f'{other} and {file.name}: would share a label image: rename one')
    return DataSet(root, split, labels, tuple(
        Pair(file, label_images / f'{file.stem}.png') for file in files), to_id)


def _identity(labels: LabelSet) -> np.ndarray:
    to_id = np.full(256, UNKNOWN, np.uint8)
    to_id[:len(labels)] = np.arange(len(labels))
    to_id[labels.void_ids] = UNLABELLED
    to_id[UNLABELLED] = UNLABELLED
    return to_id
