# SPDX-License-Identifier: Apache-2.0
"""What the TensorRT backend does around the engine, with a stand-in for torch_tensorrt.

The stand-in "compiles" to the graph itself, which runs on the CPU.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lednet_ros.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.errors import BackendUnavailable, OutOfMemory
from lednet_ros.segmentation import SegmenterConfig
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends.cache import EngineKey
from lednet_ros.segmentation.backends.torch import make_graph
from lednet_ros.segmentation.self_check import make_frames

CPU = torch.device('cpu')
HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope='module')
def checkpoint() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


class TorchTensorRT:
    """Stands in for torch_tensorrt. `built` counts; `wrong` says which loads go wrong."""

    __version__ = '2.13.0'

    def __init__(self) -> None:
        self.built = 0
        self.wrong: list[bool] = []
        self.raises: Exception | None = None
        self.dynamo = SimpleNamespace(compile=self._compile)

    def Input(self, **_: Any) -> None: ...  # noqa: N802

    def _compile(
        self, exported: Any, *, arg_inputs: Any, device: Any, require_full_compilation: bool,
        min_block_size: int, disable_tf32: bool, timing_cache_path: str
    ) -> Any:
        if self.raises:
            raise self.raises
        self.built += 1
        return exported

    def save(self, module: Any, file: Any, *, arg_inputs: Any, dynamic_shapes: Any) -> None:
        torch.save(module, file)

    def load(self, file: Any) -> Any:
        right = torch.load(file, weights_only=False)
        if self.wrong and self.wrong.pop(0):
            return SimpleNamespace(module=lambda: lambda pixels: right(255 - pixels))
        return SimpleNamespace(module=lambda: right)


@pytest.fixture
def torch_tensorrt(
    stand_ins: None, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> TorchTensorRT:
    stand_in = TorchTensorRT()

    def key(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> EngineKey:
        return EngineKey('tensorrt', checkpoint.sha256, 1, HEIGHT, WIDTH, config.max_batch, 'fp32',
                         confidence, 'stand-in', ())

    monkeypatch.setattr(tensorrt, 'import_torch_tensorrt', lambda: stand_in)
    monkeypatch.setattr(tensorrt, 'engine_key', key)
    monkeypatch.setattr(tensorrt, 'export', lambda graph, *_: graph)
    monkeypatch.setattr(tensorrt, 'choose_device', lambda _: CPU)
    return stand_in


def make_backend(checkpoint: Checkpoint, directory: Path, **config: Any) -> Any:
    return tensorrt.TensorRTBackend(
        checkpoint, SegmenterConfig(backend='tensorrt', engine_cache_dir=str(directory), **config))


def names_in(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.iterdir() if path.suffix != '.lock')


def test_an_engine_is_built_once_then_loaded_and_checked_each_time(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    for _ in range(2):
        backend = make_backend(checkpoint, tmp_path)
        assert backend.self_check.agreement == 1.0
        assert backend.name == 'tensorrt cpu fp32'
        backend.close()
    assert torch_tensorrt.built == 1
    assert names_in(tmp_path) == ['.engine']
    assert tensorrt.is_built(
        checkpoint, SegmenterConfig(engine_cache_dir=str(tmp_path)), confidence=False)


def test_more_frames_than_the_engine_takes_at_once_go_in_parts(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    frames = make_frames(5, HEIGHT, WIDTH)
    graph = make_graph(checkpoint, True, CPU, 'fp32')
    with torch.no_grad():  # in the same parts: the last digits depend on the batch
        parts = [graph(part) for part in torch.from_numpy(frames).split(2)]
    expected = [torch.cat(outputs) for outputs in zip(*parts, strict=True)]
    result = make_backend(checkpoint, tmp_path, max_batch=2).run(frames, confidence=True)
    np.testing.assert_array_equal(result.labels, expected[0].numpy())
    np.testing.assert_allclose(result.confidence, expected[1].numpy(), atol=1)


def test_confidence_is_an_engine_of_its_own_made_when_first_asked_for(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    backend = make_backend(checkpoint, tmp_path)
    frames = make_frames(1, HEIGHT, WIDTH)
    assert backend.run(frames, confidence=False).confidence is None
    assert torch_tensorrt.built == 1
    assert backend.run(frames, confidence=True).confidence is not None
    assert torch_tensorrt.built == 2


def test_a_kept_engine_that_says_something_else_is_set_aside_and_rebuilt(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path,
    caplog: pytest.LogCaptureFixture
) -> None:
    make_backend(checkpoint, tmp_path)
    torch_tensorrt.wrong = [True]
    backend = make_backend(checkpoint, tmp_path)
    assert backend.self_check.agreement == 1.0
    assert torch_tensorrt.built == 2
    assert names_in(tmp_path) == ['.bad', '.engine']
    assert any('the self-check failed' in r.getMessage() and r.levelname == 'WARNING'
               for r in caplog.records)


def test_a_new_engine_that_says_something_else_is_refused_and_not_kept(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    torch_tensorrt.wrong = [True]
    with pytest.raises(BackendUnavailable, match='the self-check failed') as error:
        make_backend(checkpoint, tmp_path)
    assert 'at least 99% are needed' in str(error.value)
    assert 'choose backend' in str(error.value)
    assert names_in(tmp_path) == []


def test_a_build_that_fails_is_one_line_with_the_remedy(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    torch_tensorrt.raises = AssertionError('require_full_compilation=True was specified\nmore')
    with pytest.raises(BackendUnavailable) as error:
        make_backend(checkpoint, tmp_path)
    text = str(error.value)
    assert 'the engine of 96x64 pixels and a batch of 1 cannot be built' in text
    assert 'require_full_compilation=True was specified' in text
    assert 'choose backend' in text
    assert '\n' not in text


def test_memory_that_runs_out_while_building_is_said_with_sizes(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path
) -> None:
    torch_tensorrt.raises = torch.cuda.OutOfMemoryError('CUDA out of memory')
    with pytest.raises(OutOfMemory, match=r'engine of 96x64 pixels.*100 of 8192 MiB are free'):
        make_backend(checkpoint, tmp_path)


@pytest.mark.parametrize(('says', 'error', 'match'), [
    ('[defaultAllocator.cpp] Error Code 1: Cuda Runtime (out of memory)', OutOfMemory, ''),
    ('CUDA error: out of memory', OutOfMemory, ''),
    ('CUDA error: unspecified launch failure\nCUDA kernel errors might', BackendUnavailable,
     r'the GPU failed \(CUDA error: unspec.*\): look'),
], ids=['memory', 'memory by CUDA', 'failure'])
def test_what_goes_wrong_with_the_gpu_while_loading_is_no_fault_of_the_file(
    checkpoint: Checkpoint, torch_tensorrt: TorchTensorRT, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, says: str, error: type[Exception], match: str
) -> None:
    make_backend(checkpoint, tmp_path)

    def load(file: Any) -> Any:
        raise RuntimeError(says)

    monkeypatch.setattr(torch_tensorrt, 'load', load)
    with pytest.raises(error, match=match):
        make_backend(checkpoint, tmp_path)
    assert names_in(tmp_path) == ['.engine']
