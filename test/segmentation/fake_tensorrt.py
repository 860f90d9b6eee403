# SPDX-License-Identifier: Apache-2.0
"""TensorRT's runtime, faked: the one part of torch_tensorrt's way that needs a GPU.

It fails as TensorRT does: by None or False, never by an exception, and a failed execution leaves
the outputs as they were.
"""

import ctypes
import functools
from typing import Any

import numpy as np
import torch
from gpu_stand_ins import Graph

from lednet_ros.segmentation.backends.graph import LabelGraph


class Gpu:
    """What the runtime below is to do; shared by all of a test's engines."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()  # 'deserialize', 'context', 'enqueue', 'capture'
        self.contexts: list[Context] = []  # all that were made
        self.exported: LabelGraph | None = None  # what an engine seen for the first time computes
        self.programs: dict[bytes, LabelGraph] = {}  # by engine
        self.spoils: list[bool] = []  # which of the next engines read give other labels

    def Runtime(self, logger: Any) -> 'Gpu':  # noqa: N802
        return self

    def deserialize_cuda_engine(self, engine: Any) -> 'Engine | None':
        if 'deserialize' in self.refuses:
            return None
        content = bytes(engine)
        program = self.programs.setdefault(content, self.exported)  # type: ignore[arg-type]
        return Engine(self, content, program, bool(self.spoils and self.spoils.pop(0)))


class Engine:
    streamable_weights_size = 0

    def __init__(
        self, gpu: Gpu, content: bytes, program: LabelGraph, is_spoilt: bool
    ) -> None:
        self.gpu, self.content, self.program, self.is_spoilt = gpu, content, program, is_spoilt

    def serialize(self) -> bytes:
        return self.content

    def get_tensor_dtype(self, name: str) -> Any:
        import tensorrt
        return tensorrt.DataType.UINT8 if name == 'frames' else tensorrt.DataType.INT32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, -1, -1)

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_execution_context(self, strategy: Any) -> 'Context | None':
        if 'context' in self.gpu.refuses:
            return None
        context = Context(self)
        self.gpu.contexts.append(context)
        return context


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape[:3]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        refuses = self.engine.gpu.refuses
        if 'enqueue' in refuses or ('capture' in refuses and Graph.recording):
            return False
        addresses = dict(self.addresses)
        if Graph.recording:
            Graph.recording.steps.append(lambda: self._compute(addresses))
        else:
            self._compute(addresses)
        return True

    def _compute(self, addresses: dict[str, int]) -> None:
        frames = _at(addresses['frames'], self.shape, ctypes.c_uint8)
        if self.engine.is_spoilt:
            frames = 255 - frames
        outputs = _outputs(self.engine.program, frames.tobytes(), self.shape)
        for i, output in enumerate(outputs):
            _at(addresses[f'output{i}'], self.shape[:3], ctypes.c_int32)[:] = output


@functools.lru_cache
def _outputs(program: LabelGraph, frames: bytes, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Remembered, for fp16 is slow on a CPU and the frames are mostly the same."""
    with torch.no_grad():
        pixels = torch.frombuffer(bytearray(frames), dtype=torch.uint8).view(shape)
        return [output.numpy() for output in program(pixels)]


def _at(address: int, shape: tuple[int, ...], of: Any) -> np.ndarray:
    return np.ctypeslib.as_array((of * int(np.prod(shape))).from_address(address)).reshape(shape)
