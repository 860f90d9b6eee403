# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint's path to a network that has run once, with all that can go wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np
import pytest

from lednet_ros.common.errors import BackendUnavailable, CheckpointError
from lednet_ros.model.checkpoint import default_checkpoint
from lednet_ros.segmentation import SegmenterConfig, loader
from lednet_ros.segmentation.engine_build import BuildState
from lednet_ros.segmentation.loader import NetworkLoader

AUTO = SegmenterConfig()
TENSORRT = SegmenterConfig(backend='tensorrt')


class Network:
    """Stands for a Segmenter."""

    input_size = (4, 6)

    def __init__(self, checkpoint: Any, config: SegmenterConfig) -> None:
        self.checkpoint, self.config = checkpoint, config
        self.thread = threading.current_thread()
        self.batches: list[list[np.ndarray]] = []
        self.is_closed = False
        made.append(self)

    def segment(self, frames: list[np.ndarray]) -> None:
        self.batches.append(frames)

    def close(self) -> None:
        self.is_closed = True


made: list[Network] = []


class Build:
    """Stands for a ChildBuild: it ends when it is told to, or cancelled."""

    def __init__(self) -> None:
        self.state = BuildState('building the engine')
        self._ended = threading.Event()
        self.waited_for = threading.Event()

    def end(self, error: str | None = None) -> None:
        self.state = BuildState(is_done=True, error=error)
        self._ended.set()

    def wait(self) -> BuildState:
        self.waited_for.set()
        assert self._ended.wait(60.0)
        return self.state

    def cancel(self) -> None:
        self.end('ended by signal 9')


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., NetworkLoader]]:
    """Make a loader of stand-ins; by default no engine is needed."""
    made.clear()
    executor = futures.ThreadPoolExecutor(1)

    def make(
        config: SegmenterConfig = AUTO, build: Any = None, network: Any = Network, **more: Any
    ) -> NetworkLoader:
        monkeypatch.setattr(loader, 'load_checkpoint', lambda path: f'read {path}')
        monkeypatch.setattr(loader, 'needed_build', build if callable(build) else (
            lambda checkpoint, config: build))
        monkeypatch.setattr(loader, 'Segmenter', network)
        return NetworkLoader(executor, 'net', config, **more)

    yield make
    executor.shutdown()


def test_the_network_is_made_of_the_checkpoint_and_runs_once_with_a_frame_of_each_camera(
    make
) -> None:
    network = make(frames=3).result()
    assert (network.checkpoint, network.config) == ('read net', AUTO)
    [batch] = network.batches
    assert [(frame.shape, frame.dtype) for frame in batch] == [((4, 6, 3), np.uint8)] * 3
    assert not network.is_closed


def test_the_checkpoint_is_read_once_and_all_happens_in_the_executor_s_thread(
    make, monkeypatch
) -> None:
    reads: list[threading.Thread] = []
    asked: list[Any] = []
    loading = make(build=lambda checkpoint, config: asked.append(checkpoint))
    loading.result()
    monkeypatch.setattr(loader, 'load_checkpoint', lambda path: reads.append(
        threading.current_thread()))
    with futures.ThreadPoolExecutor(1) as executor:
        network = NetworkLoader(executor, 'net', AUTO).result()
    assert reads == [network.thread]
    assert asked == ['read net', None]


def test_waiting_ends_with_the_job_and_somebody_is_told(make) -> None:
    told = threading.Event()
    go_on = threading.Event()
    loading = make(build=lambda *_: go_on.wait(60.0) and None, on_done=told.set)
    assert not loading.wait(0.0)
    assert not told.is_set()
    go_on.set()
    assert loading.wait(60.0)
    assert told.wait(60.0)


def test_a_checkpoint_that_cannot_be_read_is_the_result(tmp_path) -> None:
    with futures.ThreadPoolExecutor(1) as executor:
        loading = NetworkLoader(executor, tmp_path / 'no.safetensors', AUTO)
        with pytest.raises(CheckpointError, match='cannot be read'):
            loading.result()
    assert loading.wait(0.0)


def test_a_network_that_does_not_run_is_given_back(make) -> None:
    class Broken(Network):
        def segment(self, frames: list[np.ndarray]) -> None:
            raise RuntimeError('no room')

    with pytest.raises(RuntimeError, match='no room'):
        make(network=Broken).result()
    assert [network.is_closed for network in made] == [True]


def test_while_an_engine_is_built_its_state_is_told_and_then_the_network_is_made(make) -> None:
    build = Build()
    loading = make(build=build)
    assert build.waited_for.wait(60.0)
    assert loading.build == build.state
    assert not loading.wait(0.0)
    assert made == []
    build.end()
    assert loading.result().config == AUTO
    assert loading.build is None


def test_an_engine_that_cannot_be_built_is_an_error_when_asked_for_by_name(make) -> None:
    build = Build()
    build.end('tensorrt: no room')
    with pytest.raises(BackendUnavailable, match=r'^tensorrt: no room$'):
        make(TENSORRT, build).result()
    assert made == []


def test_an_engine_that_cannot_be_built_costs_speed_when_nothing_was_asked_for(
    make, caplog
) -> None:
    build = Build()
    build.end('tensorrt: no room')
    with caplog.at_level(logging.WARNING):
        assert make(AUTO, build).result().config.no_tensorrt == 'tensorrt: no room'
    assert 'tensorrt: no room: going on without TensorRT, slower' in caplog.messages


def test_cancelled_while_an_engine_is_built_the_build_ends_and_no_network_is_made(make) -> None:
    build = Build()
    loading = make(AUTO, build)
    assert build.waited_for.wait(60.0)
    loading.cancel()
    assert loading.wait(60.0)
    assert build.state.is_done
    assert made == []


def test_a_build_that_begins_as_loading_is_cancelled_ends_at_once(make) -> None:
    build, asked, go_on = Build(), threading.Event(), threading.Event()

    def needed_build(*_: Any) -> Build:
        asked.set()
        assert go_on.wait(60.0)  # as long as an import takes
        return build

    loading = make(build=needed_build)
    assert asked.wait(60.0)
    loading.cancel()
    go_on.set()
    assert loading.wait(60.0)
    assert build.state.is_done
    assert made == []


def test_a_network_that_is_made_though_loading_was_cancelled_is_given_back(make) -> None:
    go_on = threading.Event()

    class Slow(Network):
        def segment(self, frames: list[np.ndarray]) -> None:
            assert go_on.wait(60.0)

    loading = make(network=Slow)
    while not made:
        assert not loading.wait(0.001)
    loading.cancel()
    go_on.set()
    assert loading.wait(60.0)
    assert made[0].is_closed


@pytest.mark.parametrize('frames', [1, 2])
def test_the_shipped_checkpoint_is_loaded_for_real(frames) -> None:
    config = SegmenterConfig(backend='torch', device='cpu', input_height=32, input_width=48)
    with futures.ThreadPoolExecutor(1) as executor, NetworkLoader(
            executor, default_checkpoint(), config, frames).result() as segmenter:
        assert segmenter.input_size == (32, 48)
        assert segmenter.backend == 'torch cpu fp32 (asked for)'
