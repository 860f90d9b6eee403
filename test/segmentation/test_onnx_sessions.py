# SPDX-License-Identifier: Apache-2.0
"""Sessions of as many threads as cores are free."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from lednet_ros.common.free_cores import FreeCores
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.segmentation.backends.onnx_sessions import OnnxSessions
from lednet_ros.segmentation.backends.onnx_writer import build_onnx_model
from lednet_ros.segmentation.backends.onnxruntime import (
    OnnxSession,
    import_onnxruntime,
    session_options,
)


class Told(FreeCores):
    """Free cores as a test says; None once it says no more."""

    def __init__(self, *answers: float | None) -> None:
        self._answers: Iterator[float | None] = iter(answers)

    def count(self, window_s: float) -> float | None:
        return next(self._answers, None)


def chosen(most: int, *answers: float | None) -> list[int]:
    """The threads of the session chosen after each answer, once it is made."""
    sessions = OnnxSessions(lambda threads: threads, most, Told(*answers))
    found = []
    for _ in answers:
        sessions.choose()
        if sessions._coming:
            sessions._coming[1].result()
            sessions._receive(*sessions._coming)
        found.append(sessions._made[sessions._threads])
    sessions.close()
    return found


@pytest.mark.parametrize(('answers', 'threads'), [
    ([2.0, 2.0], [2, 2]),
    ([1.0, 1.1, None, 2.0, 1.9], [2, 1, 1, 1, 2]),
    ([1.0, 2.0, 1.0, 2.0], [2, 2, 2, 2]),          # never twice the same
    ([0.2, 0.2, 0.4], [2, 1, 1]),
], ids=['free', 'there and back', 'now and then', 'hardly any'])
def test_threads_follow_free_cores_that_stay_for_two_looks(answers, threads) -> None:
    assert chosen(2, *answers) == threads


def test_only_the_session_of_all_threads_and_the_last_are_kept() -> None:
    sessions = OnnxSessions(lambda threads: threads, 4, Told(3.0, 3.0, None, 1.0, 1.0))
    for _ in range(5):
        sessions.choose()
        if sessions._coming:
            sessions._coming[1].result()
    assert sessions.choose() == 1
    assert set(sessions._made) == {4, 1}
    sessions.close()


def test_frames_go_on_while_another_session_is_made() -> None:
    go_on = threading.Event()

    def make(threads: int) -> int:
        assert threads == 2 or go_on.wait(60)
        return threads

    sessions = OnnxSessions(make, 2, Told(1.0, 1.0))
    assert [sessions.choose() for _ in range(5)] == [2] * 5
    go_on.set()
    assert sessions._coming
    sessions._coming[1].result()
    assert sessions.choose() == 1
    sessions.close()


def test_without_memory_for_another_session_it_goes_on_and_says_so(caplog) -> None:
    def make(threads: int) -> int:
        if threads == 1:
            raise MemoryError('no room')
        return threads

    sessions = OnnxSessions(make, 2, Told(1.0, 1.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert sessions.choose() == 2
            if sessions._coming:
                sessions._coming[1].exception()
        assert [sessions.choose() for _ in range(3)] == [2] * 3
    assert caplog.messages == [
        'onnxruntime: no session of 1 threads could be made (no room): going on with 2']
    sessions.close()


def test_scores_are_the_same_bit_by_bit_with_any_number_of_threads() -> None:
    runtime = import_onnxruntime()
    model = build_onnx_model(load_checkpoint(default_checkpoint()), 120, 160)
    frame = np.random.default_rng(0).integers(0, 256, (1, 120, 160, 3), np.uint8)
    one, *others = (OnnxSession(runtime, model, session_options(runtime, n)).run(frame)
                    for n in (1, 2, 3))
    assert all((one == other).all() for other in others)
