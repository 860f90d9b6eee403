# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lednet_ros.nodes.shared.waiting import HELD, WaitingLine


class Rig:
    """A line whose items are done when `ready` says so, or when they may wait no longer."""

    def __init__(self) -> None:
        self.clocks = [100.0, 5.0]  # the wall's and the node's
        self.line: WaitingLine[int] = WaitingLine(lambda: self.clocks)
        self.ready: set[int] = set()
        self.done: list[tuple[int, bool]] = []

    def work(self) -> list[tuple[int, bool]]:
        """Return what is done now: items, and whether they were ready."""
        self.done = []
        self.line.work(self._handle)
        return self.done

    def _handle(self, item: int, may_wait: bool) -> bool:
        if item in self.ready or not may_wait:
            self.done.append((item, item in self.ready))
        return item in self.ready


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_ready_goes_at_once_and_the_rest_waits_in_order(rig) -> None:
    for item in (1, 2, 3):
        rig.line.put(item, 0.2)
    rig.ready = {1, 3}
    assert rig.work() == [(1, True)]
    rig.ready |= {2}
    assert rig.work() == [(2, True), (3, True)]
    assert not rig.line


def test_one_gives_up_when_its_time_is_up_by_both_clocks(rig) -> None:
    rig.line.put(1, 0.2)
    rig.clocks = [101.0, 5.1]  # simulated time goes slowly
    assert rig.work() == []
    rig.clocks = [101.0, 5.3]
    assert rig.work() == [(1, False)]


def test_fast_simulated_time_cuts_no_wait_short(rig) -> None:
    rig.line.put(1, 0.2)
    rig.clocks = [100.1, 50.0]
    assert rig.work() == []
    rig.clocks = [100.3, 50.0]
    assert rig.work() == [(1, False)]


def test_without_patience_nothing_waits(rig) -> None:
    rig.line.put(1, 0.0)
    assert rig.work() == [(1, False)]


def test_the_newest_win_where_many_wait(rig) -> None:
    gone = []
    for item in range(HELD + 5):
        rig.line.put(item, 10.0)
        gone += rig.work()
        assert len(rig.line) <= HELD
    assert gone == [(item, False) for item in range(5)]


def test_what_waits_can_be_forgotten_and_is_counted(rig) -> None:
    rig.line.put(1, 10.0)
    rig.line.put(2, 10.0)
    assert rig.line.clear() == 2
    rig.ready = {1, 2}
    assert rig.work() == []
