# SPDX-License-Identifier: Apache-2.0
"""What runs on the workers of a Ray cluster: one job at a time, on one core or one GPU each."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lednet_ros
from lednet_ros.common.cpu import use_at_most
from lednet_ros.common.errors import LednetRosError
from lednet_ros.offline.jobs import Job, do_job
from lednet_ros.offline.output_dir import Results
from lednet_ros.offline.work import Complaint, Extras, Work, silent_progress
from lednet_ros.segmentation import Segmenter, SegmenterConfig

REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class Setup:
    """What is the same for all jobs of a run."""

    place: str          # the working directory, where paths are relative
    checkpoint: str     # a file, or '' for the one that comes with the package
    sha256: str         # of its weights
    version: str        # of lednet_ros
    config: SegmenterConfig
    directory: Path     # of the output
    record: Path        # which is there
    again: str          # how to go on
    palette: bool
    began_ns: int       # results are dated by the output's clock
    batch: int
    extras: Extras
    topics: Sequence[str]
    node: str


@dataclass
class Outcome:
    """What a job came to."""

    segmented: int = 0
    kept: int = 0
    complaints: list[Complaint] = field(default_factory=list)
    skips: list[tuple[str, str, bool]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # lines that are no complaints
    fatal: str = ''     # why no job can come to anything


class Board:
    """Frames done, by job: an actor, so that progress is in one place."""

    def __init__(self) -> None:
        self._frames: dict[str, int] = {}

    def note(self, job: str, frames: int) -> None:
        """Note how many a job has done in all."""
        self._frames[job] = frames

    def total(self) -> int:
        """Return how many are done."""
        return sum(self._frames.values())


class _Reporter:
    """Tells the board now and then."""

    def __init__(self, board: Any, job: str) -> None:
        self._board, self._job = board, job
        self._frames, self._next_s = 0, 0.0

    def __call__(self, count: int) -> None:
        self._frames += count
        if (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + REPORT_EVERY_S
            self.tell()

    def tell(self) -> None:
        if self._board is not None:
            self._board.note.remote(self._job, self._frames)


_segmenters: dict[tuple[str, SegmenterConfig], Segmenter] = {}  # the process has one, kept


def run_job(job: Job, setup: Setup, board: Any) -> Outcome:
    """Do a job as the command itself would; `board`, if any, is told of its frames."""
    try:
        if setup.place:
            os.chdir(setup.place)
        segmenter = _segmenter(setup)
    except OSError as error:
        return Outcome(fatal=f'worker on {socket.gethostname()}: {setup.place}: '
                       f'{error.strerror}: give absolute paths')
    except LednetRosError as error:
        return Outcome(fatal=f'worker on {socket.gethostname()}: {error}')
    if fault := _fault(setup, segmenter):
        return Outcome(fatal=f'worker on {socket.gethostname()}: {fault}')
    report = _Reporter(board, str(job))
    results = Results(setup.directory, setup.again, job.since_ns,
                      segmenter.labels.palette if setup.palette else None, setup.began_ns)
    work = Work(segmenter, results, silent_progress(), setup.batch, setup.extras, setup.topics,
                setup.node, on_frames=report)
    do_job(job, work)
    report.tell()
    return Outcome(work.segmented, work.kept, work.complaints, work.skips, sorted(work.said))


def _segmenter(setup: Setup) -> Segmenter:
    key = setup.checkpoint, setup.config
    if key not in _segmenters:
        from lednet_ros.images.sources import quieten_opencv
        quieten_opencv()
        use_at_most(1)  # each core has a worker of its own
        for segmenter in _segmenters.values():
            segmenter.close()
        _segmenters.clear()
        _segmenters[key] = Segmenter(setup.checkpoint or None, setup.config)
    return _segmenters[key]


def _fault(setup: Setup, segmenter: Segmenter) -> str:
    """Return why this machine's results would be others, or nowhere; '' where they are right."""
    if lednet_ros.__version__ != setup.version:
        return (f'has lednet_ros {lednet_ros.__version__}, not {setup.version}: install the same '
                'version on every machine')
    if segmenter.checkpoint.sha256 != setup.sha256:
        return f'{segmenter.checkpoint.name}: has other weights there: copy it to every machine'
    if not (setup.directory / setup.record).exists():
        return (f'{setup.directory}: is not there: give an --output that every machine sees by '
                'this path')
    return ''
