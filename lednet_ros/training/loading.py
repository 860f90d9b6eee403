# SPDX-License-Identifier: Apache-2.0
"""Batches for the loop, read ahead by worker processes; each a function of seed and step."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

import cv2
import numpy as np
import torch
from torch import Tensor

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import DataError
from lednet_ros.datasets.faults import faults_named
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.training.augmentation import augment, paste_objects
from lednet_ros.training.distributed import Processes
from lednet_ros.training.recipe import Recipe

Key = tuple[int, int]  # epoch, index of the pair
Batch = tuple[np.ndarray, np.ndarray]  # images uint8 (N, H, W, 3) RGB, labels uint8 (N, H, W)

_AHEAD = 2  # batches received before they are asked for: no step waits for the copying


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
        """Yield this process's part of each batch from a step on."""
        first, skipped = divmod(from_step, self.steps_per_epoch)
        for epoch in range(first, self.epochs):
            order = np.random.default_rng([self.recipe.seed, epoch]).permutation(self.images)
            for i in range(skipped, self.steps_per_epoch):
                batch = order[i * self.batch:(i + 1) * self.batch]
                yield [(epoch, int(k)) for k in batch[processes.rank::processes.count]]
            skipped = 0


class Views:
    """Batches of a data set's pairs as the network sees them: a function of seed and step."""

    def __init__(self, data: DataSet, schedule: Schedule) -> None:
        self._data = data
        self._schedule = schedule

    def batch(self, keys: list[Key]) -> Batch:
        """
        Return a batch.

        Raise DataError naming a pair that cannot be read any more, or what there is too little
        of. Whatever else is raised is a bug.
        """
        with faults_named(self.describe(keys)):
            views = [self._view(*key) for key in keys]
            return np.stack([v[0] for v in views]), np.stack([v[1] for v in views])

    def _view(self, epoch: int, index: int) -> Batch:
        recipe = self._schedule.recipe
        rng = np.random.default_rng([recipe.seed, epoch, index])
        crop = recipe.crop_at(epoch / self._schedule.epochs)
        view = self._augmented(index, crop, rng)
        if recipe.copy_paste and rng.random() < recipe.copy_paste:
            other = self._augmented(int(rng.integers(len(self._data))), crop, rng)
            if other[0].shape == view[0].shape:  # without crops, images may differ in size
                return paste_objects(*view, *other, rng)
        return view

    def _augmented(
        self, index: int, crop: tuple[int, int] | None, rng: np.random.Generator,
    ) -> Batch:
        with faults_named(str(self._data.pairs[index].image)):
            return augment(*self._data.read(index), self._schedule.recipe, crop, rng)

    def describe(self, keys: list[Key]) -> str:
        """Return which images a batch holds, for people."""
        first = self._data.pairs[keys[0][1]].image
        return f'{first} and {len(keys) - 1} more' if len(keys) > 1 else str(first)


@contextmanager
def load_batches(
    data: DataSet, schedule: Schedule, from_step: int, processes: Processes
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """
    Yield an iterator over images, uint8 (N, H, W, 3) RGB, and labels, uint8 (N, H, W), by step.

    It raises DataError for a pair that cannot be read any more, and for a worker that has ended.
    The workers are gone when the block is left, however that comes.
    """
    views = Views(data, schedule)
    count = schedule.recipe.workers
    if count < 0:
        count = min(8, usable_cores())
    if not count:
        yield map(_to_tensors, map(views.batch, schedule.batches(from_step, processes)))
        return
    workers = _Workers(views)
    try:
        for first in range(count):
            workers.start(islice(schedule.batches(from_step, processes), first, None, count))
        yield map(_to_tensors, workers.receive(schedule.batches(from_step, processes)))
    finally:
        workers.close()


class _Workers:
    """
    Processes that make batches in turn, each sending its own through a pipe.

    Not torch's DataLoader: that keeps batches in /dev/shm, of which containers have little, needs
    file descriptors for each, and waits for ever for one that its worker could not send. A pipe
    ends with the process at its other end, even in the middle of a batch.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._workers: list[tuple[ForkProcess, Connection]] = []
        self._receiver = ThreadPoolExecutor(1)

    def start(self, batches: Iterator[list[Key]]) -> None:
        """Start one more, which makes these. Raise DataError."""
        context = multiprocessing.get_context('fork')  # at once, with all that is there
        ours: list[Connection] = [connection for _, connection in self._workers]
        try:
            receiving, sending = context.Pipe(duplex=False)
            ours.append(receiving)
            with sending:  # closed here, the worker's end alone is left, and its death is seen
                process = context.Process(
                    target=_serve, args=(self._views, batches, sending, ours), daemon=True)
                # A terminal sends them to all; the process that trains decides when to end.
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except OSError as error:
            raise DataError(
                f'worker {len(self._workers) + 1}, which reads images, cannot be started '
                f'({error.strerror}): lower workers') from error
        self._workers.append((process, receiving))

    def receive(self, batches: Iterator[list[Key]]) -> Iterator[Batch]:
        """Yield batch after batch, received ahead: no step waits for the copying."""
        waiting: deque[Future[Batch]] = deque()
        for keys, worker in zip(batches, cycle(self._workers)):
            waiting.append(self._receiver.submit(self._receive, *worker, keys))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _receive(self, process: ForkProcess, connection: Connection, keys: list[Key]) -> Batch:
        try:
            batch: Batch | DataError = connection.recv()
        except (EOFError, OSError) as error:
            process.join()
            raise DataError(
                f'{self._views.describe(keys)}: the worker that read them was ended by '
                f'{_cause(process.exitcode)}') from error
        if isinstance(batch, DataError):
            raise batch
        return batch

    def close(self) -> None:
        """End all."""
        for process, _ in self._workers:  # before all else, so that nothing waits for them
            process.kill()
        self._receiver.shutdown(cancel_futures=True)
        for process, connection in self._workers:
            process.join()
            connection.close()


def _serve(
    views: Views, batches: Iterator[list[Key]], sending: Connection, inherited: list[Connection]
) -> None:
    """Make and send batches, in a process of its own, until whoever reads them is gone."""
    for connection in inherited:  # else this process would keep its own pipe's reader alive
        connection.close()
    cv2.setNumThreads(0)
    with suppress(OSError):
        for keys in batches:
            try:
                with faults_named(views.describe(keys)):
                    sending.send(views.batch(keys))
            except DataError as error:
                sending.send(error)  # as a value: a traceback would come with it otherwise
                return


def _to_tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    images, labels = (torch.from_numpy(array) for array in batch)
    if torch.cuda.is_available():
        return images.pin_memory(), labels.pin_memory()
    return images, labels


def _cause(exit_code: int | None) -> str:
    """Return what ended a process, and what to do."""
    if exit_code == -signal.SIGKILL:
        return ('SIGKILL, as Linux does where memory runs out: lower workers, or batch, or give '
                'the computer or the container more memory')
    name = signal.Signals(-exit_code).name if exit_code and exit_code < 0 else 'an error'
    return f'{name}: take them out one by one to find the one that does it'
