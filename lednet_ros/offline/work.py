# SPDX-License-Identifier: Apache-2.0
"""What the kinds of sources share: the network, the output, the progress and the complaints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from rich.progress import Progress

from lednet_ros.common.errors import printable
from lednet_ros.images.annotate import overlay
from lednet_ros.images.encodings import Frame
from lednet_ros.offline.output_dir import Output
from lednet_ros.segmentation import Segmenter

T = TypeVar('T')
SAID = 20  # complaints of one kind; what comes beyond is counted


class Tally:
    """How many things of which kind, and their names."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count some of a kind."""
        self.counts[kind] += count
        self._names.setdefault(kind, []).append(name)

    def __str__(self) -> str:
        """Say how many, and of which kinds."""
        kinds = ', '.join(f'{kind}: {count}' for kind, count in self.counts.most_common())
        return f'{sum(self.counts.values())}' + (f' ({kinds})' if kinds else '')

    def to_dict(self) -> dict[str, Any]:
        """Return {kind: {count, names}}."""
        return {kind: {'count': self.counts[kind], 'names': names}
                for kind, names in self._names.items()}


@dataclass
class Work:
    """One run of the command."""

    segmenter: Segmenter
    output: Output
    progress: Progress
    batch: int = 1
    overlay: bool = False          # make overlays too
    topics: Sequence[str] = ()     # of bags; empty: each that shows pictures
    segmented: int = 0
    kept: int = 0                  # found from before
    left_out: Tally = field(default_factory=Tally)  # what was asked for; the names are lines
    skipped: Tally = field(default_factory=Tally)   # what nobody misses

    def segment(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """Give the label images, uint8 (H, W)."""
        results = self.segmenter.segment(
            [frame.pixels for frame in frames], rgb=[frame.rgb for frame in frames])
        self.segmented += len(frames)
        return [result.labels for result in results]

    def picture(self, frame: Frame, labels: np.ndarray) -> np.ndarray:
        """Give the overlay, uint8 (H, W, 3) RGB."""
        place = self.segmenter.place(frame.pixels.shape[:2])
        return overlay(place.picture(frame.pixels, frame.rgb), self.segmenter.colorize(labels))

    def label_size(self, frame: Frame) -> tuple[int, int]:
        """Return the (height, width) of a frame's label image."""
        place = self.segmenter.place(frame.pixels.shape[:2])
        return place.input_height, place.input_width

    def complain(self, problem: str, kind: str, count: int = 1) -> None:
        """Say what is left out; the run goes on and ends with exit code 1."""
        self.left_out.add(kind, problem, count)
        said = len(self.left_out.to_dict()[kind]['names'])
        if said <= SAID:
            self._print(problem)
        if said == SAID:
            self._print(f'more of this kind ({kind}) are only counted; --json has them all')

    def skip(self, kind: str, name: str, is_said: bool = False) -> None:
        """Note what is left out, as nobody will miss it."""
        self.skipped.add(kind, name)
        if is_said:
            self._print(f'{name}: skipped ({kind})')

    def _print(self, line: str) -> None:
        self.progress.console.print(f'lednet_segment: {printable(line)}', highlight=False,
                                    markup=False, soft_wrap=True)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of up to `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch
