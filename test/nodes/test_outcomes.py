# SPDX-License-Identifier: Apache-2.0
"""Every image that reaches the callback has exactly one outcome, whatever fails on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from test_ground_node import image as ground_image
from test_ground_node import make_info as ground_info
from test_ground_node import street
from test_segment_node import make_image

from lednet_ros.nodes.ground.ground_node import GroundNode
from lednet_ros.nodes.segment import camera_io, segment_node
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.segment.diagnostics import CAUSES, CameraCounts
from lednet_ros.nodes.segment.inference_worker import InferenceWorker
from lednet_ros.nodes.segment.segment_node import SegmentNode
from lednet_ros.nodes.shared.ros_start import init


class Network:
    """Stands for a Segmenter: holds a batch until it is let go."""

    def __init__(self) -> None:
        self.at_it, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def segment(self, frames: list[np.ndarray], **_: Any) -> list[Any]:
        self.at_it.set()
        assert self.go_on.wait(60.0)
        return [SimpleNamespace(labels=np.zeros(frame.shape[:2], np.uint8), confidence=None,
                                timings={}) for frame in frames]

    def colorize(self, labels: np.ndarray) -> np.ndarray:
        return labels

    def close(self) -> None:
        pass


class Rig:
    """An active node in this process, with a camera whose label images are listened to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.network = Network()
        self.node = SegmentNode()
        self.camera = Camera(self.node, 'front', 'raw')
        self.camera.open()
        self.node._cameras = [self.camera]
        self.node._worker = InferenceWorker(
            self.node._network, self.network, [self.camera],  # type: ignore[arg-type]
            self.node._publish, self.node._latency, dict, lambda: not self.node.context.ok())
        monkeypatch.setattr(Camera, 'wanted', lambda camera: {'label'})
        assert self.node.on_activate(ANY_STATE) == TransitionCallbackReturn.SUCCESS

    def send(self) -> None:
        self.node._on_image(self.camera, make_image())

    def send_and_hold(self) -> None:
        """Send an image that stays in the network."""
        self.network.go_on.clear()
        self.send()
        assert self.network.at_it.wait(60.0)

    def counts(self) -> CameraCounts:
        """Let the network go on until each image has an outcome; return the outcomes."""
        self.network.go_on.set()
        until_s = time.monotonic() + 60.0
        while True:
            counts = self.camera.stats.counts
            outcomes = counts.segmented + counts.dropped + counts.rejected
            if counts.received == outcomes:
                return counts
            assert outcomes < counts.received
            assert time.monotonic() < until_s, counts
            time.sleep(0.005)

    def close(self) -> None:
        self.network.go_on.set()
        self.node.stop()
        self.node.destroy_node()
        rclpy.try_shutdown()


ANY_STATE: Any = None


@pytest.fixture
def rig(graph, monkeypatch) -> Iterator[Rig]:
    rig = Rig(monkeypatch)
    yield rig
    rig.close()


def fail(*_: Any, **__: Any) -> Any:
    raise AttributeError('newbyteorder\nof a long story')


def dropped(**causes: int) -> dict[str, int]:
    return {**dict.fromkeys(CAUSES, 0), **causes}


@pytest.mark.parametrize('name', ['decode', 'size_and_encoding'])
def test_an_image_over_which_something_unexpected_is_raised_is_rejected(
    rig, monkeypatch, name
) -> None:
    """OpenCV, Pillow and numpy have exceptions of their own for hostile messages."""
    monkeypatch.setattr(camera_io, name, fail)
    rig.send()
    counts = rig.counts()
    assert counts.rejected == 1
    assert counts.last_rejection == 'AttributeError: newbyteorder'


def test_what_cannot_be_published_is_rejected(rig, monkeypatch) -> None:
    monkeypatch.setattr(Camera, 'publish', fail)
    rig.send()
    assert rig.counts().last_rejection == 'publishing failed: AttributeError: newbyteorder'


