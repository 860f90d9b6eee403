# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as an ONNX file for other runtimes, with its classes inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.labels import UNLABELLED, LabelSet
from lednet_ros.model.networks import entry_of, upsample
from lednet_ros.segmentation.backends.onnx_plain import onnx_model
from lednet_ros.segmentation.self_check import SelfCheck, self_check

OUTPUTS = ('labels', 'scores')


@dataclass(frozen=True)
class ExportConfig:
    """What the file's program takes and gives."""

    height: int              # of the frames, in pixels
    width: int
    outputs: str = 'labels'  # one of OUTPUTS
    batch: int = 0           # frames at once; 0: as many as the caller brings


def export_onnx(checkpoint: Checkpoint, config: ExportConfig) -> Any:
    """
    Return an onnx.ModelProto: 'frames' uint8 (N, H, W, 3) RGB -> one output.

    'labels' is uint8 (N, H, W), class ids, 255 for void classes, as the Segmenter's. 'scores' is
    float32 (N, C, h, w), before upsampling and softmax: LEDNet's at 1/8 of the size, rounded up.
    """
    model = onnx.load_model_from_string(onnx_model(checkpoint, config.height, config.width))
    if config.outputs == 'labels':
        _append_labels(model.graph, checkpoint, config)
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if config.batch:
            first.dim_value = config.batch
        else:
            first.dim_param = 'N'
    helper.set_model_props(model, _metadata(checkpoint, config))
    onnx.checker.check_model(model, full_check=True)
    return model


def _append_labels(graph: Any, checkpoint: Checkpoint, config: ExportConfig) -> None:
    """Replace the scores by upsampling, argmax and the ids that void classes come out with."""
    entry = entry_of(checkpoint.network)
    full_scores = 'scores'
    if entry.stride > 1:
        full_scores = 'full_scores'
        graph.initializer.append(numpy_helper.from_array(
            np.array([config.height, config.width], np.int64), 'full_size'))
        graph.node.append(helper.make_node(
            'Resize', ['scores', '', '', 'full_size'], [full_scores], axes=[2, 3], mode='linear',
            coordinate_transformation_mode='align_corners' if entry.aligned else 'half_pixel'))
    graph.node.append(helper.make_node('ArgMax', [full_scores], ['class_ids'], axis=1, keepdims=0))
    if checkpoint.labels.void_ids:
        graph.initializer.append(
            numpy_helper.from_array(label_of_class(checkpoint.labels), 'label_of_class'))
        graph.node.append(helper.make_node('Gather', ['label_of_class', 'class_ids'], ['labels']))
    else:
        graph.node.append(helper.make_node(
            'Cast', ['class_ids'], ['labels'], to=TensorProto.UINT8))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(
        'labels', TensorProto.UINT8, ['N', config.height, config.width]))


def _metadata(checkpoint: Checkpoint, config: ExportConfig) -> dict[str, str]:
    """Return what the file says of itself; each value is text, JSON where it has parts."""
    return {
        'names': json.dumps(checkpoint.labels.names),
        'label_set': json.dumps(checkpoint.labels.to_dict()),
        'unlabelled': str(UNLABELLED),
        'input': f'uint8 (N, {config.height}, {config.width}, 3) RGB, 0 to 255: nothing else is '
                 'to be done to it',
        'output': config.outputs,
        'temperature': str(checkpoint.metadata.temperature),  # divide scores by it, then softmax
        'checkpoint': checkpoint.name,
        'checkpoint_sha256': checkpoint.sha256,
    }


def label_of_class(labels: LabelSet) -> np.ndarray:
    """Return what each class comes out as, uint8 (classes,): its id, or 255 where it is void."""
    table = np.arange(len(labels), dtype=np.uint8)
    table[labels.void_ids] = UNLABELLED
    return table


def compare_with_torch(
    checkpoint: Checkpoint, config: ExportConfig, run: Callable[[np.ndarray], np.ndarray]
) -> SelfCheck:
    """Compare what a runtime gives for frames, `run`, with the network in fp32."""
    if config.outputs == 'labels':
        return self_check(checkpoint, lambda frames: [run(frames)], config.height, config.width,
                          config.batch or 2, label_of_class(checkpoint.labels))

    def labels(frames: np.ndarray) -> list[np.ndarray]:
        scores = upsample(checkpoint.network, torch.from_numpy(run(frames)),
                          (config.height, config.width))
        return [scores.argmax(1).numpy()]

    return self_check(checkpoint, labels, config.height, config.width, config.batch or 2)
