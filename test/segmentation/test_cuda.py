# SPDX-License-Identifier: Apache-2.0
"""How frames reach a CUDA program and labels come back, with stand-ins for the GPU's own parts.

What the stand-ins cannot show (streams, pinned memory, CUDA graphs) is in test_gpu.py.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from lednet_ros.errors import OutOfMemory
from lednet_ros.segmentation.backends import cuda
from lednet_ros.segmentation.fit import Fit

CPU = torch.device('cpu')


def make_runner(
    program: cuda.Program, asked: list[bool] | None = None
) -> cuda.CudaRunner:
    def ask(confidence: bool) -> cuda.Program:
        if asked is not None:
            asked.append(confidence)
        return program
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
        assert result.run_ms == 1.25


@pytest.mark.usefixtures('stand_ins')
def test_results_belong_to_the_caller() -> None:
    runner = make_runner(red)
    first = runner.run(frame_of(1)[None], confidence=True)
    runner.run(frame_of(2)[None], confidence=True)
    assert (first.labels == 1).all()
    assert first.labels.flags.writeable


@pytest.mark.usefixtures('stand_ins')
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
        runner.run(runner.prepare(frames, are_rgb, fits), confidence=False)
        expected = np.empty((2, 4, 6, 3), np.uint8)
        for frame, rgb, fit, out in zip(frames, are_rgb, fits, expected, strict=True):
            fit.place(frame, rgb, out)
        assert np.abs(seen[-1].astype(int) - expected).max() <= 1
        np.testing.assert_array_equal(seen[-1][1], expected[1])  # not resized


@pytest.mark.usefixtures('stand_ins')
def test_a_program_is_asked_for_once_per_batch_size_and_ending() -> None:
    asked: list[bool] = []
    runner = make_runner(red, asked)
    for batch, confidence in ((1, False), (2, False), (1, False), (1, True), (2, False)):
        runner.run(np.stack([frame_of(1)] * batch), confidence)
    assert asked == [False, False, True]


@pytest.mark.usefixtures('stand_ins')
def test_what_cannot_be_captured_runs_without_and_says_so(
    caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(red)
    runner.run(frame_of(1)[None], confidence=False)
    runner.run(frame_of(1)[None], confidence=False)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 1
    assert 'no CUDA graph for a batch of 1' in warnings[0]


@pytest.mark.usefixtures('stand_ins')
@pytest.mark.parametrize(
    'raised', [torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
               RuntimeError('[Error Code 2: OutOfMemory] Requested size was 100')], ids=repr)
def test_exhausted_memory_is_one_line_with_sizes(raised: Exception) -> None:
    def fail(pixels: Tensor) -> list[Tensor]:
        raise raised

    with pytest.raises(OutOfMemory) as error:
        make_runner(fail).run(frame_of(1)[None], confidence=False)
    text = str(error.value)
    assert 'running at 6x4' in text
    assert '100 of 8192 MiB are free' in text
    assert 'smaller input_height' in text
    assert '\n' not in text
    assert error.value.__cause__ is raised


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
    cuda.place_on_gpu(torch.from_numpy(frame), rgb, fit, out)
    most = 0 if camera == network else 1
    assert np.abs(out.numpy().astype(int) - expected).max() <= most
