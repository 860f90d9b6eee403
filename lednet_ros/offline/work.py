# SPDX-License-Identifier: Apache-2.0
"""What the kinds of sources share: the network, the output, the progress and the complaints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from rich.progress import Progress

from lednet_ros.image_decoding import Frame
from lednet_ros.offline.output import Output
from lednet_ros.panels import overlay
from lednet_ros.segmentation import Segmenter

T = TypeVar('T')


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
    problems: list[str] = field(default_factory=list)

    def segment(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """Give the label images, uint8 (H, W)."""
        results = self.segmenter.segment(
            [frame.pixels for frame in frames], rgb=[frame.rgb for frame in frames])
        self.segmented += len(frames)
        return [result.labels for result in results]

    def picture(self, frame: Frame, labels: np.ndarray) -> np.ndarray:
        """Give the overlay, uint8 (H, W, 3) RGB."""
        rgb = frame.pixels if frame.rgb else frame.pixels[..., ::-1]
        return overlay(np.ascontiguousarray(rgb), self.segmenter.colorize(labels))

    def complain(self, problem: str) -> None:
        """Say what is left out; the run goes on and ends with exit code 1."""
        self.problems.append(problem)
        self.progress.console.print(
            f'lednet_segment: {problem}', highlight=False, markup=False, soft_wrap=True)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of up to `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch
