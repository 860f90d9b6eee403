# SPDX-License-Identifier: Apache-2.0
"""How frames reach a CUDA program and labels come back, with stand-ins for the GPU's own parts.

What the stand-ins cannot show (streams, pinned memory, CUDA graphs) is in test_gpu.py.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpu_stand_ins
import numpy as np
import pytest
import torch
from gpu_stand_ins import Graph
from torch import Tensor

from lednet_ros.common.errors import BackendUnavailable, OutOfMemory
from lednet_ros.segmentation import devices
from lednet_ros.segmentation.backends import cuda_runner as cuda
from lednet_ros.segmentation.backends.gpu_letterbox import place_on_gpu
from lednet_ros.segmentation.device_errors import is_out_of_memory
from lednet_ros.segmentation.letterbox import Fit

CPU = torch.device('cpu')


def make_runner(
    program: cuda.Program, asked: list[bool] | None = None
) -> cuda.CudaRunner:
    def ask(confidence: bool) -> cuda.Program:
        if asked is not None:
            asked.append(confidence)
        return program if confidence else lambda pixels: program(pixels)[:1]
    return cuda.CudaRunner('test', CPU, 4, 6, ask)


def red(pixels: Tensor) -> list[Tensor]:
    """Label each pixel by its red, twice."""
    return [pixels[..., 0].int(), pixels[..., 0].int()]


def frame_of(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = value
    return frame


@pytest.mark.usefixtures('stand_ins')
def test_frames_come_back_in_their_order_and_batch_sizes_may_change() -> None:
    runner = make_runner(red)
    for values in ([7], [1, 2, 3], [9], [4, 5, 6]):
        result = runner.run(np.stack([frame_of(v) for v in values]), confidence=True)
        assert result.labels.dtype == np.uint8
        assert [int(one.max()) for one in result.labels] == values
        assert result.confidence is not None
        assert result.inference_ms == 1.25


@pytest.mark.usefixtures('stand_ins')
def test_results_belong_to_the_caller() -> None:
    runner = make_runner(red)
    first = runner.run(frame_of(1)[None], confidence=True)
    runner.run(frame_of(2)[None], confidence=True)
    assert (first.labels == 1).all()
    assert first.labels.flags.writeable


@pytest.mark.usefixtures('no_graphs')
def test_prepared_frames_of_any_size_order_and_padding_equal_the_cpu_s() -> None:
    seen: list[np.ndarray] = []

    def keep(pixels: Tensor) -> list[Tensor]:
        seen.append(pixels.numpy().copy())
        return [pixels[..., 0].int()]

    random = np.random.default_rng(0)
    padded = random.integers(0, 256, (9, 20, 3), np.uint8)[:, :13]
    frames = [padded, random.integers(0, 256, (4, 6, 3), np.uint8)]
    frames[0].flags.writeable = False  # as a camera's message may be
    fits = [Fit.make(f.shape[:2], (4, 6), 'letterbox') for f in frames]
    runner = make_runner(keep)
    for are_rgb in ([True, False], [False, True]):
        runner.run(runner.preprocess(frames, are_rgb, fits), confidence=False)
        expected = np.empty((2, 4, 6, 3), np.uint8)
        for frame, rgb, fit, out in zip(frames, are_rgb, fits, expected, strict=True):
            fit.place(frame, rgb, out)
        assert np.abs(np.concatenate(seen[-2:]).astype(int) - expected).max() <= 1
        np.testing.assert_array_equal(seen[-1][0], expected[1])  # not resized


@pytest.mark.usefixtures('stand_ins')
def test_a_program_is_asked_for_and_captured_once_per_ending_into_one_pool() -> None:
    asked: list[bool] = []
    runner = make_runner(red, asked)
    for batch, confidence in ((1, False), (2, False), (1, False), (1, True), (2, False)):
        runner.run(np.stack([frame_of(1)] * batch), confidence)
    assert asked == [False, True]
    assert Graph.of_pool == [runner._pool] * 2


@pytest.mark.usefixtures('stand_ins')
def test_a_captured_program_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    steps = []

    def counted(pixels: Tensor) -> list[Tensor]:
        steps.append(1)
        return red(pixels)

    runner = make_runner(counted)
    runner.run(frame_of(1)[None], confidence=True)
    before = len(steps)
    assert (runner.run(frame_of(7)[None], confidence=True).labels == 7).all()
    assert len(steps) == before
    assert not caplog.records


def unseen(pixels: Tensor) -> list[Tensor]:
    """Label by red, in a way that a capture does not notice."""
    labels = torch.empty(pixels.shape[:3], dtype=torch.int32)
    if Graph.recording is None:
        labels.numpy()[:] = pixels[..., 0].numpy()
    return [labels, labels]


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize('program', [
    unseen, lambda pixels: [unseen(pixels)[0], red(pixels)[1]],
    lambda pixels: [red(pixels)[0], unseen(pixels)[1]]], ids=['both', 'labels', 'confidence'])
def test_a_graph_that_recorded_nothing_is_not_believed(
    program: cuda.Program, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(program)
    for value in (3, 4):
        result = runner.run(frame_of(value)[None], confidence=True)
        assert (result.labels == value).all()
        assert (result.confidence == value).all()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 1
    assert 'at least 99.9% are needed): running without, slower' in warnings[0]


@pytest.mark.usefixtures('stand_ins')
def test_what_lay_in_memory_from_the_other_ending_is_no_answer() -> None:
    """The variants share a pool: what one has freed holds the right labels of its last frame."""
    kept: list[Tensor] = []

    def program(pixels: Tensor) -> list[Tensor]:
        labels = pixels[..., 0].int()
        if Graph.recording is not None and not kept:
            kept.append(labels)
        return [labels, labels]

    def stale(pixels: Tensor) -> list[Tensor]:
        return [kept[0], kept[0]] if Graph.recording else program(pixels)

    runner = cuda.CudaRunner('test', CPU, 4, 6, lambda c: stale if c else program)
    runner._capture(False)
    assert (runner.run(frame_of(5)[None], confidence=True).labels == 5).all()


@pytest.mark.usefixtures('stand_ins')
def test_what_lay_in_the_output_itself_is_no_answer() -> None:
    """Of a network that sees one class everywhere, as one trained on a field might."""
    output = torch.zeros(1, 4, 6, dtype=torch.uint8)

    def constant(pixels: Tensor) -> list[Tensor]:
        if Graph.recording is None:
            output.numpy()[:] = 3
        return [output]

    runner = make_runner(constant)
    assert runner._capture(False).graph is None


@pytest.mark.usefixtures('no_graphs')
def test_what_cannot_be_captured_runs_without_and_says_so(
    caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(red)
    runner.run(frame_of(1)[None], confidence=False)
    runner.run(frame_of(1)[None], confidence=False)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 1
    assert 'no CUDA graph (operation not permitted' in warnings[0]


@pytest.mark.usefixtures('stand_ins')
def test_memory_that_runs_out_in_a_capture_is_no_reason_to_run_without(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError('CUDA error: out of memory')

    monkeypatch.setattr(torch.cuda, 'graph', fail)
    with pytest.raises(OutOfMemory):
        make_runner(red).run(frame_of(1)[None], confidence=False)


@pytest.mark.usefixtures('stand_ins')
def test_no_two_threads_capture_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes in one process: torch waits for the GPU before it captures, which ends both."""
    at_it = threading.Semaphore(1)
    both = threading.Barrier(2)

    @contextlib.contextmanager
    def capture(*args: Any, **options: Any) -> Iterator[None]:
        assert at_it.acquire(blocking=False)
        time.sleep(0.2)  # for the other to come
        at_it.release()
        raise RuntimeError('not captured')
        yield

    def run() -> None:
        runner = make_runner(red)
        both.wait()
        runner.run(frame_of(1)[None], confidence=False)

    monkeypatch.setattr(torch.cuda, 'graph', capture)
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(run) for _ in range(2)]:
            done.result()


