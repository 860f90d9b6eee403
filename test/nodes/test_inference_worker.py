# SPDX-License-Identifier: Apache-2.0
"""Every decoded image has exactly one outcome, whatever fails on its way. Without ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lednet_ros.images.encodings import Frame
from lednet_ros.nodes.segment.diagnostics import CAUSES, CameraCounts, CameraStats
from lednet_ros.nodes.segment.inference_worker import InferenceWorker, QueuedFrame, stages_ms
from lednet_ros.nodes.shared.latency import STAGES, TOTAL, Latency

PIXELS = np.ones((4, 6, 3), np.uint8)


def segmentation(frame: np.ndarray) -> Any:
    return SimpleNamespace(labels=np.zeros(frame.shape[:2], np.uint8), confidence=None,
                           timings={'preprocess': 1.0, 'inference': 2.0, 'postprocess': 3.0})


class Network:
    """Stands for a Segmenter: holds a batch until it is let go, then does as it is told."""

    def __init__(self) -> None:
        self.at_it, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.asked: list[dict[str, Any]] = []
        self.threads: list[threading.Thread] = []
        self.segment_so: Callable[[list[np.ndarray]], list[Any]] = lambda frames: [
            segmentation(frame) for frame in frames]

    def segment(self, frames: list[np.ndarray], **how: Any) -> list[Any]:
        self.asked.append(how)
        self.threads.append(threading.current_thread())
        self.at_it.set()
        assert self.go_on.wait(60.0)
        return self.segment_so(frames)

    def close(self) -> None:
        self.threads.append(threading.current_thread())


class Camera:
    """Stands for a camera whose labels are listened to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stats = CameraStats()
        self.outputs = {'label'}
        self.logged: list[str] = []

    def wanted(self) -> set[str]:
        return self.outputs

    def log_rejection(self, problem: str) -> None:
        self.logged.append(problem)


class Rig:
    """A worker that is started, with two cameras."""

    def __init__(self) -> None:
        self.network = Network()
        self.cameras = {name: Camera(name) for name in ('front', 'left')}
        self.published: list[tuple[str, int, set[str]]] = []
        self.publish_so: Callable[[str], None] = lambda name: None
        self.is_ending = False
        self.latency = Latency()
        self._executor = futures.ThreadPoolExecutor(1)
        self.worker = InferenceWorker(
            self._executor, self.network, list(self.cameras.values()),  # type: ignore[arg-type]
            self._publish, self.latency, lambda: {'min_confidence': 0.25},
            lambda: self.is_ending)
        self.worker.start()
        self._sent = 0

    def send(self, name: str = 'front') -> None:
        """Let an image arrive; its header is its number."""
        self._sent += 1
        now_s = time.monotonic()
        self.cameras[name].stats.received(now_s)
        self.worker.submit(name, QueuedFrame(Frame(PIXELS, True), self._sent, now_s, now_s, 5.0))

    def send_and_hold(self) -> None:
        """Send an image that stays in the network."""
        self.network.go_on.clear()
        self.network.at_it.clear()
        self.send()
        assert self.network.at_it.wait(60.0)

    def counts(self, name: str = 'front') -> CameraCounts:
        """Let the network go on until each image has an outcome; return the outcomes."""
        self.network.go_on.set()
        until_s = time.monotonic() + 60.0
        while True:
            counts = self.cameras[name].stats.counts
            outcomes = counts.segmented + counts.dropped + counts.rejected
            if counts.received == outcomes:
                return counts
            assert outcomes < counts.received
            assert time.monotonic() < until_s, counts
            time.sleep(0.001)

    def close(self) -> None:
        self.network.go_on.set()
        assert self.worker.stop(60.0)
        self._executor.shutdown()

    def _publish(self, name: str, queued: QueuedFrame, seen: Any, outputs: set[str]) -> None:
        self.publish_so(name)
        self.published.append((name, queued.header, outputs))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def fail(*_: Any, **__: Any) -> Any:
    raise AttributeError('newbyteorder\nof a long story')


def dropped(**causes: int) -> dict[str, int]:
    return {**dict.fromkeys(CAUSES, 0), **causes}


def test_a_frame_is_segmented_and_published_with_its_header_for_whoever_listens(rig) -> None:
    rig.send()
    assert rig.counts().segmented == 1
    assert rig.worker.stop(60.0)
    assert rig.published == [('front', 1, {'label'})]
    assert rig.network.asked == [{'rgb': [True], 'confidence': False, 'min_confidence': 0.25}]


def test_confidence_is_computed_when_one_of_a_batch_s_cameras_has_a_listener_for_it(rig) -> None:
    rig.cameras['left'].outputs = {'confidence'}
    rig.send_and_hold()
    for name in ('front', 'left'):
        rig.send(name)
    assert rig.counts('left').segmented == 1
    assert [how['confidence'] for how in rig.network.asked] == [False, True]


def test_the_network_runs_and_is_closed_in_the_executor_s_one_thread(rig) -> None:
    rig.send()
    rig.counts()
    assert rig.worker.stop(60.0)
    rig.worker.close()
    assert len(rig.network.threads) == 2
    assert len({*rig.network.threads, threading.current_thread()}) == 2


