# SPDX-License-Identifier: Apache-2.0
"""How many cores other processes leave free."""

from __future__ import annotations

import math
import multiprocessing
import time

import pytest

from lednet_ros.common import free_cores
from lednet_ros.common.free_cores import FreeCores, FreeThreads


def cores(*clocks: tuple[float, float, float] | None, window_s: float = 1.0) -> list[float | None]:
    """What is answered at each of these clocks but the first."""
    now = clocks[0]
    free = FreeCores(lambda: now, lambda: math.inf if now is None else now[0])
    found = []
    for now in clocks[1:]:  # noqa: B007  (the functions above look at it)
        found.append(free.count(window_s))
    return found


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


class Told(FreeCores):
    """Free cores as a test says."""

    def __init__(self, *answers: float | None) -> None:
        self._answers = iter(answers)

    def count(self, window_s: float) -> float | None:
        return next(self._answers)


@pytest.mark.parametrize(('looks', 'answers', 'threads'), [
    (1, [0.0, 0.3, 1.0, 1.4, None, 1.6, 3.4, 3.6, 4.0, 9.0], [1, 1, 1, 1, 1, 2, 3, 4, 4, 4]),
    (2, [1.0, None, 1.2, 3.0, 1.0, 3.0, None, 3.0], [4, 4, 1, 1, 1, 1, 1, 3]),
], ids=['at once', 'twice the same'])
def test_each_thread_has_a_core_at_least_half_of_the_time(looks, answers, threads) -> None:
    free = FreeThreads(4, looks, Told(*answers))
    assert free.count == 4
    assert [free.look() for _ in answers] == threads


def burn() -> None:
    while True:
        pass


def test_the_work_of_workers_is_our_own() -> None:
    before = free_cores._clocks()
    assert before is not None
    worker = multiprocessing.get_context('fork').Process(target=burn, daemon=True)
    worker.start()
    try:
        while (now := free_cores._clocks()) is not None and now[2] - before[2] < 0.3:
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.join()
    assert now is not None
    assert now[0] > before[0]
    assert now[1] >= before[1]


def test_the_systems_clocks_are_read_once_in_a_window() -> None:
    read: list[int] = []
    free = FreeCores(lambda: read.append(1) or (0.0, 0.0, 0.0), lambda: 0.5)
    assert [free.count(1.0) for _ in range(9)] == [None] * 9
    assert len(read) == 1, 'at the beginning'
