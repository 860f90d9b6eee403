# SPDX-License-Identifier: Apache-2.0
"""Takes the deployable graph through Torch-TensorRT without a GPU; test_tensorrt.py runs it.

A program of its own, for the shim below patches torch. The calls inside are private API of exactly
torch-tensorrt-rtx 2.13.0. What it finds goes to stdout as one line of JSON, the last.
"""

import inspect
import json
import os
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import torch

from lednet_ros.checkpoint import Checkpoint, Metadata, Preprocessing
from lednet_ros.labels import builtin_label_set
from lednet_ros.lednet import LEDNet, resize
from lednet_ros.segmentation import compile as lednet_compile
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends import torch as torch_backend
from lednet_ros.segmentation.graph import LabelGraph
from lednet_ros.segmentation.self_check import make_frames

GPU = torch.device('cuda:0')
CPU = torch.device('cpu')


def import_without_gpu() -> Any:
    """Import torch_tensorrt although there is no driver to ask about the GPU."""
    if not torch.cuda.is_available():
        gpu = types.SimpleNamespace(
            name='none', major=8, minor=6, total_memory=8 << 30, multi_processor_count=30)
        torch.cuda.get_device_capability = lambda *a, **k: (8, 6)
        torch.cuda.current_device = lambda *a, **k: 0
        torch.cuda.get_device_properties = lambda *a, **k: gpu
        torch.cuda.mem_get_info = lambda *a, **k: (8 << 30, 8 << 30)
    isfile = os.path.isfile
    if torch.version.cuda is None:  # hide the C++ runtime, which links against libtorch_cuda
        os.path.isfile = lambda p: False if 'libtorchtrt' in os.fspath(p) else isfile(p)
        if not hasattr(torch._C, '_CudaDeviceProperties'):
            torch._C._CudaDeviceProperties = type('_CudaDeviceProperties', (), {})
    try:
        import torch_tensorrt
    finally:
        os.path.isfile = isfile
    return torch_tensorrt


def make_checkpoint(classes: int) -> Checkpoint:
    """Random weights: conversion does not depend on them."""
    torch.manual_seed(0)
    labels = builtin_label_set({20: 'cityscapes', 11: 'camvid'}[classes])
    return Checkpoint(LEDNet(classes).eval().requires_grad_(False), labels,
                      Preprocessing((0.3, 0.4, 0.5), (0.2, 0.3, 0.4)), Metadata(512, 1024))


def check_graph(
    classes: int, height: int, width: int, batch: int, confidence: bool, precision: str
) -> dict[str, Any]:
    """The four assertions that need no GPU, as facts for the test to judge."""
    checkpoint, size = make_checkpoint(classes), (height, width, batch)
    graph = torch_backend.make_graph(checkpoint, confidence, CPU, precision)
    exported = tensorrt.export(graph, *size)

    # Raises AssertionError where an operator would stay with torch.
    settings = tensorrt.compile_settings(precision, GPU) | {'dryrun': True}
    tensorrt.compile_exported(exported, *size, settings)

    engines = list(build_engines(lower(exported)))
    exact = torch_backend.make_graph(checkpoint, confidence, CPU, 'fp32')
    return {'engines': engines,
            'lowered_is_exact': is_exact(exact, lower(tensorrt.export(exact, *size)), size)}


def lower(exported: Any) -> Any:
    """What Torch-TensorRT makes of the operators before it splits the graph."""
    from torch_tensorrt.dynamo.lowering import (
        get_decompositions,
        post_lowering,
        pre_export_lowering,
    )
    settings = compilation_settings()
    exported = pre_export_lowering(exported, settings).run_decompositions(
        get_decompositions(False))
    return post_lowering(exported.module(), settings)


def build_engines(lowered: Any) -> Iterator[dict[str, Any]]:
    """Split a lowered graph; build each part's network and engine."""
    from torch_tensorrt.dynamo import partitioning
    from torch_tensorrt.dynamo.conversion import TRTInterpreter
    from torch_tensorrt.dynamo.conversion._ConverterRegistry import DYNAMO_CONVERTERS
    settings = compilation_settings()
    DYNAMO_CONVERTERS.set_compilation_settings(settings)
    supported, total = partitioning.get_graph_converter_support(
        lowered, settings.torch_executed_ops)
    parts, _ = partitioning.fast_partition(
        lowered, min_block_size=1, torch_executed_ops=settings.torch_executed_ops,
        skip_fusion=(supported == total))
    for name, part in parts.named_children():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        if '_run_on_acc' not in name:
            yield {'falls_back': [str(n.target) for n in part.graph.nodes
                                  if n.op == 'call_function']}
            continue
        interpreter = TRTInterpreter(
            part, partitioning.construct_submodule_inputs(part), compilation_settings=settings)
        interpreter._construct_trt_network_def()
        network = interpreter.ctx.net
        engine = interpreter.builder.build_serialized_network(
            network, interpreter._populate_trt_builder_config())
        yield {
            'inputs': [describe(network.get_input(i)) for i in range(network.num_inputs)],
            'outputs': [describe(network.get_output(i)) for i in range(network.num_outputs)],
            'layers': network.num_layers, 'bytes': engine.nbytes if engine else 0}


def describe(tensor: Any) -> list[Any]:
    return [str(tensor.dtype).removeprefix('DataType.'), list(tensor.shape)]


def compilation_settings() -> Any:
    import torch_tensorrt
    from torch_tensorrt.dynamo import CompilationSettings
    return CompilationSettings(min_block_size=1, device=torch_tensorrt.Device(gpu_id=0))


class Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps what its argmax was given: the scores."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if 'argmax' in str(target):
            self.scores = args[0]
        return super().call_function(target, args, kwargs)


@torch.no_grad()
def is_exact(graph: LabelGraph, lowered: Any, size: tuple[int, int, int]) -> bool:
    """Whether the lowered graph gives the eager one's every bit, scores and outputs."""
    height, width, max_batch = size
    for batch in range(1, max_batch + 1):
        frames = torch.from_numpy(make_frames(batch, height, width))
        recorder = Recorder(lowered)
        outputs = recorder.run(frames)
        scores = resize(graph.score_graph(frames), (height, width))
        expected = graph(frames)
        if not (torch.equal(recorder.scores, scores) and len(outputs) == len(expected)
                and all(map(torch.equal, outputs, expected))):
            return False
    return True


def check_fallback() -> list[dict[str, Any]]:
    """A graph that does not convert, so that the check is known to be able to fail."""
    class CastsInside(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.float() * 2).to(torch.uint8)

    frames = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    return list(build_engines(lower(torch.export.export(CastsInside(), (frames,)))))


def main() -> None:
    what, arguments = sys.argv[1], json.loads(sys.argv[2])
    torch_tensorrt = import_without_gpu()
    from_s = time.perf_counter()
    found = {
        'graph': check_graph,
        'fallback': check_fallback,
        'signatures': lambda: {
            'compile': list(inspect.signature(torch_tensorrt.dynamo.compile).parameters),
            'save': list(inspect.signature(torch_tensorrt.save).parameters)},
        'dry-run': lambda *argv: lednet_compile.main(['--dry-run', *argv]),
    }[what](*arguments)
    print(json.dumps({'found': found, 'seconds': time.perf_counter() - from_s}))


if __name__ == '__main__':
    main()
