# SPDX-License-Identifier: Apache-2.0
"""Reads every pair of a data set once: counts, sizes, class frequencies, and what is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.common.progress_bar import progress_bar
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.labels import UNLABELLED, LabelSet

_NAMED = 10       # kinds of faults in an error's text
_EXAMPLES = 3     # files of a kind, by name
_AHEAD = 32       # pairs read but not yet counted: bounds the memory
_SMALL = (16, 16)  # an image as it is compared with others
# Root mean square of the differences, in grey levels, of two of them. On CamVid: 0.6 for the same
# image as JPEG of quality 30, or at half the size; 3.6 for the two most alike of a drive.
_EQUAL = 1.0


@dataclass(frozen=True)
class DataReport:
    """What a data set holds."""

    data: DataSet
    sizes: Counter[tuple[int, int]]  # (height, width) -> images
    values: np.ndarray               # int64 (256,): pixels by what label images' files hold
    by_image: np.ndarray             # int32 (images, classes): each good pair's pixels by class id
    small: np.ndarray                # float32 (images, 256): each good pair's image, tiny and grey
    good: tuple[int, ...]            # indices of the good pairs
    faults: tuple[tuple[Path, str], ...]  # of the bad ones: a file and what is wrong with it
    sha256: str = ''  # of all good pairs' pixels and labels, in order: which data it was
    repainted: tuple[tuple[Path, Path, int], ...] = ()  # files, each with an earlier one whose
    #                                                     palette shows a value in another colour

    @property
    def pixels(self) -> np.ndarray:
        """Return the pixels by class id, 255 not scored: int64 (256,)."""
        return _by_class(self.data, self.values)

    @property
    def frequencies(self) -> np.ndarray:
        """Return each class's share of the scored pixels: float (classes,)."""
        counts = self.pixels[:len(self.data.labels)]
        return counts / max(int(counts.sum()), 1)

    def lines(self) -> Iterator[str]:
        """Say it to people."""
        data = self.data
        sizes = ', '.join(f'{n} of {w}x{h}' for (h, w), n in self.sizes.most_common(5))
        if len(self.sizes) > 5:
            sizes += f', and {len(self.sizes) - 5} more sizes'
        yield (f'{data.root} {data.split}: {len(data)} pairs, {sizes or "none of them readable"}; '
               f'{100 * self.pixels[UNLABELLED] / max(self.values.sum(), 1):.1f} % not labelled; '
               f'label set {data.labels.name!r}: {data.labels_from}')
        if self.good:
            for name, share in zip(data.labels.names, self.frequencies, strict=True):
                yield f'  {name:<16}{100 * share:6.2f} %'
        if data.left_out:
            yield f'  left out: {"; ".join(data.left_out)}'

    def refuse_faults(self) -> None:
        """Raise DataError naming the bad pairs, or where what is labelled cannot be meant."""
        if self.faults:
            kinds: dict[str, list[Path]] = {}
            for file, fault in self.faults:
                kinds.setdefault(fault, []).append(file)
            more = len(self.faults) - sum(map(len, list(kinds.values())[:_NAMED]))
            raise DataError(
                f'{len(self.faults)} of {len(self.data)} pairs cannot be used:',
                *(f'{_examples(files)}: {fault}' for fault, files in islice(
                    kinds.items(), _NAMED)), *([f'... and {more} more'] if more else []))
        refuse_binary_masks(self.data, self.values)
        if not self.frequencies.any():
            raise DataError(f'{self.data.root} {self.data.split}: no pixel has a class that '
                            'counts: label some')

    def refuse_single_class(self) -> None:
        """Raise DataError where nothing can be learnt, as there is nothing to tell apart."""
        [*seen] = np.flatnonzero(self.frequencies)
        if len(seen) == 1:
            raise DataError(
                f'{self.data.root} {self.data.split}: all that is labelled is '
                f'{self.data.labels.names[seen[0]]}, so nothing can be told apart: label what is '
                'not that as another class')

    def warnings(self) -> Iterator[str]:
        """Name the classes without a pixel, and palettes that contradict each other."""
        data = self.data
        if self.repainted:
            file, other, value = self.repainted[0]
            yield (f'{data.root} {data.split}: {len(self.repainted)} label images show a value in '
                   f'another colour than others do ({value} in {file.name} and in {other.name}, '
                   'for one), so it may be another class there: if their tool orders palettes '
                   'anew for each file, give the classes by colour in a data.yaml')
        names = classes_without_pixels(data.labels, self.pixels)
        if not names:
            return
        loss, remedy = (
            ('cannot be learnt', 'label some, or take them out of the label set')
            if data.split == 'train' else
            ('cannot be scored', f'put images that show them into {data.split}'))
        yield (f'{data.root} {data.split}: {len(names)} of {len(scored_ids(data.labels))} classes '
               f'{"have" if len(names) > 1 else "has"} no pixel and {loss}: {", ".join(names)}: '
               + ('255 means not labelled; ' if self.values[UNLABELLED] and not data.colors
                  else '') + remedy)


def check_data(data: DataSet, on_pair: Callable[[], None] = lambda: None) -> DataReport:
    """Read every pair; `on_pair` is called after each. Faults are listed, not raised."""
    sizes: Counter[tuple[int, int]] = Counter()
    values = np.zeros(256, np.int64)
    by_image, small, good, faults = [], [], [], []
    shown: dict[int, tuple[bytes, Path]] = {}  # values: a palette's colour, in the first file
    repainted = []
    whole = hashlib.sha256()
    for index, result in enumerate(_read_all(data)):
        on_pair()
        if isinstance(result, DataError):
            faults.append(_split_off(data, index, str(result)))
        else:
            size, counts, tiny, digest, colors = result
            label = data.pairs[index].label
            first = {value: shown.setdefault(value, (color, label)) for value, color in colors}
            other = next((v for v, color in colors if first[v][0] != color), None)
            if other is not None:
                repainted.append((label, first[other][1], other))
            whole.update(digest)
            sizes[size] += 1
            values += counts
            by_image.append(_by_class(data, counts)[:len(data.labels)].astype(np.int32))
            small.append(tiny)
            good.append(index)
    return DataReport(
        data, sizes, values, np.array(by_image, np.int32).reshape(len(good), len(data.labels)),
        np.array(small, np.float32).reshape(len(good), _SMALL[0] * _SMALL[1]), tuple(good),
        tuple(faults), whole.hexdigest(), tuple(repainted))


def check_with_progress(data: DataSet) -> DataReport:
    """Read every pair as `check_data` does, beside a progress bar."""
    with progress_bar() as progress:
        task = progress.add_task(f'reading {data.split}', total=len(data))
        return check_data(data, lambda: progress.advance(task))


def judge(train: DataReport, val: DataReport) -> list[str]:
    """Return what to warn of. Raise DataError where the data cannot be used."""
    for report in (train, val):
        report.refuse_faults()
    train.refuse_single_class()
    return [*train.warnings(), *val.warnings(), *shared_images(train, val)]


def _by_class(data: DataSet, values: np.ndarray) -> np.ndarray:
    """Return pixels by class id, int64 (256,), of pixels by what label images' files hold."""
    counts = np.zeros(256, np.int64)
    np.add.at(counts, data.to_id, values)
    return counts


def shared_images(train: DataReport, val: DataReport) -> Iterator[str]:
    """Name the images of val that are in train too, also as another file."""
    if not len(train.small):
        return
    found = []
    squares = (train.small ** 2).sum(1)
    for index, tiny in zip(val.good, val.small, strict=True):
        nearest = int((squares - 2 * train.small @ tiny).argmin())
        difference = np.sqrt(((train.small[nearest] - tiny) ** 2).mean())
        # Pictures with little in them, as of the night, are not equal for that.
        if difference <= min(_EQUAL, tiny.std() / 8):
            found.append((val.data.pairs[index].image,
                          train.data.pairs[train.good[nearest]].image))
    if found:
        examples = ', '.join(f'{ours.name} is {theirs.name}' for ours, theirs in found[:_EXAMPLES])
        yield (f'{val.data.root}: {len(found)} of {len(val.good)} images of {val.data.split} are '
               f'in {train.data.split} too ({examples}{", ..." if len(found) > _EXAMPLES else ""})'
               ', so its scores say nothing of other images: take them from another drive')


def require_classes(name: str, labels: LabelSet, data: DataSet) -> None:
    """Raise ConfigError where a checkpoint, of this name and labels, knows other classes."""
    if labels.names != data.labels.names:
        raise ConfigError(
            f'{name} knows {len(labels)} classes ({labels.name}) but the data has '
            f'{len(data.labels)} ({data.labels.name}): choose a checkpoint trained on '
            f'{data.labels.name}')


def refuse_binary_masks(data: DataSet, values: np.ndarray) -> None:
    """
    Raise DataError where 255, 'not labelled', seems to be meant as a class.

    `values`: integer (256,), pixels by what label images' files hold.
    """
    if data.colors or data.to_id[UNLABELLED] != UNLABELLED:  # it says itself what 255 is
        return
    others = [i for i in scored_ids(data.labels) if i != data.to_id[0]]
    if others and np.flatnonzero(values).tolist() == [0, UNLABELLED]:
        names = ' or '.join(data.labels.names[i] for i in others[:4])
        raise DataError(
            f'{data.root} {data.split}: the label images hold 0 and 255 only, and 255 means not '
            f'labelled, so nothing is {names}: write the id of what they mark instead of 255'
            + (f', {others[0]} for {names}' if len(others) == 1 else '')
            + ', or give that class "id: 255" in a data.yaml')


def classes_without_pixels(labels: LabelSet, pixels: np.ndarray) -> list[str]:
    """Return their names, void classes left out; `pixels`: integer, by class id."""
    return [labels.names[i] for i in scored_ids(labels) if not pixels[i]]


def scored_ids(labels: LabelSet) -> list[int]:
    """Return the ids of the classes that are not void."""
    return [i for i in range(len(labels)) if i not in labels.void_ids]


def _examples(files: Sequence[Path]) -> str:
    """Return some files' names: the first with its directory."""
    if len(files) == 1:
        return str(files[0])
    names = ', '.join([str(files[0]), *(file.name for file in files[1:_EXAMPLES])])
    return f'{len(files)} files ({names}{", ..." if len(files) > _EXAMPLES else ""})'


def _split_off(data: DataSet, index: int, fault: str) -> tuple[Path, str]:
    """Return the file that a fault begins with, and the rest."""
    pair = data.pairs[index]
    for file in (pair.label, pair.image):
        if fault.startswith(f'{file}: '):
            return file, fault[len(f'{file}: '):]
    return pair.label, fault


# Of a good pair: its size, its values' counts, its image tiny and grey, the hash of both, and the
# colours that a palette shows its values in.
_Read = tuple[tuple[int, int], np.ndarray, np.ndarray, bytes, list[tuple[int, bytes]]]


def _read_all(data: DataSet) -> Iterator[_Read | DataError]:
    def read(index: int) -> _Read | DataError:
        try:
            image, values, palette = data.read_values(index)
        except DataError as error:
            return error
        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        counts = np.bincount(values.ravel(), minlength=256)
        colors = [] if palette is None else [
            (value, palette[value].tobytes()) for value in np.flatnonzero(counts).tolist()
            if value < len(palette) and data.to_id[value] != UNLABELLED]
        return ((values.shape[0], values.shape[1]), counts,
                cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).ravel(),
                hashlib.sha256(image.tobytes() + values.tobytes()).digest(), colors)

    indices = iter(range(len(data)))
    with ThreadPoolExecutor(usable_cores() + 4) as pool:  # as by default, but for containers
        waiting = [pool.submit(read, i) for i in islice(indices, _AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(read, i) for i in islice(indices, 1))
