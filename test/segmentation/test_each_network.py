# SPDX-License-Identifier: Apache-2.0
"""Each network of the registry by each way that runs on a CPU, as a robot would run it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lednet_ros.model.checkpoint import (
    Checkpoint,
    Metadata,
    Preprocessing,
    load_checkpoint,
    save_checkpoint,
)
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.model.networks import NETWORKS, make_network, upsample
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.upsample import make_upsampling

SIZE = (65, 96)
PREPROCESSING = Preprocessing((0.4, 0.45, 0.5), (0.2, 0.25, 0.3))


def decided_checkpoint(name: str) -> Checkpoint:
    """Random weights under which every channel matters."""
    torch.manual_seed(0)
    network = make_network(name, 11).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return Checkpoint(network, builtin_label_set('camvid'), PREPROCESSING, Metadata(*SIZE))


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)


@pytest.mark.parametrize('name', [name for name in NETWORKS if name != 'lednet'])
def test_onnx_runtime_gives_the_scores_of_torch(name: str) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    from lednet_ros.segmentation.backends.onnx_plain import onnx_model
    checkpoint = decided_checkpoint(name)
    session = onnxruntime.InferenceSession(
        onnx_model(checkpoint, *SIZE), providers=['CPUExecutionProvider'])
    graph = ScoreGraph(checkpoint.network, PREPROCESSING)
    frames = np.concatenate([pixels(), pixels()[:, ::-1]])
    for batch in (frames[:1], frames):
        scores, = session.run(None, {'frames': np.ascontiguousarray(batch)})
        expected = graph(torch.from_numpy(batch.copy())).numpy()
        assert scores.shape == expected.shape
        assert np.abs(scores - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('name', NETWORKS)
def test_a_file_of_it_runs_alike_by_torch_and_by_onnx_runtime(name: str, tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    made = decided_checkpoint(name)
    save_checkpoint(tmp_path / 'a.safetensors', made.network, made.labels, PREPROCESSING,
                    input_height=SIZE[0], input_width=SIZE[1])
    checkpoint = load_checkpoint(tmp_path / 'a.safetensors')
    assert type(checkpoint.network) is type(made.network)
    found = []
    for backend in ('torch', 'onnxruntime'):
        config = SegmenterConfig(backend=backend, device='cpu', engine_cache_dir=str(tmp_path))
        with Segmenter(checkpoint, config) as segmenter:
            found.append(segmenter.segment(list(pixels()), confidence=True)[0])
    assert (found[0].labels == found[1].labels).mean() > 0.999
    apart = np.abs(found[0].confidence.astype(int) - found[1].confidence)  # type: ignore
    assert apart.max() <= 1


@pytest.mark.parametrize('stride', [1, 4, 8])
@pytest.mark.parametrize('aligned', [True, False])
def test_scores_become_the_labels_that_torch_upsamples(stride: int, aligned: bool) -> None:
    small = (-(-SIZE[0] // stride), -(-SIZE[1] // stride))
    scores = torch.randn(1, 5, *small, generator=torch.Generator().manual_seed(0))
    full = torch.nn.functional.interpolate(scores, SIZE, mode='bilinear', align_corners=aligned)
    upsampling = make_upsampling(small, SIZE, aligned)
    assert (upsampling.labels(scores[0].numpy()) == full[0].argmax(0).numpy()).mean() > 0.9995
    expected = (255 * full[0].softmax(0).amax(0)).numpy()
    assert np.abs(upsampling.confidence(scores[0].numpy()) - expected).max() < 0.51


def test_cgnet_alone_does_not_align_corners() -> None:
    scores = torch.randn(1, 11, 5, 6)
    for name in ('lednet', 'cgnet'):
        expected = torch.nn.functional.interpolate(
            scores, (40, 48), mode='bilinear', align_corners=name == 'lednet')
        assert torch.equal(upsample(make_network(name, 11), scores, (40, 48)), expected)
