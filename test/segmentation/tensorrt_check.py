# SPDX-License-Identifier: Apache-2.0
"""Takes the deployable graph through Torch-TensorRT without a GPU; test_tensorrt.py runs it.

A program of its own, for the shim below patches torch. The calls inside are private API of exactly
torch-tensorrt-rtx 2.13.0. Takes [[what, argument, ...], ...] as JSON; the last line of stdout is a
JSON list of what was found, and printed, for each.
"""

import importlib.metadata
import io
import json
import os
import sys
import types
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch

from lednet_ros.cli import compile as lednet_compile
from lednet_ros.common.errors import first_line
from lednet_ros.model.checkpoint import Checkpoint, Metadata, Preprocessing
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.model.networks import make_network, upsample
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends.graph import LabelGraph, make_graph
from lednet_ros.segmentation.self_check import make_frames

CPU = torch.device('cpu')


CHECKED_WITH = '2.13.0'  # of torch and torch-tensorrt-rtx


def why_not() -> str | None:
    """Return why what needs these versions has to be skipped; None: they are there."""
    try:
        version = importlib.metadata.version('torch-tensorrt-rtx')
    except importlib.metadata.PackageNotFoundError:
        return 'no torch-tensorrt-rtx: pip install -r requirements/tensorrt_check.txt'
    ours = torch.__version__.partition('+')[0]
    if (version, ours) != (CHECKED_WITH, CHECKED_WITH):
        return (f'torch-tensorrt-rtx {version} and torch {ours}: the check is for '
                f'{CHECKED_WITH} of both')
    return None


def import_without_gpu(patch: pytest.MonkeyPatch) -> Any:
    """Import torch_tensorrt although there is no driver to ask about the GPU."""
    if not torch.cuda.is_available():
        gpu = types.SimpleNamespace(
            name='none', major=8, minor=6, total_memory=8 << 30, multi_processor_count=30)
        for name, answer in {
                'get_device_capability': (8, 6), 'current_device': 0,
                'get_device_properties': gpu, 'mem_get_info': (8 << 30, 8 << 30)}.items():
            patch.setattr(torch.cuda, name, lambda *a, answer=answer, **k: answer)
    if torch.version.cuda is None and not hasattr(torch._C, '_CudaDeviceProperties'):
        torch._C._CudaDeviceProperties = type('_CudaDeviceProperties', (), {})
    with pytest.MonkeyPatch.context() as hidden:
        if torch.version.cuda is None:  # the C++ runtime, which links against libtorch_cuda
            isfile = os.path.isfile
            hidden.setattr(os.path, 'isfile',
                           lambda p: 'libtorchtrt' not in os.fspath(p) and isfile(p))
        import torch_tensorrt
    return torch_tensorrt


def make_checkpoint(classes: int, network: str = 'lednet') -> Checkpoint:
    """Random weights: conversion does not depend on them."""
    torch.manual_seed(0)
    labels = builtin_label_set({20: 'cityscapes', 11: 'camvid'}[classes])
    return Checkpoint(make_network(network, classes).eval().requires_grad_(False), labels,
                      Preprocessing((0.3, 0.4, 0.5), (0.2, 0.3, 0.4)),
                      Metadata(512, 1024, temperature=1.7))


def check_graph(
    classes: int, height: int, width: int, confidence: bool, precision: str,
    network: str = 'lednet',
) -> dict[str, Any]:
    """What can be asserted without a GPU, as facts for the test to judge."""
    checkpoint, size = make_checkpoint(classes, network), (height, width)
    settings = tensorrt.build_settings(precision, gpu=0, is_integrated=False)
    floors = [1.5] * classes if confidence else []
    exported = tensorrt.export(
        make_graph(checkpoint, confidence, CPU, precision, floors), *size)
    tensorrt.partition(exported, *size, settings)  # raises AssertionError on a fallback
    exact = make_graph(checkpoint, confidence, CPU, 'fp32', floors)
    return {**build(exported, size, settings),
            'lowered_is_exact': is_exact(exact, lower(tensorrt.export(exact, *size)), size)}


def build(exported: Any, size: tuple[int, int], settings: dict[str, Any]) -> dict[str, Any]:
    """Build an engine as the backend does, and tell what TensorRT was given.

    RTX's runtime would have to read it once and needs a GPU for that: faked.
    """
    import tensorrt as trt
    from torch_tensorrt.dynamo.conversion import TRTInterpreter

    def construct(interpreter: Any) -> None:
        real(interpreter)
        network = interpreter.ctx.net
        facts.update(
            inputs=[describe(network.get_input(i)) for i in range(network.num_inputs)],
            outputs=[describe(network.get_output(i)) for i in range(network.num_outputs)],
            layers=network.num_layers)

    class Runtime:
        def __init__(self, logger: Any) -> None: ...

        def deserialize_cuda_engine(self, engine: Any) -> Any:
            return types.SimpleNamespace(serialize=lambda: engine)

    facts: dict[str, Any] = {}
    real = TRTInterpreter._construct_trt_network_def
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRTInterpreter, '_construct_trt_network_def', construct)
        patch.setattr(trt, 'Runtime', Runtime)
        return {'bytes': len(tensorrt.build_engine(exported, *size, settings)), **facts}


def lower(exported: Any) -> Any:
    """What Torch-TensorRT makes of the operators before it splits the graph."""
    import torch_tensorrt
    from torch_tensorrt.dynamo import CompilationSettings
    from torch_tensorrt.dynamo.lowering import (
        get_decompositions,
        post_lowering,
        pre_export_lowering,
    )
    settings = CompilationSettings(min_block_size=1, device=torch_tensorrt.Device(gpu_id=0))
    exported = pre_export_lowering(exported, settings).run_decompositions(
        get_decompositions(False))
    return post_lowering(exported.module(), settings)


def describe(tensor: Any) -> list[Any]:
    return [tensor.name, str(tensor.dtype).removeprefix('DataType.'), list(tensor.shape)]


class Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps what its argmax was given: the scores."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if 'argmax' in str(target):
            self.scores = args[0]
        return super().call_function(target, args, kwargs)


@torch.no_grad()
def is_exact(graph: LabelGraph, lowered: Any, size: tuple[int, int]) -> bool:
    """Whether the lowered graph gives the eager one's every bit, scores and outputs."""
    frames = torch.from_numpy(make_frames(1, *size))
    recorder = Recorder(lowered)
    outputs = recorder.run(frames)
    scores = upsample(graph.score_graph.network, graph.score_graph(frames), size)
    expected = graph(frames)
    return (torch.equal(recorder.scores, scores) and len(outputs) == len(expected)
            and all(map(torch.equal, outputs, expected)))


def check_fallback() -> str:
    """A graph that does not convert, so that the check is known to be able to fail."""
    class CastsInside(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return (frames.float() * 2).to(torch.uint8)

    frames = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    try:
        build(torch.export.export(CastsInside(), (frames,)), (8, 8),
              tensorrt.build_settings('fp32', gpu=0, is_integrated=False))
    except Exception as error:
        return first_line(error)
    return ''


def main() -> None:
    import_without_gpu(pytest.MonkeyPatch())
    checks = {
        'graph': check_graph,
        'fallback': check_fallback,
        'dry-run': lambda *argv: lednet_compile.main(['--dry-run', *argv]),
    }
    found = []
    for what, *arguments in json.loads(sys.argv[1]):
        with redirect_stdout(io.StringIO()) as printed:
            found.append([checks[what](*arguments)])
        found[-1].append(printed.getvalue())
    print(json.dumps(found))


if __name__ == '__main__':
    main()
