# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend on torch_tensorrt's own code, from export to replay.

Only TensorRT's runtime (fake_tensorrt.py) and the GPU (gpu_stand_ins.py) are faked. The builder is
TensorRT-RTX's, which needs no GPU.
"""

import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_stand_ins
import numpy as np
import pytest
import torch
from fake_tensorrt import Gpu
from gpu_stand_ins import Graph
from tensorrt_check import import_without_gpu, why_not

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory, first_line
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.segmentation import SegmenterConfig, devices
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends import torch as torch_backend
from lednet_ros.segmentation.backends.graph import graph_sources, make_graph
from lednet_ros.segmentation.self_check import make_frames

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(600)]

CPU = torch.device('cpu:0')  # its index is that of the GPU it stands for
HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope='module')
def checkpoint() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


@pytest.fixture(scope='module')
def real() -> Iterator[Any]:
    """torch_tensorrt, which asks about a GPU while it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        yield import_without_gpu(patch)


def fake(gpu: Gpu, patch: pytest.MonkeyPatch) -> None:
    """Let the CPU be the GPU and `gpu` TensorRT's runtime, that of the standard package."""
    from torch_tensorrt.dynamo.runtime import _TRTEngine
    from torch_tensorrt.runtime import _runtime_config
    gpu_stand_ins.install(patch)
    patch.setattr(torch.Tensor, 'cuda', lambda tensor: tensor)
    module = tensorrt.importlib.import_module('tensorrt')
    patch.setattr(module, 'Runtime', gpu.Runtime)
    patch.setattr(module, '_package_name', 'tensorrt')
    patch.setattr(module, '__version__', '11.0.0')
    for part in (_TRTEngine, _runtime_config):
        patch.setattr(
            part, 'ENABLED_FEATURES', part.ENABLED_FEATURES._replace(tensorrt_rtx=False))
    for part in (tensorrt, torch_backend, devices):
        patch.setattr(part, 'choose_device', lambda device: CPU)
        patch.setattr(part, 'is_gpu', lambda device: True)

    def export(graph: Any, *size: int) -> Any:
        gpu.exported = graph
        return real_export(graph, *size)

    real_export = tensorrt.export
    patch.setattr(tensorrt, 'export', export)


@pytest.fixture(scope='module')
def built(
    real: Any, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Gpu]:
    """A cache with both engines, and what they compute."""
    gpu, directory = Gpu(), tmp_path_factory.mktemp('built')
    with pytest.MonkeyPatch.context() as patch:
        fake(gpu, patch)
        backend = make_backend(checkpoint, directory)
        backend.run(make_frames(1, HEIGHT, WIDTH), True)
    return directory, gpu


