# SPDX-License-Identifier: Apache-2.0
"""
Where a training stands, in its output directory, so that the same command goes on from there.

recipe.yaml      every knob as it is used
state.pt         all it takes to go on; tensors and plain containers only
last.safetensors best.safetensors   checkpoints of the newest and of the best epoch; their cards
                 beside them, .md
history.csv      a line an epoch; curves.png and tensorboard/ the same drawn
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lednet_ros.common.atomic_file import whole_file
from lednet_ros.common.directory_lock import alone_in
from lednet_ros.common.errors import ConfigError, DataError, first_line
from lednet_ros.datasets.data_sheet import DATA_SHEET
from lednet_ros.training.curves import draw_history

STATE, RECIPE, HISTORY, CURVES = 'state.pt', 'recipe.yaml', 'history.csv', 'curves.png'
VIEWS, KNOBS = 'views.png', 'augmentation.png'
EARLY = (RECIPE, VIEWS, KNOBS, DATA_SHEET)  # are there before the first epoch is saved
ANY_TIME = ('workers',)  # knobs that change no result
CONTENT = 'content of the data'


class Output:
    """
    The output directory, which no other process may write to until `close`.

    Raise ConfigError where it holds another training, or another process trains into it.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any]) -> None:
        self.directory = directory
        self._identity = dict(identity)  # recipe and what else must not change between two runs
        self._tensorboard: Any = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with ExitStack() as opened:
                opened.enter_context(alone_in(directory))
                if not (directory / STATE).exists():
                    strange = [p.name for p in directory.iterdir()
                               if p.name not in EARLY and not p.name.startswith('.')]
                    if strange:
                        raise ConfigError(
                            f'{directory}: holds {strange[0]} but no {STATE}, so it is no '
                            'training: choose another --output')
                self._opened = opened.pop_all()
        except OSError as error:
            raise ConfigError(f'{directory}: cannot be used: {error.strerror}: choose another '
                              '--output') from error

    def note_content(self, content: str) -> None:
        """Take what images and labels hold into what must not change, once they are read."""
        self._identity[CONTENT] = content

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from; None: begin. Raise ConfigError."""
        path = self.directory / STATE
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
            theirs = state['identity']
        except Exception as error:  # a damaged file makes torch.load raise nearly anything
            raise ConfigError(f'{path}: damaged ({type(error).__name__}): begin anew in another '
                              f'--output, by --init {self.directory}/last.safetensors') from error
        theirs = {'network': 'lednet', CONTENT: self._identity.get(CONTENT),
                  **theirs}  # what older trainings do not say
        other = [key for key in sorted(self._identity | theirs) if key not in ANY_TIME
                 and self._identity.get(key) != theirs.get(key)]
        if other:
            raise ConfigError(
                f'{self.directory}: was begun with another {", ".join(other)}: go on with the '
                f'same, or begin anew where this one stands: --init {self.directory}/'
                'best.safetensors and another --output')
        return state

    def begin(self, recipe: Mapping[str, Any]) -> None:
        """Write the recipe."""
        with _writing(self.directory / RECIPE) as path:
            path.write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding='utf-8')

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state, whole or not at all. Raise DataError."""
        file = io.BytesIO()  # to a full disk torch.save says 'unexpected pos 576 vs 534'
        torch.save({**state, 'identity': self._identity}, file)
        with _writing(self.directory / STATE) as path:
            path.write_bytes(file.getvalue())  # not getbuffer(): an error would keep it open

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all epochs' figures. Raise DataError."""
        with _writing(self.directory / HISTORY) as path, \
                path.open('w', newline='', encoding='utf-8') as file:
            table = csv.DictWriter(file, list(rows[-1]), restval='')
            table.writeheader()
            table.writerows(rows)
        picture = draw_history(rows)
        if picture:
            with _writing(self.directory / CURVES) as path:
                path.write_bytes(picture)

    def plot(
        self, row: Mapping[str, Any], step: int, picture: np.ndarray | None = None
    ) -> bool:
        """
        Add an epoch to TensorBoard, with a picture, uint8 (H, W, 3) RGB.

        Return False where that is not installed. Raise DataError.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return False
        directory = self.directory / 'tensorboard'
        with _explained(directory):
            if self._tensorboard is None:
                directory.mkdir(exist_ok=True)
                self._tensorboard = SummaryWriter(self._named(directory), purge_step=step)
            for name, value in row.items():
                if isinstance(value, (int, float)) and name != 'epoch' and not math.isnan(value):
                    self._tensorboard.add_scalar(name, value, step)
            if picture is not None:
                self._tensorboard.add_image('val', picture, step, dataformats='HWC')
            self._tensorboard.flush()
        return True

    def close(self) -> None:
        """Finish TensorBoard's file, and let others write here."""
        with self._opened:
            if self._tensorboard:
                with suppress(OSError):  # all that could be written is, since the last `plot`
                    self._tensorboard.close()

    def _named(self, directory: Path) -> str:
        """Return a name for TensorBoard, which takes UTF-8 only."""
        try:
            str(directory).encode()
        except UnicodeEncodeError:
            descriptor = os.open(directory, os.O_RDONLY)
            self._opened.callback(os.close, descriptor)
            return f'/proc/self/fd/{descriptor}'
        return str(directory)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    with _explained(path), whole_file(path) as partial:
        yield partial


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f'{path}: cannot be written: {error.strerror or first_line(error)}: make room, then '
            'the same command goes on from the last state saved') from error
