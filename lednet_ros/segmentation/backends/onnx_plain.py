# SPDX-License-Identifier: Apache-2.0
"""The ScoreGraph in ONNX: written out where a network has a writer of its own, else exported."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import torch

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.networks import entry_of, name_of
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.backends.onnx_writer import build_onnx_model

OPSET = 18


def onnx_model(checkpoint: Checkpoint, height: int, width: int) -> bytes:
    """
    Return a serialized model: 'frames' uint8 (N, H, W, 3) RGB -> 'scores' float32 (N, C, h, w).

    h and w are H and W over the stride of the network's scores, rounded up.
    """
    if name_of(checkpoint.network) == 'lednet':
        return build_onnx_model(checkpoint, height, width)
    return export_plainly(checkpoint, height, width)


def export_plainly(checkpoint: Checkpoint, height: int, width: int) -> bytes:
    """Return what torch's exporter makes of the graph."""
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing).eval()
    frames = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings(), torch.no_grad():
        path = Path(directory) / 'plain.onnx'
        warnings.simplefilter('ignore')  # of Python values in the graph: sizes, which are meant
        torch.onnx.export(graph, (frames,), path, opset_version=OPSET, dynamo=False,
                          input_names=['frames'], output_names=['scores'])
        model = onnx.load(path)
    stride = entry_of(checkpoint.network).stride
    shapes = ((height, width, 3), (checkpoint.network.num_classes, -(-height // stride),
                                   -(-width // stride)))
    for value, shape in zip((*model.graph.input, *model.graph.output), shapes, strict=True):
        first, *others = value.type.tensor_type.shape.dim
        first.dim_param = 'N'  # all in it takes any number
        for dimension, size in zip(others, shape, strict=True):
            dimension.dim_value = size
    del model.graph.value_info[:]  # the shapes of one frame
    return model.SerializeToString()