@pytest.fixture
def gpu(real: Any, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    fake(gpu, monkeypatch)
    return gpu


@pytest.fixture
def directory(built: tuple[Path, Gpu], gpu: Gpu, tmp_path: Path) -> Path:
    """A cache of this test's own, with both engines."""
    gpu.programs = dict(built[1].programs)  # to which other tests add
    return Path(shutil.copytree(built[0], tmp_path / 'cache'))


@pytest.fixture
def quick_builder(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines that are no more than a name, of a graph that is not exported for them.

    Where it is not the builder that matters. Returns the precisions that were built in.
    """
    built: list[str] = []

    def export(graph: Any, *size: int) -> None:
        gpu.exported = graph

    def build(exported: Any, height: int, width: int, settings: dict[str, Any]) -> bytes:
        built.append('fp32' if settings['disable_tf32'] else 'fp16')
        return f'vtrt {len(built)}'.encode()

    monkeypatch.setattr(tensorrt, 'export', export)
    monkeypatch.setattr(tensorrt, 'build_engine', build)
    return built


def make_backend(checkpoint: Checkpoint, directory: Path, **config: Any) -> Any:
    return tensorrt.TensorRTBackend(checkpoint, SegmenterConfig(
        backend='tensorrt', engine_cache_dir=str(directory), input_height=HEIGHT,
        input_width=WIDTH, **config))


def names_in(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.iterdir() if path.suffix != '.lock')


def test_what_is_built_is_the_engine_itself(built: tuple[Path, Gpu]) -> None:
    """No pickle, no archive of torch's: what TensorRT serialized."""
    engines = {path.read_bytes().partition(b'\n')[2] for path in built[0].glob('*.engine')}
    assert engines == set(built[1].programs)
    assert [engine[:4] for engine in engines] == [b'vtrt'] * 2


def test_a_kept_engine_runs_checked_and_says_what_torch_says(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path
) -> None:
    backend = make_backend(checkpoint, directory)
    assert backend.self_check.agreement == 1.0
    assert backend.info.name == 'tensorrt cpu:0 fp16'
    assert backend.build_s == 0.0
    frames = make_frames(3, HEIGHT, WIDTH)
    with torch.no_grad():
        expected = [make_graph(checkpoint, True, CPU, 'fp16')(frame[None])
                    for frame in torch.from_numpy(frames)]
    for confidence in (False, True):
        result = backend.run(frames, confidence)
        np.testing.assert_array_equal(result.labels, torch.cat([one[0] for one in expected]))
    np.testing.assert_array_equal(result.confidence, torch.cat([one[1] for one in expected]))
    assert all(captured.graph for captured in backend._runner._captured.values())
    assert Graph.of_pool == [backend._runner._pool] * 2


def test_of_several_cameras_each_takes_no_memory_but_its_frames(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path
) -> None:
    """An execution context is what takes memory: as much as the network's activations."""
    backend = make_backend(checkpoint, directory)
    frames = make_frames(4, HEIGHT, WIDTH)
    backend.run(frames[:1], False)
    assert len(gpu.contexts) == 1
    for cameras in (2, 4, 3):
        backend.run(frames[:cameras], False)
    assert len(gpu.contexts) == 1
    backend.run(frames, True)
    assert len(gpu.contexts) == 2


@pytest.mark.parametrize('confidence', [False, True], ids=['labels', 'confidence'])
def test_an_engine_that_refused_to_be_captured_runs_without_a_graph(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, caplog: pytest.LogCaptureFixture,
    confidence: bool
) -> None:
    """torch_tensorrt says nothing of it: a replay would give whatever lay in the memory."""
    backend = make_backend(checkpoint, directory, min_confidence=float(not confidence))
    gpu.refuses = {'capture'}
    frames = make_frames(2, HEIGHT, WIDTH)
    result = backend.run(frames, confidence)
    with torch.no_grad():
        expected = make_graph(checkpoint, False, CPU, 'fp16')(torch.from_numpy(frames[1:]))[0]
    np.testing.assert_array_equal(result.labels[1:], expected)
    assert re.search(r'no CUDA graph \(it gives \d+\.\d\d% of the pixels as', caplog.text)
    assert backend._runner._captured[confidence].graph is None


@pytest.mark.parametrize(('refuses', 'says'), [
    ('deserialize', 'Failed to deserialize TensorRT engine'),
    ('context', 'Failed to create execution context')])
def test_an_engine_that_cannot_be_loaded_says_what_it_is_most_likely_and_stays(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, refuses: str, says: str
) -> None:
    gpu.refuses = {refuses}
    with pytest.raises(OutOfMemory) as error:
        make_backend(checkpoint, directory)
    text = str(error.value)
    assert 'tensorrt cpu:0 fp16: the engine of 48x32 pixels: loading it: most likely' in text
    assert f'out of memory on cpu:0 ({says}), 100 of 8192 MiB are free: end other' in text
    assert '\n' not in text
    assert names_in(directory) == ['.engine', '.engine']


def test_an_engine_that_does_not_run_says_so_and_stays(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path
) -> None:
    """TensorRT's False is dropped by torch_tensorrt; what lay in the memory is no answer."""
    gpu.refuses = {'enqueue'}
    with pytest.raises(BackendUnavailable, match='TensorRT wrote no labels') as error:
        make_backend(checkpoint, directory)
    assert 'choose backend torch' in str(error.value)
    assert names_in(directory) == ['.engine', '.engine']


@pytest.mark.parametrize(('raised', 'expected', 'match'), [
    (RuntimeError('CUDA error: out of memory\nmore'), OutOfMemory, '100 of 8192 MiB are free'),
    (RuntimeError('CUDA error: unspecified launch failure\nCUDA kernel errors might'),
     BackendUnavailable, r'the GPU failed \(CUDA error: unspec.*\): look at dmesg'),
    (RuntimeError('CUDA error: no kernel image is available for execution on the device'),
     BackendUnavailable, r'torch .* has no code for this GPU: install'),
    (RuntimeError('CUDA driver version is insufficient for CUDA runtime version'),
     BackendUnavailable, r'driver is too old for torch.s CUDA'),
    (ValueError('a surprise'), BackendUnavailable,
     r'failed \(a surprise\): .*choose backend torch'),
], ids=['memory', 'failure', 'no code', 'driver', 'surprise'])
@pytest.mark.parametrize('where', ['load', 'capture'])
def test_whatever_goes_wrong_at_the_start_is_one_line_and_no_fault_of_the_file(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, monkeypatch: pytest.MonkeyPatch,
    raised: Exception, expected: type[Exception], match: str, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise raised

    if where == 'load':
        monkeypatch.setattr(gpu, 'deserialize_cuda_engine', fail)
    else:
        monkeypatch.setattr(torch.cuda, 'CUDAGraph', fail)
    with pytest.raises(expected, match=match) as error:
        make_backend(checkpoint, directory)
    assert '\n' not in str(error.value)
    assert names_in(directory) == ['.engine', '.engine']


def test_a_kept_engine_that_says_something_else_is_set_aside_and_rebuilt(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, quick_builder: list[str],
    caplog: pytest.LogCaptureFixture
) -> None:
    gpu.spoils = [True]
    backend = make_backend(checkpoint, directory)
    assert backend.self_check.agreement == 1.0
    assert quick_builder == ['fp16']
    assert names_in(directory) == ['.bad', '.engine', '.engine']
    assert any('the self-check failed' in r.getMessage() and r.levelname == 'WARNING'
               for r in caplog.records)


def test_a_kept_engine_of_other_confidence_is_set_aside_and_rebuilt(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, quick_builder: list[str],
) -> None:
    stale = make_graph(checkpoint, True, CPU, 'fp16')
    stale.temperature = 4 * checkpoint.metadata.temperature
    gpu.programs = {
        engine: stale if program.confidence else program
        for engine, program in gpu.programs.items()}
    backend = make_backend(checkpoint, directory)
    backend.run(make_frames(1, HEIGHT, WIDTH), True)
    assert backend.self_check.agreement == 1.0
    assert quick_builder == ['fp16']
    assert names_in(directory) == ['.bad', '.engine', '.engine']


def test_a_new_engine_that_says_something_else_is_refused_and_not_kept(
    checkpoint: Checkpoint, gpu: Gpu, tmp_path: Path, quick_builder: list[str]
) -> None:
    gpu.spoils = [True]
    with pytest.raises(BackendUnavailable, match='the self-check failed') as error:
        make_backend(checkpoint, tmp_path)
    assert 'at least 99% are needed' in str(error.value)
    assert 'choose backend' in str(error.value)
    assert names_in(tmp_path) == []


@pytest.fixture
def builder(real: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT's builder, faked too; give it what it is to do instead of building."""
    from torch_tensorrt.dynamo.conversion import _TRTInterpreter
    monkeypatch.setattr(
        _TRTInterpreter, 'ENABLED_FEATURES',
        _TRTInterpreter.ENABLED_FEATURES._replace(tensorrt_rtx=False))

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._real = real_builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def build_engine_with_config(self, *_: Any) -> Any:
            return do()

    def set_to(what: Any) -> None:
        nonlocal do
        do = what

    do: Any = None
    module = tensorrt.importlib.import_module('tensorrt')
    real_builder = module.Builder
    monkeypatch.setattr(module, 'Builder', Builder)
    return set_to


def test_a_builder_that_gives_no_reason_is_one_line_with_what_may_be_known(
    checkpoint: Checkpoint, gpu: Gpu, tmp_path: Path, builder: Any
) -> None:
    builder(lambda: None)
    with pytest.raises(BackendUnavailable) as error:
        make_backend(checkpoint, tmp_path)
    text = str(error.value)
    assert 'the engine of 48x32 pixels: building it: failed (AssertionError, see the lines' in text
    assert 'above, 100 of 8192 MiB are free): try precision fp32' in text
    assert 'choose backend' in text
    assert '\n' not in text
    assert names_in(tmp_path) == []


def test_memory_that_runs_out_while_building_is_said_with_sizes(
    checkpoint: Checkpoint, gpu: Gpu, tmp_path: Path, builder: Any
) -> None:
    def fail() -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    builder(fail)
    with pytest.raises(OutOfMemory, match=r'engine of 48x32 pixels.*100 of 8192 MiB are free'):
        make_backend(checkpoint, tmp_path)


def test_an_operator_without_a_converter_is_named_in_one_line(
    gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    """torch_tensorrt would print the whole graph, and up to 2.11 name a variable of its own."""
    class CastsInside(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(frames.float())

    exported = torch.export.export(
        CastsInside(), (torch.zeros(1, 8, 8, 3, dtype=torch.uint8),))
    with pytest.raises(Exception, match=r'svd.* not currently supported') as error:
        tensorrt.build_engine(
            exported, 8, 8, tensorrt.build_settings('fp16', gpu=0, is_integrated=False))
    assert first_line(error.value).endswith('not currently supported!')
    assert 'GraphModule' not in caplog.text


def test_the_error_inside_is_raised_where_torch_tensorrt_only_logs_it(
    real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 2.8 to 2.11 do, JetPack 6's among them."""
    def convert(exported: Any, *, arg_inputs: Any) -> Any:
        log = logging.getLogger('torch_tensorrt.dynamo._compiler')
        try:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        except Exception as error:
            log.error('While interpreting the module got an error: %s', error, exc_info=True)
        return result  # noqa: F821

    monkeypatch.setattr(
        real.dynamo, 'convert_exported_program_to_serialized_trt_engine', convert)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        tensorrt.build_engine(None, 8, 8, {})


def test_rtx_is_refused_as_a_runtime(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tensorrt.importlib.import_module('tensorrt'), '_package_name', 'tensorrt_rtx')
    with pytest.raises(BackendUnavailable) as error:
        make_backend(checkpoint, directory)
    assert 'torch_tensorrt_rtx is for the tests on machines without a GPU: install' in str(
        error.value)


@pytest.mark.parametrize(('version', 'outcome'), [
    ('10.16.1', 'install TensorRT 11.0, or the torch and torch_tensorrt that fit TensorRT 10.16'),
    ('11.1.0', 'made for TensorRT 11.0: tried all the same')])
def test_a_tensorrt_that_torch_tensorrt_is_not_made_for_is_named(
    checkpoint: Checkpoint, gpu: Gpu, directory: Path, monkeypatch: pytest.MonkeyPatch,
    quick_builder: list[str], caplog: pytest.LogCaptureFixture, version: str, outcome: str
) -> None:
    monkeypatch.setattr(
        tensorrt.importlib.import_module('tensorrt'), '__version__', version)
    try:
        make_backend(checkpoint, directory)
    except BackendUnavailable as error:
        assert outcome in str(error)
    else:
        assert outcome in caplog.text


def test_weights_that_overflow_fp16_get_an_engine_of_fp32_before_any_is_built(
    overflowing: Checkpoint, gpu: Gpu, tmp_path: Path, quick_builder: list[str],
    caplog: pytest.LogCaptureFixture
) -> None:
    backend = make_backend(overflowing, tmp_path)
    assert backend.info.name == 'tensorrt cpu:0 fp32'
    assert backend.self_check.agreement == 1.0
    assert quick_builder == ['fp32']
    assert any('going on in fp32' in r.getMessage() and r.levelname == 'WARNING'
               for r in caplog.records)


def test_fp16_asked_for_by_name_is_refused_where_it_overflows(
    overflowing: Checkpoint, gpu: Gpu, tmp_path: Path, quick_builder: list[str]
) -> None:
    with pytest.raises(BackendUnavailable, match=r'the self-check failed.*precision fp32'):
        make_backend(overflowing, tmp_path, precision='fp16')
    assert quick_builder == ['fp16']


def test_an_integrated_gpu_s_memory_is_not_all_the_builder_s(
    checkpoint: Checkpoint, quick_builder: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(tensorrt, 'build_engine', lambda *args: told.append(args[-1]) or b'vtrt')
    make_backend(checkpoint, tmp_path)
    assert told[0]['workspace_size'] == 1 << 30


def test_the_key_knows_the_temperature_where_the_engine_gives_confidence(
    checkpoint: Checkpoint, gpu: Gpu
) -> None:
    warm = replace(checkpoint, metadata=replace(checkpoint.metadata, temperature=2.0))
    for confidence, is_another in ((False, False), (True, True)):
        names = {tensorrt.engine_key(c, SegmenterConfig(), confidence).file_name
                 for c in (checkpoint, warm)}
        assert (len(names) == 2) == is_another


def test_the_key_knows_the_sources_of_all_networks(
    checkpoint: Checkpoint, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: set[str] = set()
    monkeypatch.setattr(
        tensorrt, 'hash_of_sources', lambda *modules: hashed.update(modules) or '')
    tensorrt.engine_key(checkpoint, SegmenterConfig(), False)
    assert hashed == {tensorrt.__name__, *graph_sources()}


def test_the_key_tells_gpus_of_one_name_apart(
    checkpoint: Checkpoint, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of NVIDIA's Orins are called Orin."""
    orin = torch.cuda.get_device_properties(0)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: orin)
    keys = set()
    for orin.multi_processor_count in (8, 16):
        keys.add(tensorrt.engine_key(checkpoint, SegmenterConfig(), False).file_name)
    assert len(keys) == 2
