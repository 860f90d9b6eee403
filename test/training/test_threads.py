# SPDX-License-Identifier: Apache-2.0
"""A thread for each core that others leave free."""

from __future__ import annotations

import csv
import multiprocessing
import os
import time

import pytest
import torch

from lednet_ros.cli.train import main
from lednet_ros.training import threads
from lednet_ros.training.threads import FreeCores, Threads, are_given, threads_for


def cores(*clocks: tuple[float, float, float] | None, window_s: float = 1.0) -> list[float | None]:
    """What is answered at each of these clocks but the first."""
    left = iter(clocks)
    free = FreeCores(lambda: next(left))
    return [free.count(window_s) for _ in clocks[1:]]


@pytest.mark.parametrize(('clocks', 'found'), [
    ([(0, 0, 0), (2, 4, 0)], [2.0]),                             # all of two cores idle
    ([(0, 0, 0), (2, 0, 4)], [2.0]),                             # all ours
    ([(0, 0, 0), (2, 1, 1)], [1.0]),                             # others have one
    ([(0, 5, 7), (2, 5, 7.5)], [0.25]),                          # a share of one
    ([(0, 0, 0), (0.9, 1.8, 0), (1.8, 1.8, 1.8)], [None, 2.0]),  # not yet; over both
    ([(0, 0, 9), (1, 1, 1)], [1.0]),                             # a worker has ended
    ([None, (1, 1, 1)], [None]), ([(0, 0, 0), None, (2, 4, 0)], [None, 2.0]),
], ids=['idle', 'ours', 'shared', 'busy', 'too early', 'ended', 'untold', 'untold once'])
def test_free_cores_are_those_idle_and_our_own(clocks, found) -> None:
    assert cores(*clocks) == found


def test_each_thread_has_a_core_at_least_half_of_the_time() -> None:
    assert [threads_for(free, 4) for free in (0.0, 0.3, 1.0, 1.4, 1.6, 3.4, 3.6, 4.0, 9.0)] == [
        1, 1, 1, 1, 2, 3, 4, 4, 4]


def burn() -> None:
    while True:
        pass


def test_the_work_of_workers_is_our_own() -> None:
    before = threads._clocks()
    assert before is not None
    worker = multiprocessing.get_context('fork').Process(target=burn, daemon=True)
    worker.start()
    try:
        while (now := threads._clocks()) is not None and now[2] - before[2] < 0.3:
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.join()
    assert now is not None
    assert now[0] > before[0]
    assert now[1] >= before[1]


@pytest.mark.parametrize(('environment', 'quota', 'given'), [
    ({}, 8, False), ({'OMP_NUM_THREADS': ''}, 8, False), ({'OMP_NUM_THREADS': '3'}, 8, True),
    ({'OMP_NUM_THREADS': '8'}, 8, True), ({'MKL_NUM_THREADS': '3'}, 8, True),
    ({'OMP_NUM_THREADS': '2'}, 2, False), ({'OMP_NUM_THREADS': '1'}, 2, True),
])
def test_what_the_user_says_stays_and_what_a_quota_says_does_not(
    monkeypatch, environment, quota, given
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    monkeypatch.setattr(threads, 'usable_cores', lambda: quota)
    assert are_given(environment) is given


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(threads, 'usable_cores', lambda: 4)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(4)))
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures('four_threads')
def test_threads_follow_the_free_cores_there_and_back(monkeypatch) -> None:
    answers = iter([None, 0.4, 2.0, None, 4.0])
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: next(answers))
    found = Threads(torch.device('cpu'))
    assert [found.follow() for _ in range(4)] == [1, 2, 2, 4]
    assert Threads(torch.device('cuda')).follow() == 4


@pytest.mark.usefixtures('four_threads')
def test_training_beside_others_takes_one_thread_and_says_so(
    orchard, recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: 0.4)
    assert main(['--recipe', str(recipe_file(epochs=1)), '--data', str(orchard), '--output',
                 str(tmp_path / 'out'), '--device', 'cpu']) == 0
    assert torch.get_num_threads() == 4, 'as before'
    with (tmp_path / 'out' / 'history.csv').open() as file:
        [row] = csv.DictReader(file)
    assert float(row['threads']) == 1.0
    assert ' waiting for data, 1 threads' in capsys.readouterr().out
