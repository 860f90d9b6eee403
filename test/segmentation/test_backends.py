# SPDX-License-Identifier: Apache-2.0
"""Which backend runs, why, and what is said where the one asked for cannot."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.segmentation import Segmenter, SegmenterConfig, devices
from lednet_ros.segmentation.backends import registry
from lednet_ros.segmentation.backends import torch as backends_torch
from lednet_ros.segmentation.backends.base import BackendInfo
from lednet_ros.segmentation.backends.registry import CHOICES, BackendSpec
from lednet_ros.segmentation.backends.torch import TorchBackend
from lednet_ros.segmentation.devices import device_health
from lednet_ros.segmentation.self_check import make_frames

SMALL = {'input_height': 32, 'input_width': 32}


class Stub:
    """Stands for a backend, keeps what it was made with, and fails where it is told to."""

    def __init__(self, name: str, errors: dict[str, Exception]) -> None:
        self.name, self._errors = name, errors

    def __call__(self, checkpoint: Any, config: SegmenterConfig, reason: str) -> 'Stub':
        self.name += ' cpu' if config.device == 'cpu' else ''
        if self.name in self._errors:
            raise self._errors[self.name]
        self.reason = reason
        self.info = BackendInfo(self.name, config.device, 'fp32', reason)
        return self


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return the choice on a machine with or without CUDA, and where some backends fail."""
    def choose(
        config: SegmenterConfig, cuda: bool, errors: dict[str, Exception] | None = None
    ) -> Any:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: int(cuda))
        monkeypatch.setattr(BackendSpec, 'load', lambda spec: Stub(spec.module, errors or {}))
        return registry.make_backend(None, config)
    return choose


NONE = BackendUnavailable('no such library')
FULL = OutOfMemory('the GPU is full')


@pytest.mark.parametrize(('config', 'cuda', 'errors', 'name', 'reason'), [
    ({}, True, {}, 'tensorrt', 'a CUDA GPU and torch_tensorrt are there'),
    ({'device': 'cuda:0'}, True, {}, 'tensorrt', 'a CUDA GPU and torch_tensorrt are there'),
    ({}, True, {'tensorrt': NONE}, 'torch', 'a CUDA GPU, but no such library'),
    ({'no_tensorrt': 'no engine'}, True, {}, 'torch', 'a CUDA GPU, but no engine'),
    ({}, True, {'tensorrt': NONE, 'torch': FULL}, 'onnxruntime cpu',
     'a CUDA GPU, but no such library, and the GPU is full'),
    ({'no_tensorrt': 'no engine'}, True, {'torch': FULL, 'onnxruntime cpu': NONE}, 'torch cpu',
     'a CUDA GPU, but no engine, and the GPU is full, and no such library'),
    ({}, True, {'tensorrt': NONE, 'torch': NONE}, 'onnxruntime cpu',
     'a CUDA GPU, but no such library'),
    ({}, False, {}, 'onnxruntime cpu', 'no CUDA GPU'),
    ({'device': 'cpu'}, True, {}, 'onnxruntime cpu', 'device is cpu'),
    ({}, False, {'onnxruntime cpu': NONE}, 'torch cpu', 'no CUDA GPU, and no such library'),
], ids=['CUDA', 'this GPU', 'no TensorRT', 'no engine', 'a full GPU', 'nor ONNX Runtime',
        'one reason', 'no CUDA', 'CPU asked for', 'no ONNX Runtime'])
def test_auto_takes_the_fastest_there_is(
    choose: Callable[..., Any], caplog: pytest.LogCaptureFixture, config: dict[str, Any],
    cuda: bool, errors: dict[str, Exception], name: str, reason: str
) -> None:
    with caplog.at_level(logging.INFO):
        backend = choose(SegmenterConfig(**config), cuda, errors)
    assert (backend.name, backend.reason) == (name, reason)
    said = f'backend {backend.info.name}: {reason}'
    assert sum(said in line for line in caplog.messages) == 1
    assert all(str(error) in caplog.text for error in errors.values())


@pytest.mark.parametrize('config', [{'device': 'cuda:0'}, {'precision': 'fp16'}], ids=str)
def test_auto_stays_on_the_gpu_where_that_is_asked_for(
    choose: Callable[..., Any], config: dict[str, Any]
) -> None:
    with pytest.raises(OutOfMemory, match='the GPU is full'):
        choose(SegmenterConfig(**config), True, {'tensorrt': NONE, 'torch': FULL})


