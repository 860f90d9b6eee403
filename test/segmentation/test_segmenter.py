# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lednet_ros.common.errors import BackendUnavailable, CheckpointError, ConfigError
from lednet_ros.model.checkpoint import Checkpoint, Metadata, Preprocessing
from lednet_ros.model.labels import LabelSet, builtin_label_set
from lednet_ros.model.lednet import LEDNet
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation import segmenter as segmenter_module


def make_checkpoint(
    labels: LabelSet, preprocessing: Preprocessing | None = None, size: tuple[int, int] = (64, 96)
) -> Checkpoint:
    """A seeded network whose batch normalisations have seen noise, so its classes differ."""
    torch.manual_seed(0)
    network = LEDNet(len(labels)).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 3, 64, 96))
    return Checkpoint(network.eval(), labels, preprocessing or Preprocessing(), Metadata(*size))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.repeat(np.repeat(coarse, -(-height // 8), 0), -(-width // 8), 1)[:height, :width]


@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(make_checkpoint(builtin_label_set('camvid'))) as segmenter:
        yield segmenter


def test_labels_are_the_argmax_of_the_paper_s_network(segmenter) -> None:
    frame = noise(64, 96)
    pixels = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        scores = segmenter.checkpoint.network(pixels)[0]
    two_best = scores.topk(2, 0).values
    sure = (two_best[0] - two_best[1] > 1e-4).numpy()
    labels = segmenter.segment([frame])[0].labels
    assert sure.mean() > 0.9
    assert len(np.unique(labels)) >= 2
    assert np.array_equal(labels[sure], scores.argmax(0).numpy()[sure])


@pytest.mark.parametrize('size', [(64, 96), (720, 1280), (33, 47), (1, 1), (200, 20)])
def test_labels_have_the_size_of_their_frame(segmenter, size) -> None:
    result = segmenter.segment([noise(*size)], confidence=True)[0]
    assert result.labels.shape == size
    assert result.confidence.shape == size
    assert result.labels.dtype == result.confidence.dtype == np.uint8
    assert result.labels.flags.c_contiguous
    assert set(result.timings) == {'preprocess', 'inference', 'postprocess'}


@pytest.mark.parametrize(('inference_ms', 'postprocess_ms'), [(300.0, 680.0), (2000.0, 0.0)],
                         ids=['as it is', 'by a clock that is off'])
def test_the_stages_account_for_all_the_time_that_segmenting_took(
    monkeypatch, inference_ms, postprocess_ms
) -> None:
    with Segmenter(make_checkpoint(builtin_label_set('camvid'))) as segmenter:
        now_s = iter([5.0, 5.015, 6.0])  # called, prepared, done
        monkeypatch.setattr(segmenter_module, 'perf_counter', lambda: next(now_s))
        run = segmenter._backend.run
        monkeypatch.setattr(segmenter._backend, 'run', lambda *args: replace(
            run(*args), preprocess_ms=5.0, inference_ms=inference_ms))
        timings = segmenter.segment([noise(64, 96)])[0].timings
    assert timings == pytest.approx({
        'preprocess': 20.0, 'inference': inference_ms, 'postprocess': postprocess_ms})


def test_a_batch_of_mixed_sizes_and_orders_equals_one_by_one(segmenter) -> None:
    frames = [noise(64, 96, 1), noise(48, 96, 2)[..., ::-1], noise(100, 40, 3)]
    are_rgb = [False, True, False]
    together = segmenter.segment(frames, rgb=are_rgb)
    for frame, rgb, result in zip(frames, are_rgb, together, strict=True):
        alone = segmenter.segment([np.ascontiguousarray(frame)], rgb=rgb)[0]
        assert (result.labels == alone.labels).mean() > 0.999


def test_rgb_and_bgr_of_the_same_picture_agree(segmenter) -> None:
    bgr = noise(64, 96)
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    one, other = segmenter.segment([bgr])[0], segmenter.segment([rgb], rgb=True)[0]
    assert np.array_equal(one.labels, other.labels)


def test_confidence_is_the_softmax_of_the_chosen_class(segmenter) -> None:
    frame = noise(64, 96)
    pixels = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = segmenter.checkpoint.network(pixels)[0].softmax(0).amax(0).numpy() * 255
    result = segmenter.segment([frame], confidence=True)[0]
    assert np.abs(result.confidence - expected).max() <= 1
    assert segmenter.segment([frame])[0].confidence is None


def test_pixels_below_min_confidence_become_255(segmenter) -> None:
    frame = noise(64, 96)
    plain = segmenter.segment([frame], confidence=True)[0]
    limit = int(np.median(plain.confidence)) + 1
    strict = segmenter.segment([frame], min_confidence=limit / 255)[0]
    unsure = plain.confidence < limit
    assert unsure.any()
    assert (strict.labels[unsure] == 255).all()
    assert np.array_equal(strict.labels[~unsure], plain.labels[~unsure])


def test_void_classes_come_out_as_255() -> None:
    labels = builtin_label_set('cityscapes')
    checkpoint = make_checkpoint(labels)
    with Segmenter(checkpoint) as plain:
        seen = np.unique(plain.segment([noise(64, 96)])[0].labels)
    assert 19 not in seen
    chosen = int(seen[0])
    void = LabelSet('void', tuple(
        c if i != chosen else type(c)(c.name, c.color, 'void', void=True)
        for i, c in enumerate(labels.classes)))
    with Segmenter(Checkpoint(
            checkpoint.network, void, checkpoint.preprocessing, checkpoint.metadata)) as segmenter:
        after = np.unique(segmenter.segment([noise(64, 96)])[0].labels)
    assert chosen not in after
    assert 255 in after


def test_preprocessing_of_the_checkpoint_is_applied() -> None:
    """(x - mean) / std with mean 0.5 and std 0.5 of x equals the plain network on 2x - 1."""
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    checkpoint = make_checkpoint(builtin_label_set('camvid'), preprocessing)
    frame = noise(64, 96)
    pixels = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = checkpoint.network(2 * pixels - 1)[0].argmax(0).numpy()
    with Segmenter(checkpoint) as segmenter:
        labels = segmenter.segment([frame])[0].labels
    assert (labels == expected).mean() > 0.999


def test_the_input_size_can_be_chosen(segmenter) -> None:
    config = SegmenterConfig(input_height=40, input_width=72, fit='stretch')
    with Segmenter(segmenter.checkpoint, config) as other:
        assert other.input_size == (40, 72)
        assert other.segment([noise(50, 50)])[0].labels.shape == (50, 50)


def test_colours_are_the_label_sets(segmenter) -> None:
    labels = np.array([[0, 3], [10, 255]], np.uint8)
    assert segmenter.colorize(labels).tolist() == [
        [[128, 128, 128], [128, 64, 128]], [[0, 128, 192], [0, 0, 0]]]


def test_frames_are_not_written_to_and_results_belong_to_the_caller(segmenter) -> None:
    frame = noise(64, 96)
    frame.setflags(write=False)
    first = segmenter.segment([frame])[0].labels
    kept = first.copy()
    segmenter.segment([noise(64, 96, 7)])
    assert np.array_equal(first, kept)
    first[:] = 0  # may be written to


def test_no_frames_give_no_results(segmenter) -> None:
    assert segmenter.segment([]) == []


@pytest.mark.parametrize('frame', [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
    np.zeros((0, 4, 3), np.uint8)], ids=['grey', 'four channels', 'float', 'empty'])
def test_what_is_not_a_frame_is_named(segmenter, frame) -> None:
    with pytest.raises(ValueError, match='give uint8'):
        segmenter.segment([frame])


@pytest.mark.parametrize(('settings', 'words'), [
    ({'backend': 'tflite'}, "backend is 'tflite': choose auto"),
    ({'device': 'gpu'}, "device is 'gpu': choose auto, cpu or cuda:N"),
    ({'precision': 'int8'}, "precision is 'int8': choose auto, fp16, fp32"),
    ({'fit': 'crop'}, "fit is 'crop': choose letterbox, stretch"),
    ({'input_height': 16}, 'input_height is 16: give 32 to 8192'),
    ({'input_width': 100000}, 'input_width is 100000: give 32 to 8192'),
    ({'output_size': '424'}, "output_size is '424': choose camera, network, or WIDTHxHEIGHT"),
    ({'output_size': '4x4'}, "output_size is '4x4': .*each side 8 to 8192 pixels"),
    ({'output_size': '99999x240'}, "output_size is '99999x240'"),
    ({'min_confidence': 1.5}, 'min_confidence is 1.5: give one from 0 to 1'),
], ids=lambda v: next(iter(v)) if isinstance(v, dict) else '')
def test_a_wrong_setting_is_refused_where_it_is_made(settings, words) -> None:
    with pytest.raises(ConfigError, match=words):
        SegmenterConfig(**settings)


def test_fp16_on_the_cpu_is_an_error(segmenter) -> None:
    with pytest.raises(ConfigError, match='precision is fp16 but the device is the CPU'):
        Segmenter(segmenter.checkpoint, SegmenterConfig(device='cpu', precision='fp16'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about a machine without CUDA')
def test_a_gpu_that_is_not_there_is_named_with_the_remedy(segmenter) -> None:
    with pytest.raises(BackendUnavailable, match='device cuda:0: no CUDA GPU: choose'):
        Segmenter(segmenter.checkpoint, SegmenterConfig(device='cuda:0'))


@pytest.mark.parametrize(('size', 'frame_size'), [
    ((12, 20), (48, 64)), ((64, 64), (32, 96)), ((100, 200), (48, 64)), ((64, 96), (64, 96))],
    ids=['smaller', 'letterboxed', 'larger', "the network's"])
def test_label_images_of_a_given_size_have_the_nearest_pixel_s_label_and_no_other(
    size, frame_size,
) -> None:
    frame, (height, width) = noise(*frame_size), size
    config = SegmenterConfig(output_size=f'{width}x{height}')
    checkpoint = make_checkpoint(builtin_label_set('camvid'))
    with Segmenter(checkpoint, config) as segmenter:
        result = segmenter.segment([frame], confidence=True)[0]
        network = segmenter.segment([frame], confidence=True, output_size='network')[0]
    assert result.labels.shape == result.confidence.shape == size
    fit = result.fit
    rows, columns = (
        np.floor((np.arange(n) + 0.5) * inside / n).astype(int) + first
        for n, inside, first in ((height, fit.height, fit.top), (width, fit.width, fit.left)))
    assert len(np.unique(network.labels)) > 1
    # OpenCV 4.5 rounds the place in 1/65536 of a pixel: between two that are as near, to either.
    up, left = (np.maximum(np.ceil((np.arange(n) + 0.5) * inside / n - 1e-3).astype(int) - 1, 0)
                + first for n, inside, first in (
                    (height, fit.height, fit.top), (width, fit.width, fit.left)))
    for image, source in ((result.labels, network.labels),
                          (result.confidence, network.confidence)):
        near = [source[r[:, None], c] for r in (rows, up) for c in (columns, left)]
        assert np.all(np.any([image == one for one in near], axis=0))
        if cv2.__version__ >= '4.6':
            assert np.array_equal(image, near[0])


def test_label_images_of_the_network_s_size_hold_the_frame_and_nothing_beside_it() -> None:
    checkpoint = make_checkpoint(builtin_label_set('camvid'))
    frame = noise(32, 96)  # letterboxed onto rows 16 to 47 of 64
    with Segmenter(checkpoint, SegmenterConfig(output_size='network')) as segmenter:
        result = segmenter.segment([frame], confidence=True)[0]
    with Segmenter(checkpoint) as segmenter:
        of_frame = segmenter.segment([frame], confidence=True)[0]
    assert result.labels.shape == result.confidence.shape == (64, 96)
    assert (result.fit.top, result.fit.height) == (16, 32)
    assert np.array_equal(result.labels[16:48], of_frame.labels)
    assert np.array_equal(result.confidence[16:48], of_frame.confidence)
    for beside in (slice(16), slice(48, None)):
        assert (result.labels[beside] == 255).all()
        assert (result.confidence[beside] == 0).all()


@pytest.mark.parametrize('backend', ['torch', 'onnxruntime', 'auto'])
@pytest.mark.parametrize('factor', [1e30, -1e30])
def test_finite_weights_whose_scores_overflow_are_refused_by_every_backend(
    tmp_path, backend, factor
) -> None:
    """Not a number is largest nowhere and everywhere, so there would be labels of them."""
    if backend == 'onnxruntime':
        pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    checkpoint = make_checkpoint(builtin_label_set('camvid'))
    checkpoint.network.encoder.units2[0].left.conv1.weight.data *= factor
    with pytest.raises(CheckpointError, match='the scores of unsaved are not finite') as error:
        Segmenter(checkpoint, SegmenterConfig(backend=backend, engine_cache_dir=str(tmp_path)))
    assert str(error.value).endswith('choose another checkpoint')
