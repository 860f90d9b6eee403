# SPDX-License-Identifier: Apache-2.0
"""Which backend runs, why, and what is said where the one asked for cannot."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lednet_ros.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.errors import BackendUnavailable
from lednet_ros.segmentation import Segmenter, SegmenterConfig, backends
from lednet_ros.segmentation.backends.torch import TorchBackend, device_health
from lednet_ros.segmentation.config import BACKENDS

SMALL = {'input_height': 32, 'input_width': 32}


class Stub:
    """Stands for a backend and keeps what it was made with."""

    def __init__(self, name: str, error: str | None = None) -> None:
        self.name, self._error = name, error

    def __call__(self, checkpoint: Any, config: SegmenterConfig, reason: str) -> 'Stub':
        if self._error:
            raise BackendUnavailable(self._error)
        self.reason = reason
        return self


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give the choice on a machine with or without CUDA, and where some backends fail."""
    def choose(config: SegmenterConfig, cuda: bool, **errors: Any) -> Any:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: int(cuda))
        monkeypatch.setattr(backends, '_load', lambda name: Stub(name, errors.get(name)))
        return backends.make_backend(None, config)
    return choose


@pytest.mark.parametrize(('device', 'cuda', 'errors', 'name', 'reason'), [
    ('auto', True, {}, 'tensorrt', 'a CUDA GPU and torch_tensorrt are there'),
    ('cuda:0', True, {}, 'tensorrt', 'a CUDA GPU and torch_tensorrt are there'),
    ('auto', True, {'tensorrt': 'no such library'}, 'torch', 'a CUDA GPU, but no such library'),
    ('auto', False, {}, 'onnxruntime', 'no CUDA GPU'),
    ('cpu', True, {}, 'onnxruntime', 'device is cpu'),
    ('auto', False, {'onnxruntime': 'no such library'}, 'torch',
     'no CUDA GPU, and no such library'),
], ids=['CUDA', 'this GPU', 'no TensorRT', 'no CUDA', 'CPU asked for', 'no ONNX Runtime'])
def test_auto_takes_the_fastest_there_is(
    choose: Callable[..., Any], caplog: pytest.LogCaptureFixture, device: str, cuda: bool,
    errors: Any, name: str, reason: str
) -> None:
    with caplog.at_level(logging.INFO):
        backend = choose(SegmenterConfig(device=device), cuda, **errors)
    assert (backend.name, backend.reason) == (name, reason)
    assert sum(f'backend {name}: {reason}' in line for line in caplog.messages) == 1
    assert all(error in caplog.text for error in errors.values())


def test_auto_on_a_gpu_that_is_not_there_is_an_error(choose: Callable[..., Any]) -> None:
    with pytest.raises(BackendUnavailable, match='cuda:0'):
        choose(SegmenterConfig(device='cuda:0'), cuda=False)


@pytest.mark.parametrize('name', [name for name in BACKENDS if name != 'auto'])
def test_a_backend_asked_for_is_never_substituted(choose: Callable[..., Any], name: str) -> None:
    assert choose(SegmenterConfig(backend=name), True).reason == 'asked for'
    with pytest.raises(BackendUnavailable, match='broken'):
        choose(SegmenterConfig(backend=name), True, **{name: 'broken'})


def test_without_onnxruntime_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(BackendUnavailable, match='pip install onnxruntime onnx'):
        Segmenter(config=SegmenterConfig(backend='onnxruntime', **SMALL))


def test_without_onnxruntime_auto_takes_torch_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with Segmenter(config=SegmenterConfig(device='cpu', **SMALL)) as segmenter:
        assert segmenter.backend.startswith('torch cpu fp32 (device is cpu, and backend onnx')
    assert 'pip install onnxruntime onnx' in caplog.text


def test_every_name_has_a_backend() -> None:
    assert set(BACKENDS) == {'auto', *backends._LOCATIONS}
    for name in backends._LOCATIONS:
        assert callable(backends._load(name))


def test_the_health_of_a_gpu_is_told_and_a_lost_one_ends_no_report(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's answers are made up: there is no GPU here."""
    assert device_health('cpu') == {}
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (3e9, 8e9))
    monkeypatch.setattr(torch.cuda, 'temperature', lambda device: 61)
    assert device_health('cuda:0') == {
        'gpu_used_mb': 5000.0, 'gpu_total_mb': 8000.0, 'gpu_temperature_c': 61.0}

    def lost(device: str) -> None:
        raise RuntimeError('CUDA error: device is lost')

    monkeypatch.setattr(torch.cuda, 'temperature', lost)
    assert device_health('cuda:0') == {'gpu_used_mb': 5000.0, 'gpu_total_mb': 8000.0}
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lost)
    assert device_health('cuda:0') == {}


def test_what_torch_runs_on_a_gpu_in_fp32_is_fp32() -> None:
    """By what cuDNN is told; there is no GPU here to see it."""
    told = []
    backend = TorchBackend(
        load_checkpoint(default_checkpoint()), SegmenterConfig(device='cpu', **SMALL))
    backend._graphs[False] = lambda pixels: told.append(torch.backends.cudnn.allow_tf32)
    backend._program(False)(torch.zeros(1))
    assert told == [False]
