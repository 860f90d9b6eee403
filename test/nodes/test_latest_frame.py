# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import pytest

from lednet_ros.nodes.segment.latest_frame import LatestFrames


def test_the_newest_frame_of_each_camera_is_taken_once() -> None:
    frames: LatestFrames[int] = LatestFrames()
    assert frames.put('front', 1) is None
    assert frames.put('front', 2) == 1
    assert frames.put('left', 3) is None
    assert frames.take(0) == {'front': 2, 'left': 3}
    assert frames.take(0) == {}


class Watched(threading.Condition):
    """Says when a thread waits for it: only then can it be woken."""

    def __init__(self) -> None:
        super().__init__()
        self.is_waited_for = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.is_waited_for.set()  # and until it really waits, the lock is held
        return super().wait(timeout)


@pytest.fixture
def waiting(monkeypatch) -> Iterator[tuple[LatestFrames[int], queue.Queue[dict[str, int]]]]:
    """A mailbox that a thread waits at, without a time limit; and where it puts what it took."""
    frames: LatestFrames[int] = LatestFrames()
    changed = Watched()
    monkeypatch.setattr(frames, '_changed', changed)
    taken: queue.Queue[dict[str, int]] = queue.Queue()
    thread = threading.Thread(target=lambda: taken.put(frames.take()), daemon=True)
    thread.start()
    assert changed.is_waited_for.wait(60.0)
    yield frames, taken
    frames.close()
    thread.join(60.0)
    assert not thread.is_alive()


def test_a_frame_wakes_who_waits_for_one(waiting) -> None:
    frames, taken = waiting
    frames.put('front', 1)
    assert taken.get(timeout=60.0) == {'front': 1}


def test_closing_wakes_who_waits_for_a_frame(waiting) -> None:
    frames, taken = waiting
    assert frames.close() == {}
    assert taken.get(timeout=60.0) == {}


def test_closing_gives_what_was_never_taken_and_nothing_is_left_afterwards() -> None:
    frames: LatestFrames[int] = LatestFrames()
    frames.put('front', 1)
    assert frames.close() == {'front': 1}
    assert frames.put('front', 2) == 2
    assert frames.take() == frames.close() == {}


def test_every_frame_has_one_outcome_under_bursts_and_gaps() -> None:
    """put() returns exactly those that take() and close() never give."""
    frames: LatestFrames[int] = LatestFrames()
    taken: list[int] = []
    gone: list[int | None] = []

    def work() -> None:
        while not frames.closed:
            taken.extend(frames.take().values())

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(2000):
        gone.append(frames.put('front' if i % 3 else 'left', i))
        if i % 100 == 0:
            time.sleep(0.001)
    left = list(frames.close().values())
    thread.join(60.0)
    outcomes = [*taken, *left, *(frame for frame in gone if frame is not None)]
    assert sorted(outcomes) == list(range(2000))
