# SPDX-License-Identifier: Apache-2.0
"""Batches from worker processes: the right ones in order, and a clean end however it comes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from orchard import RECIPE
from torch import Tensor

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.layouts import DataSet, open_data_set
from lednet_ros.training import augmentation, loading
from lednet_ros.training.distributed import Processes
from lednet_ros.training.loading import Schedule, load_batches
from lednet_ros.training.recipe import Recipe


def schedule(workers: int, epochs: int = 3, **knobs: object) -> Schedule:
    given = {name: value for name, value in yaml.safe_load(RECIPE).items() if name != 'base'}
    recipe = Recipe.from_dict({**given, 'workers': workers, **knobs})
    return Schedule(8, recipe, epochs)


@pytest.fixture
def data(orchard) -> DataSet:
    return open_data_set(orchard, 'train')


@contextmanager
def limited(kind: int, soft: int):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.mark.parametrize('from_step', [0, 3])
@pytest.mark.parametrize('workers', [1, 2, 5])
def test_workers_change_nothing_but_the_time(data, workers, from_step) -> None:
    with load_batches(data, schedule(0), from_step, Processes()) as batches:
        wanted = list(batches)
    with load_batches(data, schedule(workers), from_step, Processes()) as batches:
        found = list(batches)
    assert len(found) == len(wanted) == 6 - from_step
    for (images, labels), (wanted_images, wanted_labels) in zip(found, wanted, strict=True):
        assert images.equal(wanted_images)
        assert labels.equal(wanted_labels)
    assert not multiprocessing.active_children()


def test_objects_are_pasted_from_other_images_by_the_seed(data, monkeypatch) -> None:
    monkeypatch.setattr(augmentation, '_SMALL', 0.9)  # all trunks are

    def labels_of(share: float) -> list[Tensor]:
        with load_batches(data, schedule(0, copy_paste=share), 0, Processes()) as batches:
            return [labels for _, labels in batches]

    plain, pasted, again = labels_of(0.0), labels_of(1.0), labels_of(1.0)
    assert all(a.equal(b) for a, b in zip(pasted, again, strict=True))
    differs = [(a != b).flatten(1).any(1) for a, b in zip(plain, pasted, strict=True)]
    assert any(d.any() for d in differs)


def test_batches_need_no_shared_memory_and_no_file_for_each(data) -> None:
    """Containers have 64 MB of /dev/shm; a limit on the size of files holds for it too."""
    plan = schedule(2, epochs=30)
    with load_batches(data, plan, 0, Processes()) as batches:
        open_files = len(os.listdir('/proc/self/fd'))
        with limited(resource.RLIMIT_FSIZE, 0), limited(resource.RLIMIT_NOFILE, open_files + 3):
            kept = list(batches)
    assert len(kept) == plan.steps


FAULTS = [
    (MemoryError('Unable to allocate 4 GiB'), r'there is too little memory \(MemoryError: Unable '
     r'to allocate 4 GiB\): lower workers or batch'),
    (OSError(errno.EMFILE, 'Too many open files'), r'too many files are open \(.*\): lower '
     'workers, or raise ulimit -n'),
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error: mend the disk or the'),
    (ValueError('two\nlines'), r'cannot be used \(ValueError: two, at test_loading.py:\d+\): '),
]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(('fault', 'said'), FAULTS, ids=['memory', 'files', 'disk', 'any'])
def test_whatever_a_worker_meets_is_one_line_that_names_the_image(
    data, monkeypatch, workers, fault, said
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(loading, 'augment', fail)
    with pytest.raises(DataError, match=rf'^\S+/images/train/\d\.png: {said}[^\n]*$'), \
            load_batches(data, schedule(workers), 0, Processes()) as batches:
        list(batches)
    assert not multiprocessing.active_children()


def test_what_opencv_says_of_memory_is_understood(data, monkeypatch) -> None:
    monkeypatch.setattr(loading, 'augment', lambda *_: cv2.resize(
        np.zeros((2, 2, 3), np.uint8), (600_000, 600_000)))
    with pytest.raises(DataError, match='there is too little memory'), \
            load_batches(data, schedule(1), 0, Processes()) as batches:
        next(batches)


def test_a_batch_that_cannot_be_sent_is_an_end_too(data, monkeypatch) -> None:
    """It is pickled after it is made."""
    monkeypatch.setattr(loading.Views, 'batch', lambda self, keys: sys.exit)
    monkeypatch.setattr(loading.Views, 'describe', lambda self, keys: 'these')
    monkeypatch.setattr(sys, 'exit', lambda: None)  # not what its name says any more
    with pytest.raises(DataError, match=r'^these: cannot be used .*(pickle|local object)'), \
            load_batches(data, schedule(1), 0, Processes()) as batches:
        next(batches)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGUSR1])  # nohup ignores SIGHUP
def test_a_worker_ended_while_it_sends_is_named_with_what_it_read(data, number) -> None:
    """A batch larger than a pipe is half sent until somebody reads it."""
    plan = schedule(1, crops=[[0.0, 512, 512]])
    workers = loading._Workers(loading.Views(data, plan))
    try:
        workers.start(plan.batches(0, Processes()))
        [(process, connection)] = workers._workers
        assert connection.poll(timeout=None)
        os.kill(process.pid, number)
        process.join()  # else it may send the rest while its end is read
        with pytest.raises(DataError, match=r'images/train/\d\.png and 3 more: the worker that '
                                            rf'read them was ended by {number.name}\b.*: '):
            next(workers.receive(plan.batches(0, Processes())))
    finally:
        workers.close()


def test_a_worker_that_cannot_be_started_is_named(data) -> None:
    with limited(resource.RLIMIT_NOFILE, len(os.listdir('/proc/self/fd')) + 3), \
            pytest.raises(DataError, match=r'worker \d+, which reads images, cannot be started '
                                           r'\(Too many open files\): lower workers'), \
            load_batches(data, schedule(8), 0, Processes()):
        pass
    assert not multiprocessing.active_children()


def test_workers_leave_signals_to_the_process_that_trains(data) -> None:
    with load_batches(data, schedule(2), 0, Processes()) as batches:
        next(batches)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)
        assert len(list(batches)) == 5


PLACES = f'{Path(__file__).parent}:{Path(__file__).parents[1]}'
ORPHANS = """
import multiprocessing, os, signal, sys
sys.path[:0] = sys.argv[1].split(':')
from test_loading import schedule
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.training.loading import load_batches
from lednet_ros.training.distributed import Processes
with load_batches(open_data_set(sys.argv[2], 'train'), schedule(3, epochs=10**6), 0,
                  Processes()) as batches:
    next(batches)
    if sys.argv[3] == 'an error':
        raise RuntimeError('a bug')
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize('end', ['SIGKILL', 'an error'])
def test_workers_end_with_the_process_that_trains(orchard, end) -> None:
    """They hold the other end of its standard output, which ends when the last of them does."""
    script = ORPHANS.replace('sys.argv[2]', '__import__("pathlib").Path(sys.argv[2])')
    process = subprocess.run(
        [sys.executable, '-c', script, PLACES, str(orchard), end],
        capture_output=True, text=True, check=False)
    assert process.returncode == (-signal.SIGKILL if end == 'SIGKILL' else 1)


def test_a_schedule_is_shared_among_processes(data) -> None:
    whole = list(schedule(0).batches(0, Processes()))
    parts = [list(schedule(0).batches(0, Processes(rank, 2))) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in whole]
    assert replace(schedule(0), images=3).batch == 3
