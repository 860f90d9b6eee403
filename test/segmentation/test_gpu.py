# SPDX-License-Identifier: Apache-2.0
"""What only a CUDA GPU can show; `make test-gpu` runs it. Nothing here measures speed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends.torch import TorchBackend
from lednet_ros.segmentation.engine_build import ChildBuild
from lednet_ros.segmentation.self_check import make_frames, self_check

pytestmark = [
    pytest.mark.gpu, pytest.mark.timeout(1800),  # an engine takes minutes on a Jetson
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU')]

HEIGHT, WIDTH = 360, 480
GPU = torch.device('cuda:0')


@pytest.fixture(scope='module')
def checkpoint() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that each engine is built once."""
    return tmp_path_factory.mktemp('engines')


def config_of(backend: str, cache_dir: Path, **others: Any) -> SegmenterConfig:
    return SegmenterConfig(
        backend=backend, device='cuda:0', engine_cache_dir=str(cache_dir), **others)


@pytest.fixture(params=['tensorrt fp16', 'tensorrt fp32', 'torch fp16', 'torch fp32'])
def backend(
    request: pytest.FixtureRequest, checkpoint: Checkpoint, cache_dir: Path
) -> Iterator[Any]:
    name, precision = request.param.split()
    if name == 'tensorrt':
        config = config_of(name, cache_dir, precision=precision)
        try:
            tensorrt.engine_key(checkpoint, config, False)
        except BackendUnavailable as error:
            pytest.skip(str(error))
        made: Any = tensorrt.TensorRTBackend(checkpoint, config)
    else:
        made = TorchBackend(checkpoint, config_of(name, cache_dir, precision=precision))
    yield made
    made.close()


def test_the_backend_says_what_the_network_says(backend: Any, checkpoint: Checkpoint) -> None:
    found = self_check(
        checkpoint, lambda frames: [backend.run(frames, False).labels], HEIGHT, WIDTH, 2)
    assert found.refusal is None
    assert found.agreement > 0.995


def test_replays_do_not_depend_on_what_ran_before(backend: Any) -> None:
    """Batch sizes and variants take turns."""
    frames = make_frames(3, HEIGHT, WIDTH)
    first = {(n, c): backend.run(frames[:n], c) for n in (1, 2, 3) for c in (False, True)}
    for (n, confidence), expected in list(first.items())[::-1] * 3:
        again = backend.run(frames[:n], confidence)
        np.testing.assert_array_equal(again.labels, expected.labels)
        if confidence:
            np.testing.assert_array_equal(again.confidence, expected.confidence)
    np.testing.assert_array_equal(first[2, False].labels[0], first[1, False].labels[0])


def test_what_one_thread_loaded_another_runs(backend: Any) -> None:
    """As whoever uses a Segmenter may. The fixture has loaded it in this one."""
    frames = make_frames(1, HEIGHT, WIDTH)
    expected = backend.run(frames, False).labels  # captured here
    with ThreadPoolExecutor(1) as other:
        again = other.submit(backend.run, frames, False).result()
        new = other.submit(backend.run, frames, True).result()  # captured there
    np.testing.assert_array_equal(again.labels, expected)
    assert (new.labels == expected).mean() > 0.995
    np.testing.assert_array_equal(backend.run(frames, True).labels, new.labels)


def test_the_program_is_replayed_from_a_cuda_graph(backend: Any) -> None:
    backend.run(make_frames(1, HEIGHT, WIDTH), False)
    captured = backend._runner._captured[False]
    assert captured.graph is not None
    assert all(output.dtype == torch.uint8 for output in captured.outputs)
    assert all(host.is_pinned() for host in backend._runner._host.values())


def test_confidence_is_there_on_demand(backend: Any) -> None:
    frames = make_frames(1, HEIGHT, WIDTH)
    assert backend.run(frames, False).confidence is None
    confidence = backend.run(frames, True).confidence
    assert confidence.shape == (1, HEIGHT, WIDTH)
    assert confidence.dtype == np.uint8
    assert confidence.max() > 128


def test_timings_are_positive_and_memory_does_not_grow(backend: Any) -> None:
    frames = make_frames(2, HEIGHT, WIDTH)
    backend.run(frames, False)
    before = torch.cuda.memory_allocated(GPU)
    for _ in range(50):
        result = backend.run(frames, False)
        assert result.inference_ms > 0
    assert torch.cuda.memory_allocated(GPU) == before


@pytest.mark.parametrize('backend_name', ['tensorrt', 'torch'])
def test_camera_frames_of_any_size_are_segmented_as_on_the_cpu(
    backend_name: str, checkpoint: Checkpoint, cache_dir: Path
) -> None:
    """The GPU fits frames itself, within one grey level of the CPU."""
    frames = [np.ascontiguousarray(make_frames(1, *size)[0][..., ::-1])
              for size in ((720, 960), (1080, 1920), (HEIGHT, WIDTH), (200, 300))]
    try:
        with Segmenter(checkpoint, config_of(backend_name, cache_dir)) as on_gpu:
            found = on_gpu.segment(frames)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    with Segmenter(checkpoint, SegmenterConfig(backend='torch', device='cpu')) as on_cpu:
        expected = on_cpu.segment(frames)
    for one, other in zip(found, expected, strict=True):
        assert one.labels.shape == other.labels.shape
        assert (one.labels == other.labels).mean() > 0.97


def test_a_child_builds_what_this_process_then_loads(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    config = config_of('tensorrt', tmp_path)
    try:
        assert not tensorrt.is_built(checkpoint, config, False)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    state = ChildBuild(None, config).wait(timeout_s=1500)
    assert state.error is None
    assert state.result is not None
    assert 'agrees with torch fp32' in state.result
    assert tensorrt.is_built(checkpoint, config, False)
    backend = tensorrt.TensorRTBackend(checkpoint, config)
    assert backend.self_check.agreement >= 0.99
    backend.close()


def test_exhausted_memory_is_said_with_sizes_and_the_backend_lives_on(
    checkpoint: Checkpoint, cache_dir: Path
) -> None:
    backend = TorchBackend(checkpoint, config_of('torch', cache_dir, precision='fp32'))
    _, total = torch.cuda.mem_get_info(GPU)
    allowed = torch.cuda.memory_reserved(GPU) + (64 << 20)
    torch.cuda.set_per_process_memory_fraction(allowed / total, GPU)
    try:
        with pytest.raises(OutOfMemory, match=r'MiB are free'):
            backend.run(np.zeros((200, HEIGHT, WIDTH, 3), np.uint8), True)  # 100 MB of frames
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert backend.run(make_frames(1, HEIGHT, WIDTH), False).labels.shape == (1, HEIGHT, WIDTH)
    backend.close()
