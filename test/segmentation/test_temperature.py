# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's temperature: it changes confidence, in every backend alike, and no label."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.model.lednet import resize
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends.graph import LabelGraph, ScoreGraph
from lednet_ros.segmentation.self_check import make_frames

FRAME = make_frames(1, 96, 128)[0]


@pytest.fixture(scope='module')
def trained() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


def with_temperature(checkpoint: Checkpoint, temperature: float) -> Checkpoint:
    return replace(checkpoint, metadata=replace(checkpoint.metadata, temperature=temperature))


def expected_confidence(checkpoint: Checkpoint, temperature: float) -> np.ndarray:
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing)
    with torch.no_grad():
        scores = resize(graph(torch.from_numpy(FRAME)[None]), FRAME.shape[:2])[0]
    return (255 * (scores / temperature).softmax(0).amax(0)).numpy()


@pytest.mark.parametrize('backend', ['torch', 'onnxruntime'])
def test_labels_are_bit_equal_and_confidence_is_that_of_scores_divided(
    trained: Checkpoint, tmp_path: Path, backend: str
) -> None:
    if backend == 'onnxruntime':
        pytest.importorskip('onnxruntime')
    config = SegmenterConfig(backend=backend, device='cpu', input_height=96, input_width=128,
                             engine_cache_dir=str(tmp_path))
    found = {}
    for temperature in (1.0, 2.5):
        with Segmenter(with_temperature(trained, temperature), config) as segmenter:
            found[temperature] = segmenter.segment([FRAME], rgb=True, confidence=True)[0]
        confidence = found[temperature].confidence
        assert confidence is not None
        assert np.abs(confidence - expected_confidence(trained, temperature)).max() <= 1
    assert np.array_equal(found[1.0].labels, found[2.5].labels)


def test_onnxruntime_needs_no_other_model_for_another_temperature(
    trained: Checkpoint, tmp_path: Path
) -> None:
    pytest.importorskip('onnxruntime')
    config = SegmenterConfig(backend='onnxruntime', device='cpu', input_height=96,
                             input_width=128, engine_cache_dir=str(tmp_path))
    for temperature in (1.0, 2.5):
        Segmenter(with_temperature(trained, temperature), config).close()
    assert len(list(tmp_path.glob('*.engine'))) == 1


def test_a_temperature_of_one_leaves_the_graph_as_it_was(trained: Checkpoint) -> None:
    """So that nothing is compiled into programs of files without one."""
    nodes = {}
    for temperature in (1.0, 2.5):
        graph = LabelGraph(trained.network, trained.preprocessing, True, temperature).eval()
        exported = torch.export.export(graph, (torch.from_numpy(FRAME)[None],))
        nodes[temperature] = len(exported.graph.nodes)
    assert nodes[2.5] == nodes[1.0] + 1
