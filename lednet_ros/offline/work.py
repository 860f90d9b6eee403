# SPDX-License-Identifier: Apache-2.0
"""What the kinds of sources share: the network, the output, the progress and the complaints."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lednet_ros.common.atomic_file import jpeg_of, png_of
from lednet_ros.common.errors import printable
from lednet_ros.images.annotate import overlay
from lednet_ros.images.encodings import Frame
from lednet_ros.images.film import lack_of_h264
from lednet_ros.offline.output_dir import Results
from lednet_ros.segmentation import Segmenter

T = TypeVar('T')
KINDS = ('label', 'overlay', 'confidence', 'frame')  # directories of the output
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
        by_count = sorted(self.counts.items(), key=lambda entry: (-entry[1], entry[0]))
        kinds = ', '.join(f'{kind}: {count}' for kind, count in by_count)
        return f'{sum(self.counts.values())}' + (f' ({kinds})' if kinds else '')

    def to_dict(self) -> dict[str, Any]:
        """Return {kind: {count, names}}."""
        return {kind: {'count': self.counts[kind], 'names': names}
                for kind, names in self._names.items()}


@dataclass(frozen=True)
class Extras:
    """What is made beside label images."""

    overlay: bool = False     # the colours over the pictures
    confidence: bool = False  # 255 x softmax of the chosen class
    frames: str = ''          # pictures of videos and bags: 'png', 'jpg' or none

    @property
    def kinds(self) -> list[str]:
        """What an image topic, or a picture, gets."""
        return ['label', *(['overlay'] if self.overlay else []),
                *(['confidence'] if self.confidence else [])]


class Stored(NamedTuple):
    """The files of one frame, in the output."""

    labels: Path
    confidence: Path
    frame: Path | None = None

    @classmethod
    def make(cls, directory: Path, name: str, frames: str) -> Stored:
        """Name those of a frame of a video or a bag."""
        return cls('label' / directory / f'{name}.png', 'confidence' / directory / f'{name}.png',
                   'frame' / directory / f'{name}.{frames}' if frames else None)


class Seen(NamedTuple):
    """What the network says of one frame."""

    labels: np.ndarray             # uint8 (H, W)
    confidence: np.ndarray | None  # uint8 (H, W), where it is wanted


class Complaint(NamedTuple):
    """What is left out."""

    problem: str
    kind: str
    times: int


@dataclass
class Work:
    """One run of the command."""

    segmenter: Segmenter
    output: Results
    progress: Progress
    batch: int = 1
    extras: Extras = field(default_factory=Extras)
    topics: Sequence[str] = ()     # of bags; empty: each that shows pictures
    node: str = 'segment'          # whose topics a bag's results have
    command: str = 'lednet_segment'
    on_frames: Callable[[int], None] = lambda count: None  # told how many more are done
    segmented: int = 0
    kept: int = 0                  # found from before
    left_out: Tally = field(default_factory=Tally)  # what was asked for; the names are lines
    skipped: Tally = field(default_factory=Tally)   # what nobody misses
    complaints: list[Complaint] = field(default_factory=list)  # those of left_out, in order
    skips: list[tuple[str, str, bool]] = field(default_factory=list)  # the same of skipped
    said: set[str] = field(default_factory=set)     # lines that are printed once

    def segment(self, frames: Sequence[Frame]) -> list[Seen]:
        """Return labels and, where they are wanted, confidences."""
        results = self.segmenter.segment(
            [frame.pixels for frame in frames], rgb=[frame.rgb for frame in frames],
            confidence=self.extras.confidence)
        return [Seen(result.labels, result.confidence) for result in results]

    def seen(self, frames: Sequence[tuple[Stored, Frame]]) -> list[Seen]:
        """Take what an earlier run has left of these frames, make and leave the rest."""
        found = [self._kept(stored, frame) for stored, frame in frames]
        missing = [pair for pair, kept in zip(frames, found, strict=True) if kept is None]
        made = iter(self.segment([frame for _, frame in missing]))
        self.take([stored.labels for (stored, _), kept in zip(frames, found, strict=True) if kept])
        for place, (stored, frame) in enumerate(frames):
            if found[place] is None:
                found[place] = one = next(made)
                if one.confidence is not None:
                    self.output.write_png(stored.confidence, one.confidence)
                self.output.write_labels(stored.labels, one.labels)
                self.segmented += 1
            if stored.frame and not self.output.is_done(stored.frame):
                self._write_frame(stored.frame, frame)
        self.on_frames(len(frames))
        return [one for one in found if one]

    def take(self, labels: Sequence[Path]) -> None:
        """Count label images that are there: of before, or of this run by another process."""
        new = sum(map(self.output.is_new, labels))
        self.segmented += new
        self.kept += len(labels) - new

    def _kept(self, stored: Stored, frame: Frame) -> Seen | None:
        size = self.label_size(frame)
        labels = self.output.kept_labels(stored.labels, size)
        confidence = (self.output.kept_labels(stored.confidence, size)
                      if self.extras.confidence and labels is not None else None)
        if labels is None or (self.extras.confidence and confidence is None):
            return None
        return Seen(labels, confidence)

    def _write_frame(self, name: Path, frame: Frame) -> None:
        pixels = rgb_of(frame)
        with self.output.making(name) as path:
            path.write_bytes(png_of(pixels) if name.suffix == '.png' else jpeg_of(pixels))

    def picture(self, frame: Frame, labels: np.ndarray) -> np.ndarray:
        """Return the overlay, uint8 (H, W, 3) RGB."""
        place = self.segmenter.place(frame.pixels.shape[:2])
        return overlay(place.picture(frame.pixels, frame.rgb), self.segmenter.colorize(labels))

    def label_size(self, frame: Frame) -> tuple[int, int]:
        """Return the (height, width) of a frame's label image."""
        place = self.segmenter.place(frame.pixels.shape[:2])
        return place.input_height, place.input_width

    def say_of_films(self) -> None:
        """Say once where films will not be H.264."""
        if lack := lack_of_h264():
            self.tell_once(lack)

    def tell_once(self, line: str) -> None:
        """Print a line above the progress, unless it was printed before."""
        if line not in self.said:
            self.said.add(line)
            self.tell(line)

    def complain(self, problem: str, kind: str, count: int = 1) -> None:
        """Report what is left out; the run goes on and ends with exit code 1."""
        self.complaints.append(Complaint(problem, kind, count))
        self.left_out.add(kind, problem, count)
        said = len(self.left_out.to_dict()[kind]['names'])
        if said <= SAID:
            self.tell(problem)
        if said == SAID:
            self.tell(f'more of this kind ({kind}) are only counted; --json has them all')

    def skip(self, kind: str, name: str, is_said: bool = False) -> None:
        """Note what is left out, as nobody will miss it."""
        self.skips.append((kind, name, is_said))
        self.skipped.add(kind, name)
        if is_said:
            self.tell(f'{name}: skipped ({kind})')

    def silent(self) -> Work:
        """Return one with the same network and output that says and shows nothing."""
        return replace(
            self, progress=silent_progress(), left_out=Tally(), skipped=Tally(), complaints=[],
            skips=[], segmented=0, kept=0, said=set())

    def tell(self, line: str) -> None:
        """Print a line above the progress."""
        self.progress.console.print(f'{self.command}: {printable(line)}', highlight=False,
                                    markup=False, soft_wrap=True)


def silent_progress() -> Progress:
    """Return a progress that shows nothing."""
    return Progress(console=Console(file=io.StringIO(), quiet=True), disable=True)


def rgb_of(frame: Frame) -> np.ndarray:
    """Return a frame's pixels, uint8 (H, W, 3) RGB."""
    return frame.pixels if frame.rgb else frame.pixels[..., ::-1]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of up to `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch
