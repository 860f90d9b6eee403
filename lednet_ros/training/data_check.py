# SPDX-License-Identifier: Apache-2.0
"""Reads every pair of a data set once: counts, sizes, class frequencies, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from lednet_ros.errors import DataError
from lednet_ros.training.datasets import DataSet

_NAMED = 10   # of the faults, in an error's text
_AHEAD = 32   # pairs read but not yet counted: bounds the memory


@dataclass(frozen=True)
class DataReport:
    """What a data set holds."""

    data: DataSet
    sizes: Counter[tuple[int, int]]  # (height, width) -> images
    pixels: np.ndarray               # int64 (256,): by class id, 255 not scored
    faults: tuple[str, ...]          # one line a bad pair

    @property
    def frequencies(self) -> np.ndarray:
        """Give each class's share of the scored pixels: float (classes,)."""
        counts = self.pixels[:len(self.data.labels)]
        return counts / max(int(counts.sum()), 1)

    def lines(self) -> Iterator[str]:
        """Say it to people."""
        data = self.data
        sizes = ', '.join(f'{n} of {w}x{h}' for (h, w), n in self.sizes.most_common(5))
        yield (f'{data.root} {data.split}: {len(data)} pairs, {sizes}; '
               f'{100 * self.pixels[255] / max(self.pixels.sum(), 1):.1f} % not labelled')
        for name, share in zip(data.labels.names, self.frequencies, strict=True):
            yield f'  {name:<16}{100 * share:6.2f} %'

    def refuse_faults(self) -> None:
        """Raise DataError naming the bad pairs, if there are any, or where nothing is labelled."""
        if self.faults:
            more = len(self.faults) - _NAMED
            rest = [f'... and {more} more'] if more > 0 else []
            raise DataError(f'{len(self.faults)} of {len(self.data)} pairs cannot be used:',
                            *self.faults[:_NAMED], *rest)
        if not self.frequencies.any():
            raise DataError(f'{self.data.root} {self.data.split}: no pixel has a class that '
                            'counts: label some')


def check_data(data: DataSet, on_pair: Callable[[], None] = lambda: None) -> DataReport:
    """Read every pair; `on_pair` is called after each. Faults are listed, not raised."""
    sizes: Counter[tuple[int, int]] = Counter()
    pixels = np.zeros(256, np.int64)
    faults = []
    for result in _read_all(data):
        on_pair()
        if isinstance(result, DataError):
            faults.append(str(result))
        else:
            size, counts = result
            sizes[size] += 1
            pixels += counts
    return DataReport(data, sizes, pixels, tuple(faults))


def _read_all(data: DataSet) -> Iterator[tuple[tuple[int, int], np.ndarray] | DataError]:
    def read(index: int) -> tuple[tuple[int, int], np.ndarray] | DataError:
        try:
            _, labels = data.read(index)
        except DataError as error:
            return error
        return (labels.shape[0], labels.shape[1]), np.bincount(labels.ravel(), minlength=256)

    indices = iter(range(len(data)))
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(read, i) for i in islice(indices, _AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(read, i) for i in islice(indices, 1))