def test_an_image_that_the_network_fails_on_is_rejected_and_the_next_is_not(rig) -> None:
    works, rig.network.segment_so = rig.network.segment_so, fail
    rig.send()
    counts = rig.counts()
    assert counts.rejected == 1
    assert counts.last_rejection == 'segmenting failed: AttributeError: newbyteorder'
    assert rig.cameras['front'].logged == [counts.last_rejection]
    assert rig.worker.problem == 'AttributeError: newbyteorder'
    rig.network.segment_so = works
    rig.send()
    assert rig.counts().segmented == 1
    assert rig.worker.problem == ''


def test_a_network_that_gives_too_few_label_images_has_failed(rig) -> None:
    rig.network.segment_so = lambda frames: []
    rig.send()
    assert rig.counts().last_rejection == (
        'segmenting failed: RuntimeError: 0 label images for 1 frames')


def test_what_cannot_be_published_is_rejected_and_costs_other_cameras_nothing(rig) -> None:
    rig.publish_so = lambda name: fail() if name == 'front' else None
    rig.send_and_hold()
    for name in ('front', 'left'):  # one batch
        rig.send(name)
    front = rig.counts('front')
    assert front.rejected == 2
    assert rig.counts('left').segmented == 1
    assert front.last_rejection == 'publishing failed: AttributeError: newbyteorder'
    assert rig.worker.problem == ''


def test_what_a_newer_image_takes_the_place_of_is_dropped_for_that(rig) -> None:
    rig.send_and_hold()
    for _ in range(3):
        rig.send()
    rig.send('left')
    counts = rig.counts()
    assert (counts.segmented, counts.dropped_by_cause) == (2, dropped(newer=2))
    assert rig.counts('left').dropped == 0
    assert [header for name, header, _ in rig.published if name == 'front'] == [1, 4]


def test_what_waits_as_the_worker_stops_is_dropped_and_the_frame_in_the_making_is_not(rig) -> None:
    rig.send_and_hold()
    rig.send()
    threading.Timer(0.05, rig.network.go_on.set).start()
    assert rig.worker.stop(60.0)
    counts = rig.counts()
    assert (counts.segmented, counts.dropped_by_cause) == (1, dropped(deactivated=1))


def test_what_comes_after_the_worker_stopped_is_dropped_for_that(rig) -> None:
    assert rig.worker.stop(60.0)
    rig.send()
    assert rig.counts().dropped_by_cause == dropped(deactivated=1)


@pytest.mark.parametrize('fails', [False, True])
def test_what_is_in_the_network_for_too_long_after_the_stop_is_not_published(rig, fails) -> None:
    rig.send_and_hold()
    assert not rig.worker.stop(0.01)
    assert not rig.worker.wait(0.0)
    if fails:
        rig.network.segment_so = fail
    counts = rig.counts()
    assert rig.published == []
    assert (counts.dropped_by_cause, counts.rejected) == (
        (dropped(), 1) if fails else (dropped(abandoned=1), 0))


def test_a_frame_from_before_a_stop_is_not_published_after_the_next_start(rig) -> None:
    rig.send_and_hold()
    assert not rig.worker.stop(0.01)
    rig.worker.start()
    rig.send()
    counts = rig.counts()
    assert (counts.segmented, counts.dropped_by_cause) == (1, dropped(abandoned=1))
    assert [header for _, header, _ in rig.published] == [2]


def test_what_fails_while_the_process_ends_is_dropped_and_not_logged(rig) -> None:
    rig.is_ending = True
    rig.publish_so = fail
    rig.send()
    assert rig.counts().dropped_by_cause == dropped(abandoned=1)
    assert rig.cameras['front'].logged == []


def test_stages_are_noted_of_frames_that_went_out(rig) -> None:
    rig.send()
    rig.counts()
    assert rig.worker.stop(60.0)
    assert rig.worker.segmented_s is not None
    quantiles = rig.latency.quantiles(rig.worker.segmented_s)
    assert set(quantiles) == {*STAGES, TOTAL} - {'projection'}
    assert (quantiles['preprocess'].p50, quantiles['inference'].max) == (1.0, 2.0)


def test_the_stages_of_a_frame_account_for_its_total() -> None:
    queued = QueuedFrame(Frame(PIXELS, True), None, received_s=10.0, decoded_s=10.002,
                         transport_ms=5.0)
    timings = {'preprocess': 10.0, 'inference': 20.0, 'postprocess': 10.0}
    stages = stages_ms(queued, timings, began_s=10.010, labelled_s=10.050, published_s=10.053)
    assert stages == pytest.approx({
        'transport': 5.0, 'decode': 2.0, 'queue': 8.0, **timings, 'publish': 3.0, 'total': 58.0})
    assert sum(stages.get(stage, 0.0) for stage in STAGES) == pytest.approx(stages[TOTAL])


def test_a_frame_whose_stamp_tells_no_age_has_no_total() -> None:
    queued = QueuedFrame(Frame(PIXELS, True), None, 10.0, 10.002, None)
    stages = stages_ms(queued, {}, 10.010, 10.050, 10.053)
    assert not {'transport', TOTAL} & set(stages)