@pytest.mark.usefixtures('stand_ins')
def test_waiting_for_a_frame_keeps_no_core_busy_and_memory_goes_back_to_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what torch is told: there is no GPU here, let alone two."""
    told: list[Any] = []

    @contextlib.contextmanager
    def device(which: Any) -> Iterator[None]:
        told.append(which)
        yield

    class Event(gpu_stand_ins.Event):
        def __init__(self, **options: Any) -> None:
            told.append(options)

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    runner = make_runner(red)
    assert told == [{'enable_timing': True, 'blocking': True}] * 2
    monkeypatch.setattr(torch.cuda, 'device', device)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: told.append('emptied'))
    runner.close()
    assert told[2:] == [CPU, 'emptied']


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize(
    'raised', [
        torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
        RuntimeError('[Error Code 2: OutOfMemory] Requested size was 100'),
        RuntimeError('CUDA error: out of memory\nCUDA kernel errors might be'),
        RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at '  # what it is on a Jetson
                     '"/opt/pytorch/c10/cuda/CUDACachingAllocator.cpp":1016, please report'),
        RuntimeError('[Error thrown at core/runtime/TRTEngine.cpp:185] Expected cuda_engine.get() '
                     'to be true but got false\nUnable to deserialize the TensorRT engine'),
        RuntimeError('[Error thrown at core/runtime/TRTEngine.cpp:1007] Expected exec_ctx.get() to'
                     ' be true but got false\nUnable to (re)create TensorRT execution context'),
        RuntimeError('Unable to create TensorRT execution context'),
    ], ids=lambda raised: str(raised)[-40:])
def test_exhausted_memory_is_one_line_with_sizes(raised: Exception) -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise raised

    with pytest.raises(OutOfMemory) as error:
        make_runner(fail).run(frame_of(1)[None], confidence=False)
    text = str(error.value)
    assert 'running at 6x4: ' in text
    assert 'out of memory on cpu' in text
    assert '100 of 8192 MiB are free' in text
    assert 'smaller input_height' in text
    assert '\n' not in text
    assert error.value.__cause__ is raised


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize('raised', [
    MemoryError(), RuntimeError('could not create a primitive'),
    RuntimeError('[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough')], ids=str)
def test_the_computer_s_memory_is_not_taken_for_the_gpu_s(raised: Exception) -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise raised

    with pytest.raises(OutOfMemory, match=r'running at 6x4: the computer is out of memory \(') as (
            error):
        make_runner(fail).run(frame_of(1)[None], confidence=False)
    assert 'GPU' not in str(error.value)


@pytest.mark.parametrize(('error', 'is_of_memory'), [
    (MemoryError(), True), (torch.cuda.OutOfMemoryError('CUDA out of memory'), True),
    (RuntimeError('could not create a primitive'), True),  # all that oneDNN says of it
    (RuntimeError('[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough'), True),
    (RuntimeError('mat1 and mat2 shapes cannot be multiplied'), False),
], ids=str)
def test_memory_that_ran_out_is_told_from_bugs(error: Exception, is_of_memory: bool) -> None:
    assert is_out_of_memory(error) is is_of_memory


@pytest.mark.usefixtures('stand_ins')
def test_an_engine_refused_although_there_is_memory_may_be_another_gpu_s(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise RuntimeError('Unable to deserialize the TensorRT engine')

    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (6000 << 20, 8192 << 20))
    with pytest.raises(BackendUnavailable, match=r'6000 of 8192 MiB are free: if it is of another '
                       'GPU or TensorRT, delete it by lednet_compile --prune'):
        make_runner(fail).run(frame_of(1)[None], confidence=False)


@pytest.mark.usefixtures('stand_ins')
def test_a_gpu_too_full_to_say_how_full_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(torch.cuda, 'Stream', fail)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', fail)
    with pytest.raises(OutOfMemory, match=r'starting: out of memory on cpu: end other programs'):
        make_runner(red)


@pytest.mark.usefixtures('stand_ins')
def test_other_errors_pass_as_they_are() -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        make_runner(fail).run(frame_of(1)[None], confidence=False)


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize(('raised', 'says'), [
    (RuntimeError('CUDA error: no kernel image is available for execution on the device\nCUDA'),
     'torch {torch} has no code for this GPU: install a torch built for it'),
    (RuntimeError('The NVIDIA driver on your system is too old (found version 11040). Please'),
     "the NVIDIA driver is too old for torch's CUDA {cuda}: update the driver"),
    (RuntimeError('CUDA error: the provided PTX was compiled with an unsupported toolchain.'),
     "the NVIDIA driver is too old for torch's CUDA {cuda}: update the driver"),
    (AssertionError('Torch not compiled with CUDA enabled'),
     'torch {torch} is a CPU build: install a CUDA build of torch'),
    (RuntimeError('Found no NVIDIA driver on your system. Please check'),
     'the NVIDIA driver does not answer (Found no NVIDIA driver'),
    (RuntimeError('CUDA error: an illegal memory access was encountered\nCUDA kernel errors'),
     'the GPU failed (CUDA error: an illegal memory access was encountered): look at dmesg'),
    (RuntimeError('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED'),
     'the GPU failed (cuDNN error: CUDNN_STATUS_EXECUTION_FAILED): look at dmesg'),
], ids=lambda value: str(value)[:40])
def test_what_the_machine_fails_with_is_one_line_with_the_remedy(
    raised: Exception, says: str
) -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise raised

    with pytest.raises(BackendUnavailable) as error:
        make_runner(fail).run(frame_of(1)[None], confidence=False)
    says = says.format(torch=torch.__version__, cuda=torch.version.cuda)
    assert f'test: running at 6x4: {says}' in str(error.value)
    assert '\n' not in str(error.value)
    assert error.value.__cause__ is raised


def has_gpu(monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    monkeypatch.setattr(devices.glob, 'glob', lambda pattern: [node] * (pattern == node))


@pytest.mark.parametrize('node', ['/dev/nvidia[0-9]*', '/dev/nvhost-gpu', '/dev/nvgpu/igpu0'])
@pytest.mark.parametrize(('build', 'hidden', 'says'), [
    (None, None, 'an NVIDIA GPU, but torch {torch} is a CPU build: install'),
    ('13.0', None, 'an NVIDIA GPU, but its driver does not fit CUDA 13.0 of torch {torch}: upd'),
    ('13.0', '0', 'an NVIDIA GPU, but its driver does not fit CUDA 13.0 of torch {torch}: upd'),
    ('13.0', '', "an NVIDIA GPU, but CUDA_VISIBLE_DEVICES is '': unset it"),
    ('13.0', '3,0', "an NVIDIA GPU, but CUDA_VISIBLE_DEVICES is '3,0': unset it"),
    ('13.0', '-1', "an NVIDIA GPU, but CUDA_VISIBLE_DEVICES is '-1': unset it")])
def test_a_gpu_that_torch_does_not_see_is_told_from_none(
    monkeypatch: pytest.MonkeyPatch, node: str, build: str | None, hidden: str | None, says: str
) -> None:
    has_gpu(monkeypatch, node)
    monkeypatch.setattr(torch.version, 'cuda', build)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if hidden is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
    assert devices.why_no_gpu().startswith(says.format(torch=torch.__version__))
    has_gpu(monkeypatch, 'none')
    assert devices.why_no_gpu() == 'no CUDA GPU'


def test_a_gpu_that_this_user_may_not_use_is_no_fault_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / 'nvhost-gpu').touch()
    monkeypatch.setattr(devices.glob, 'glob', lambda pattern: [
        str(tmp_path / 'nvhost-gpu')] * (pattern == '/dev/nvhost-gpu'))
    monkeypatch.setattr(torch.version, 'cuda', '12.6')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr(devices.os, 'access', lambda path, how: False)
    assert 'this user may not use' in devices.why_no_gpu()
    assert 'groups video and render' in devices.why_no_gpu()


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize(('gpu', 'built_for', 'runs'), [
    ((8, 7), ['sm_87'], True), ((8, 7), ['sm_75', 'sm_80', 'sm_90'], True),
    ((7, 0), ['sm_75', 'sm_80', 'compute_90'], False), ((12, 1), ['sm_120'], True),
    ((12, 0), ['sm_90', 'sm_100a'], False), ((11, 0), ['sm_80', 'compute_90'], True),
    ((9, 0), ['sm_90a'], True), ((9, 1), ['sm_90a'], False), ((10, 3), ['sm_100f'], True),
    ((7, 0), [], True), ((9, 0), ['gfx90a', 'gfx1100'], True)], ids=str)
def test_a_gpu_that_torch_has_no_code_for_is_named(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: gpu)
    monkeypatch.setattr(torch.cuda, 'get_arch_list', lambda: built_for)
    if runs:
        devices.require_code_for(CPU)
        return
    with pytest.raises(BackendUnavailable, match=r'has no code for this GPU \(Orin, sm_\d+\)'):
        devices.require_code_for(CPU)


def scene(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ('camera', 'network', 'mode'),
    [((48, 64), (48, 64), 'stretch'), ((96, 128), (48, 64), 'stretch'),
     ((60, 70), (48, 64), 'letterbox'), ((30, 40), (48, 64), 'letterbox'),
     ((270, 480), (48, 64), 'letterbox'), ((108, 192), (45, 59), 'stretch'),
     ((97, 193), (33, 47), 'stretch'), ((24, 240), (48, 64), 'stretch'),
     ((200, 60), (48, 64), 'stretch')], ids=str)
@pytest.mark.parametrize('rgb', [True, False], ids=['rgb', 'bgr'])
def test_fitting_on_the_gpu_equals_fitting_on_the_cpu_within_one_grey_level(
    camera: tuple[int, int], network: tuple[int, int],
    mode: str, rgb: bool
) -> None:
    frame, fit = scene(*camera), Fit.make(camera, network, mode)
    expected = np.empty((*network, 3), np.uint8)
    fit.place(frame, rgb, expected)
    out = torch.full((*network, 3), 99, dtype=torch.uint8)
    place_on_gpu(torch.from_numpy(frame), rgb, fit, out)
    most = 0 if camera == network else 1
    assert np.abs(out.numpy().astype(int) - expected).max() <= most