def test_what_comes_sooner_than_the_rate_allows_is_dropped_for_that(rig, monkeypatch) -> None:
    monkeypatch.setattr(rig.node, 'parameter', lambda name: {
        'max_rate_hz': 0.001}.get(name, 0.0))
    rig.send_and_hold()
    for _ in range(3):  # the first of them makes up for the time before
        rig.send()
    counts = rig.counts()
    assert (counts.segmented, counts.dropped_by_cause) == (2, dropped(rate_limit=2))


def test_what_comes_after_deactivation_is_dropped_for_that(rig) -> None:
    assert rig.node.on_deactivate(ANY_STATE) == TransitionCallbackReturn.SUCCESS
    rig.send()
    assert rig.counts().dropped_by_cause == dropped(deactivated=1)


def test_what_is_in_the_network_when_the_process_ends_has_an_outcome_too(rig) -> None:
    rig.send_and_hold()
    rclpy.shutdown()
    assert rig.counts().dropped_by_cause == dropped(abandoned=1)


def test_a_network_that_hangs_is_named_when_it_is_to_be_given_back_and_later_it_is(
    rig, monkeypatch
) -> None:
    monkeypatch.setattr(segment_node, 'STOP_WITHIN_S', 0.01)
    monkeypatch.setattr(segment_node, 'CLEAN_UP_WITHIN_S', 0.01)
    rig.send_and_hold()
    rig.node.on_deactivate(ANY_STATE)
    assert rig.node.on_cleanup(ANY_STATE) == TransitionCallbackReturn.FAILURE
    assert 'the network hangs' in rig.node._problem
    assert rig.counts().dropped_by_cause == dropped(abandoned=1)
    assert rig.node.on_cleanup(ANY_STATE) == TransitionCallbackReturn.SUCCESS
    assert rig.node._problem == ''


def test_a_node_that_cannot_listen_says_so_and_can_be_activated_again(rig, monkeypatch) -> None:
    rig.node.on_deactivate(ANY_STATE)
    with monkeypatch.context() as patch:
        patch.setattr(Camera, 'listen', fail)
        assert rig.node.on_activate(ANY_STATE) == TransitionCallbackReturn.FAILURE
    assert rig.node._problem == 'AttributeError: newbyteorder'
    assert rig.node.on_activate(ANY_STATE) == TransitionCallbackReturn.SUCCESS
    rig.send()
    assert rig.counts().segmented == 1


@pytest.fixture
def ground(graph, monkeypatch) -> Iterator[GroundNode]:
    """A ground node in this process, whose points are listened to."""
    init(['--ros-args', '-p', 'camera.height:=1.0', '-p', 'pose_source:=parameters'])
    node = GroundNode()
    node.start()
    monkeypatch.setattr(node._outputs, 'wanted', lambda: ['points'])
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def take(node: GroundNode, stamp: int, *names: str, encoding: str = 'mono8') -> dict[str, int]:
    """Let what belongs to an image arrive; return what became of all label images."""
    for name in names:
        node._on_input(node._cameras[0], name, ground_info(stamp) if name == 'camera_info' else (
            ground_image(street(), stamp, encoding)))
    counts = node._rounds.outcomes()
    assert counts['dropped'] == sum(
        count for name, count in counts.items() if name.startswith('dropped_'))
    return {name: count for name, count in counts.items() if count}


def test_each_label_image_of_the_ground_node_has_one_outcome(ground, monkeypatch) -> None:
    assert take(ground, 1, 'camera_info', 'label') == {'received': 1, 'projected': 1}
    assert take(ground, 2, 'label') == {'received': 2, 'projected': 1}  # one waits
    counts = take(ground, 3, 'label', 'camera_info')
    assert counts == {'received': 3, 'projected': 2, 'dropped': 1, 'dropped_unmatched': 1}
    take(ground, 4, 'label', 'camera_info', encoding='bgr8')
    monkeypatch.setattr(ground._ground, 'look', fail)
    assert take(ground, 5, 'label', 'camera_info') == {**counts, 'received': 5, 'rejected': 2}
    monkeypatch.setattr(ground._outputs, 'wanted', lambda: [])
    counts = take(ground, 6, 'label', 'camera_info')
    assert (counts['received'], counts['dropped_unheard']) == (6, 1)
    assert counts['received'] == sum(
        counts[name] for name in ('projected', 'rejected', 'dropped'))
