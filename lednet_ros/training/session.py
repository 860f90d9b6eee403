# SPDX-License-Identifier: Apache-2.0
"""A training from its output directory to a calibrated checkpoint: opened, checked, run, ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lednet_ros.common.progress_bar import progress_bar
from lednet_ros.datasets.checks import DataReport, check_with_progress, judge
from lednet_ros.datasets.data_sheet import DATA_SHEET, write_data_sheet
from lednet_ros.datasets.drives import drive_of
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.training.augmentation import padding_of
from lednet_ros.training.calibration import Calibration, calibrate, write_calibrated
from lednet_ros.training.card import write_card
from lednet_ros.training.distributed import Processes
from lednet_ros.training.first_views import write_knobs, write_views
from lednet_ros.training.listeners import both, load_listener
from lednet_ros.training.progress import show_progress
from lednet_ros.training.recipe import Recipe
from lednet_ros.training.run_dir import KNOBS, VIEWS, Output
from lednet_ros.training.train import Job, Listener, Position, Training
from lednet_ros.training.trained_network import what_is_kept

_MOST_PADDING = 0.25  # of a crop, before the random scale: more is most likely not meant


@dataclass(frozen=True)
class Session:
    """By whom, on what and by which recipe trainings are run."""

    processes: Processes
    device: torch.device
    recipe: Recipe
    init: Checkpoint | None = None
    listener: str = ''  # MODULE:FUNCTION, of one's own; '': none
    name: str = ''      # the run's, for people; '': its directory's
    # In the first process: told what was found, and the drives of val that train has too.
    on_calibrated: Callable[[Calibration, list[str]], None] = lambda found, shared: None

    def train_on(
        self, train: DataSet, val: DataSet, directory: Path
    ) -> tuple[Position, bool]:
        """Train on one split, scored on another; return where that stands and if it is done."""
        processes, recipe, init = self.processes, self.recipe, self.init
        output: Output | None = None

        def open_output() -> None:
            nonlocal output
            output = Output(directory, {
                **recipe.to_dict(), 'init': init.sha256 if init else None,
                'labels': train.labels.to_dict(),
                **{name: [os.path.relpath(p.image, data.root) for p in data.pairs]
                   for name, data in (('data', train), ('val data', val))}})

        def read_all() -> tuple[DataReport, list[str]]:
            report, val_report = check_with_progress(train), check_with_progress(val)
            warnings = [*judge(report, val_report), *_padding(recipe, report)]
            if output:
                output.note_content(' '.join(
                    f'{r.sha256} {r.data.to_id.tobytes().hex()}' for r in (report, val_report)))
            write_data_sheet(report, val_report, directory / DATA_SHEET)
            return report, [*report.lines(), *([what_is_kept(train.labels, init)] if init else []),
                            *(f'warning: {w}' for w in warnings)]

        try:
            processes.share(open_output)
            report, notes = processes.share(read_all)
            with show_progress(processes.is_first) as listener:
                if output:
                    output.begin(recipe.to_dict())
                    write_views(train, recipe, directory / VIEWS)
                    write_knobs(train, recipe, directory / KNOBS)
                    listener.on_note('\n'.join(notes))
                    if self.listener:
                        listener = both(listener, load_listener(
                            self.listener, recipe.to_dict(), directory))
                training = Training(Job(
                    recipe, report, val, output, init, self.device, processes, listener,
                    self.name or directory.absolute().name))
                with _stopped_by_signals(training, listener):
                    is_done = training.run()
            if is_done:
                processes.share(lambda: self._calibrate(directory, train, val))
        finally:
            if output:
                output.close()
        return training.position, is_done

    def _calibrate(self, directory: Path, train: DataSet, val: DataSet) -> None:
        """Write a temperature into the checkpoints of a training that is done, once."""
        for name in ('last', 'best'):
            path = directory / f'{name}.safetensors'
            checkpoint = load_checkpoint(path)
            if 'calibration' in checkpoint.metadata.training:
                continue
            with progress_bar() as progress:
                task = progress.add_task(f'confidence of {path.name}', total=len(val))
                found = calibrate(checkpoint, val, self.device, partial(progress.advance, task))
            write_calibrated(checkpoint, found, path)
            write_card(load_checkpoint(path), path.with_suffix('.md'))
            if name == 'best':
                shared = set(found.drives) & {drive_of(pair.image) for pair in train.pairs}
                self.on_calibrated(found, sorted(shared))


def _padding(recipe: Recipe, report: DataReport) -> list[str]:
    """Warn where crops are much larger than the images, and so mostly hold none of them."""
    empty = max((padding_of(recipe, size) for size in report.sizes), default=0.0)
    if empty <= _MOST_PADDING:
        return []
    return [f'{100 * empty:.0f} % of a crop lies beside the image, which is that much smaller at '
            f'{recipe.input_width}x{recipe.input_height}, and is not learnt from: --size sets '
            'crops with the size']


@contextmanager
def _stopped_by_signals(training: Training, listener: Listener) -> Iterator[None]:
    """End the training after its step by SIGINT and SIGTERM; a second one does not wait."""
    def stop(number: int, _: object) -> None:
        training.is_stopped = True
        signal.signal(number, before[number])
        listener.on_note('stopping after this step; once more to end at once, and go on from the '
                         'last epoch')

    before = {int(n): signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
