# SPDX-License-Identifier: Apache-2.0
"""One split of a data set: pairs of files, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.classes import UNKNOWN, Colors
from lednet_ros.datasets.faults import faults_named
from lednet_ros.images.encodings import (
    LabelImage,
    SeveralChannels,
    read_label_colors,
    read_label_image,
    read_oriented_image,
)
from lednet_ros.model.labels import UNLABELLED, LabelSet

_NEAR = 12  # of 255, in each channel


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
    labels_from: str   # where the label set comes from, for people
    left_out: tuple[str, ...] = ()  # what lies beside the pairs, likewise
    colors: Colors | None = None    # where label images hold colours: `to_id` is of what it gives
    has_colors: bool = True         # the label set's colours are given, not made up

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the image, uint8 (H, W, 3) RGB, and its labels, uint8 (H, W), 255 not scored.

        Raise DataError naming the file.
        """
        image, values, _ = self.read_values(index)
        return image, self.to_id[values]

    def read_values(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """
        Return the image and what its label image's file holds, for `to_id`, likewise.

        And the palette that shows those values, uint8 (values, 3) RGB, where one has colours.
        """
        pair = self.pairs[index]
        with faults_named(str(pair.image)):
            image, orientation = read_oriented_image(pair.image)
        with faults_named(str(pair.label)):
            values, palette = (self._read_colors(pair.label) if self.colors else
                               read_label(pair.label))
        if orientation != 1:
            _refuse_doubtful_turn(pair, orientation, image.shape[:2], values.shape)
        if image.shape[:2] != values.shape:
            raise DataError(
                f'{pair.label}: is {values.shape[1]}x{values.shape[0]} but its image '
                f'{image.shape[1]}x{image.shape[0]}: give both the same size')
        unknown = self.to_id[values] == UNKNOWN
        if unknown.any():
            strange = sorted(set(values[unknown].tolist()))
            raise DataError(
                f'{pair.label}: holds {", ".join(map(str, strange[:8]))}, which label set '
                f'{self.labels.name!r} does not know: relabel it, or name the class')
        if palette is not None and (palette == np.arange(len(palette))[:, None]).all():
            palette = None  # greys say nothing
        if palette is not None and self.has_colors:
            self._refuse_other_palette(pair.label, values, palette)
        return np.ascontiguousarray(image[..., ::-1]), values, palette

    def _read_colors(self, path: Path) -> LabelImage:
        """Return the class ids of a label image in colours. Raise DataError, BadImage."""
        assert self.colors is not None
        _refuse_absent(path)
        pixels = read_label_colors(path)
        ids = self.colors.to_ids(pixels)
        unknown = ids == UNKNOWN
        if unknown.any():
            strange, counts = np.unique(pixels[unknown], axis=0, return_counts=True)
            names = ', '.join('#{:02x}{:02x}{:02x}'.format(*strange[i])
                              for i in np.argsort(-counts, kind='stable')[:4])
            known = np.array([color for color, _ in self.colors.ids])
            near = sum(count for color, count in zip(strange.astype(int), counts.tolist(),
                                                     strict=True)
                       if abs(known - color).max(1).min(initial=255) <= _NEAR)
            remedy = ('name their classes, or list them under "ignore"'
                      if near < counts.sum() / 2 else
                      'most are near to one that it knows, as JPEG or resizing leaves them: save '
                      'the masks without either, or correct the colours of the classes')
            raise DataError(
                f'{path}: holds {len(strange)} colours ({names}'
                f'{", ..." if len(strange) > 4 else ""}) in {100 * unknown.mean():.1f} % of its '
                f'pixels, which label set {self.labels.name!r} does not know: {remedy}')
        return LabelImage(ids, None)

    def _refuse_other_palette(self, path: Path, values: np.ndarray, palette: np.ndarray) -> None:
        """
        Raise DataError where a palette has a class's colour at another class's id.

        Tools that order a palette anew for each file write such.
        """
        for value in np.flatnonzero(np.bincount(values.ravel())):
            own = self.to_id[value]
            if own == UNLABELLED or value >= len(palette):
                continue
            shown = [c.name for c in self.labels.classes if c.color == tuple(palette[value])]
            if shown and self.labels.names[own] not in shown:
                raise DataError(
                    f'{path}: its palette shows {value} in the colour of {shown[0]}, but {value} '
                    f'is the id of {self.labels.names[own]}: read it by its '
                    f'colours, with a data.yaml as docs/datasets.md shows, or give label set '
                    f'{self.labels.name!r} its colours')


def _refuse_doubtful_turn(
    pair: Pair, orientation: int, shown: tuple[int, ...], labelled: tuple[int, ...]
) -> None:
    """
    Raise DataError but where the sizes, (height, width), tell that a label fits its image.

    That is turned by EXIF, as most tools show it; some label the pixels as they are stored.
    """
    if orientation < 5 or shown[0] == shown[1] or labelled == shown[::-1]:
        raise DataError(
            f'{pair.image}: has EXIF orientation {orientation}, and its label image may be drawn '
            'on what viewers show or on the pixels as they are stored: make both the same, by '
            "'mogrify -auto-orient' if on the former, 'exiftool -Orientation=' if on the latter")


def read_label(path: Path) -> LabelImage:
    """
    Read a label image as its file stores it: grey or by palette, up to 8 bits a pixel.

    Raise DataError for what does not exist, or holds colours; BadImage.
    """
    _refuse_absent(path)
    try:
        return read_label_image(path)
    except SeveralChannels as error:
        raise DataError(f'{path}: {error}: name its colours in a data.yaml, as docs/datasets.md '
                        'shows') from error


def _refuse_absent(path: Path) -> None:
    if not path.exists():
        near = [file.name for file in path.parent.glob('*')
                if file.stem.casefold() == path.stem.casefold()]
        alike = [name for name in near if name.casefold() == path.name.casefold()]
        if alike:
            raise DataError(f'{path}: does not exist but {alike[0]} does: give it that name')
        if near:
            raise DataError(f'{path}: does not exist but {near[0]} does: label images are PNG '
                            'files: write it as one')
        raise DataError(f'{path}: does not exist: label its image, or take that out')
