# SPDX-License-Identifier: Apache-2.0
"""The ONNX file for other runtimes, run in ONNX Runtime and, where it is here, in OpenVINO."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
import onnx
import onnxruntime
import torch

from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.onnx_export import ExportConfig, compare_with_torch, export_onnx
from lednet_ros.segmentation.self_check import make_frames

SIZE = (96, 128)


def with_void(checkpoint: Checkpoint, void: int) -> Checkpoint:
    classes = list(checkpoint.labels.classes)
    classes[void] = replace(classes[void], void=True)
    return replace(checkpoint, labels=LabelSet('some void', tuple(classes)))


@pytest.fixture(scope='module')
def trained() -> Checkpoint:
    """The shipped checkpoint, whose class 1 (building) is void."""
    return with_void(load_checkpoint(default_checkpoint()), 1)


def session_of(checkpoint: Checkpoint, config: ExportConfig) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(export_onnx(checkpoint, config).SerializeToString(),
                                        providers=['CPUExecutionProvider'])


def test_its_labels_are_the_segmenter_s_void_classes_included(trained) -> None:
    frames = make_frames(3, *SIZE)
    found, = session_of(trained, ExportConfig(*SIZE)).run(None, {'frames': frames})
    config = SegmenterConfig(backend='torch', input_height=SIZE[0], input_width=SIZE[1])
    with Segmenter(trained, config) as segmenter:
        expected = np.stack([one.labels for one in segmenter.segment(list(frames), rgb=True)])
    assert found.dtype == np.uint8
    assert 255 in expected
    assert 1 not in found
    assert (found == expected).mean() > 0.999


def test_its_scores_are_the_network_s(trained) -> None:
    frames = make_frames(2, *SIZE)
    found, = session_of(trained, ExportConfig(*SIZE, 'scores')).run(None, {'frames': frames})
    graph = ScoreGraph(trained.network, trained.preprocessing)
    expected = graph(torch.from_numpy(frames)).detach().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(('batch', 'expected'), [(0, 'N'), (4, 4)])
@pytest.mark.parametrize('outputs', ['labels', 'scores'])
def test_the_batch_is_fixed_or_any(trained, batch, expected, outputs) -> None:
    session = session_of(trained, ExportConfig(*SIZE, outputs, batch))
    assert session.get_inputs()[0].shape[0] == session.get_outputs()[0].shape[0] == expected


def test_its_metadata_say_what_the_labels_mean(trained) -> None:
    found = session_of(trained, ExportConfig(*SIZE)).get_modelmeta().custom_metadata_map
    assert json.loads(found['names']) == trained.labels.names
    assert LabelSet.from_dict(json.loads(found['label_set'])) == trained.labels
    assert found['unlabelled'] == '255'
    assert found['checkpoint_sha256'] == trained.sha256


def test_a_program_that_gives_other_labels_is_noticed(trained) -> None:
    session = session_of(trained, ExportConfig(*SIZE))

    def run(frames: np.ndarray) -> np.ndarray:
        return session.run(None, {'frames': frames})[0]

    assert compare_with_torch(trained, ExportConfig(*SIZE), run).agreement > 0.999
    assert compare_with_torch(trained, ExportConfig(*SIZE), lambda f: run(f) ^ 1).refusal


@pytest.mark.parametrize('batch', [0, 2])
@pytest.mark.parametrize('outputs', ['labels', 'scores'])
def test_openvino_agrees_with_torch(trained, outputs, batch, tmp_path) -> None:
    openvino = pytest.importorskip('openvino', reason='needs openvino')
    config = ExportConfig(*SIZE, outputs, batch)
    onnx.save(export_onnx(trained, config), tmp_path / 'it.onnx')
    program = openvino.Core().compile_model(tmp_path / 'it.onnx', 'CPU')
    check = compare_with_torch(trained, config, lambda frames: program(frames)[0])
    assert check.agreement > 0.999
