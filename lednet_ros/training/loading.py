# SPDX-License-Identifier: Apache-2.0
"""Batches for the loop, read ahead by worker processes; each a function of seed and step."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from lednet_ros.errors import DataError, first_line
from lednet_ros.training.augmentation import augment
from lednet_ros.training.datasets import DataSet
from lednet_ros.training.processes import Processes
from lednet_ros.training.recipe import Recipe

Key = tuple[int, int]  # epoch, index of the pair


@dataclass(frozen=True)
class Schedule:
    """Which images a step sees: the same for any number of processes, and after a resume."""

    images: int
    recipe: Recipe
    epochs: int

    @property
    def batch(self) -> int:
        """Images in a step, of all processes together."""
        return min(self.recipe.batch, self.images)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; a rest smaller than a batch is left out."""
        return self.images // self.batch

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.steps_per_epoch

    def batches(self, from_step: int, processes: Processes) -> Iterator[list[Key]]:
        """Give this process's part of each batch from a step on."""
        first, skipped = divmod(from_step, self.steps_per_epoch)
        for epoch in range(first, self.epochs):
            order = np.random.default_rng([self.recipe.seed, epoch]).permutation(self.images)
            for i in range(skipped, self.steps_per_epoch):
                batch = order[i * self.batch:(i + 1) * self.batch]
                yield [(epoch, int(k)) for k in batch[processes.rank::processes.count]]
            skipped = 0


class AugmentedPairs(Dataset[tuple[Tensor, Tensor] | DataError]):
    """Views of a data set's pairs: image uint8 (H, W, 3) RGB, labels uint8 (H, W)."""

    def __init__(self, data: DataSet, schedule: Schedule) -> None:
        self._data = data
        self._schedule = schedule

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor] | DataError:
        epoch, index = key
        recipe = self._schedule.recipe
        rng = np.random.default_rng([recipe.seed, epoch, index])
        crop = recipe.crop_at(epoch / self._schedule.epochs)
        try:
            image, labels = augment(*self._data.read(index), recipe, crop, rng)
        except DataError as error:
            return error  # raised, it would come with the worker's traceback in its text
        return torch.from_numpy(image), torch.from_numpy(labels)


def load_batches(
    data: DataSet, schedule: Schedule, from_step: int, processes: Processes
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Give images, uint8 (N, H, W, 3) RGB, and labels, uint8 (N, H, W), step by step.

    Raises DataError naming a file that cannot be read any more. Close it, else the workers of one
    that an error's traceback holds keep Python from ending.
    """
    workers = schedule.recipe.workers
    if workers < 0:
        workers = min(8, len(os.sched_getaffinity(0)))
    loader = DataLoader(
        AugmentedPairs(data, schedule),
        batch_sampler=_Batches(schedule, from_step, processes), collate_fn=_together,
        num_workers=workers, worker_init_fn=_quiet_worker, pin_memory=torch.cuda.is_available())
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


@contextmanager
def ended_workers_named() -> Iterator[None]:
    """Turn what PyTorch raises when a worker was killed, anywhere in a step, into DataError."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith('DataLoader worker'):
            raise
        raise DataError(f'a worker that reads images was ended ({first_line(error)}): lower '
                        'workers, or give the container more --shm-size') from error


@dataclass(frozen=True)
class _Batches:
    """What a DataLoader iterates over; as a list it took 0.8 GB for the paper's epochs."""

    schedule: Schedule
    from_step: int
    processes: Processes

    def __iter__(self) -> Iterator[list[Key]]:
        return self.schedule.batches(self.from_step, self.processes)


def _together(views: list[tuple[Tensor, Tensor] | DataError]) -> Any:
    for view in views:
        if isinstance(view, DataError):
            return view
    return default_collate(views)


def _quiet_worker(_: int) -> None:
    """Leave signals, which a terminal sends to all, to the process that trains."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