def test_why_a_gpu_cannot_be_used_is_the_reason(
    choose: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.glob, 'glob', lambda pattern: ['/dev/nvidia0'])
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    why = 'an NVIDIA GPU, but its driver does not fit CUDA 13.0'
    assert choose(SegmenterConfig(), False).reason.startswith(why)
    with pytest.raises(BackendUnavailable, match=f'device cuda:0: {why}'):
        choose(SegmenterConfig(device='cuda:0'), False)


@pytest.mark.parametrize('name', [*registry.BACKENDS])
def test_a_backend_asked_for_is_never_substituted(choose: Callable[..., Any], name: str) -> None:
    assert choose(SegmenterConfig(backend=name), True).reason == 'asked for'
    with pytest.raises(BackendUnavailable, match='broken'):
        choose(SegmenterConfig(backend=name), True, {name: BackendUnavailable('broken')})


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
    assert set(CHOICES) == {'auto', *registry.BACKENDS}
    for spec in registry.BACKENDS.values():
        assert callable(spec.load())


def test_the_health_of_a_gpu_is_told_and_a_lost_one_ends_no_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    monkeypatch.setattr(devices, 'THERMAL', tmp_path)
    assert device_health('cuda:0') == {'gpu_used_mb': 5000.0, 'gpu_total_mb': 8000.0}
    for number, (kind, temperature) in enumerate(
            [('cpu-thermal', '50000'), ('gpu-thermal', '47125'), ('soc0-thermal', '')]):
        zone = tmp_path / f'thermal_zone{number}'  # as on a Jetson, which has no NVML for it
        zone.mkdir()
        (zone / 'type').write_text(kind + '\n')
        (zone / 'temp').write_text(temperature + '\n')
    assert device_health('cuda:0')['gpu_temperature_c'] == 47.125
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


@pytest.fixture
def gpu(stand_ins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, on which fp16 is what a CPU makes of it."""
    monkeypatch.setattr(backends_torch, 'choose_device', lambda device: torch.device('cpu'))
    for part in (backends_torch, devices):
        monkeypatch.setattr(part, 'is_gpu', lambda device: True)


def start_torch(checkpoint: Checkpoint, precision: str = 'auto') -> TorchBackend:
    return TorchBackend(checkpoint, SegmenterConfig(precision=precision, **SMALL))


@pytest.mark.usefixtures('gpu')
def test_fp16_on_a_gpu_is_checked_through_its_cuda_graph() -> None:
    backend = start_torch(load_checkpoint(default_checkpoint()))
    assert backend.info.name == 'torch cpu fp16'
    assert backend.self_check is not None
    assert backend.self_check.agreement > 0.99
    assert backend._runner is not None
    assert backend._runner._captured[False].graph is not None


@pytest.mark.usefixtures('gpu')
def test_where_fp16_overflows_fp32_runs_and_says_so(
    overflowing: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    backend = start_torch(overflowing)
    assert backend.info.name == 'torch cpu fp32'
    warnings = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 1
    assert 'torch cpu fp16: the self-check failed' in warnings[0]
    assert 'going on in fp32' in warnings[0]
    frames = make_frames(1, 32, 32)
    expected = TorchBackend(overflowing, SegmenterConfig(precision='fp32', **SMALL))
    assert (backend.run(frames, False).labels == expected.run(frames, False).labels).all()


@pytest.mark.usefixtures('gpu')
def test_fp16_asked_for_by_name_is_refused_where_it_overflows(overflowing: Checkpoint) -> None:
    with pytest.raises(BackendUnavailable, match=r'the self-check failed.*choose precision auto'):
        start_torch(overflowing, 'fp16')


@pytest.mark.usefixtures('gpu')
@pytest.mark.parametrize('precision', ['fp16', 'fp32'])
@pytest.mark.parametrize('where', ['Stream', 'CUDAGraph', 'get_arch_list'])
@pytest.mark.parametrize(('raised', 'expected'), [
    (RuntimeError('CUDA error: no kernel image is available'), BackendUnavailable),
    (RuntimeError('CUDA error: out of memory'), OutOfMemory),
    (AssertionError(), BackendUnavailable)], ids=repr)
def test_whatever_goes_wrong_on_a_gpu_at_the_start_lets_auto_go_on(
    monkeypatch: pytest.MonkeyPatch, precision: str, where: str, raised: Exception,
    expected: type[Exception]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr(torch.cuda, where, fail)
    with pytest.raises(expected) as error:
        start_torch(load_checkpoint(default_checkpoint()), precision)
    assert '\n' not in str(error.value)
    assert 'torch cpu' in str(error.value)
