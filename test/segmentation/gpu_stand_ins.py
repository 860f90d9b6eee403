# SPDX-License-Identifier: Apache-2.0
"""A GPU's own parts, as far as the CPU can stand in for them."""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Stream:
    cuda_stream = 7

    def __init__(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...
    def wait_stream(self, other: 'Stream') -> None: ...


class Event:
    def __init__(self, **_: Any) -> None: ...
    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, until: 'Event') -> float:
        return 1.25


class Graph:
    """A CUDA graph: what was asked for while it was captured, done at each replay.

    As with a real one a capture computes nothing, so what it leaves in memory is no answer.
    """

    recording: 'Graph | None' = None  # the one being captured
    of_pool: list[Any] = []           # of each capture, the pool that it was given  # noqa: RUF012

    def __init__(self) -> None:
        self.steps: list[Callable[[], Any]] = []

    def replay(self) -> None:
        for step in self.steps:
            step()


class _Recorder(TorchDispatchMode):
    """Records torch's operators; TensorRT's engines record themselves (fake_tensorrt.py)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.written = graph, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if 'tensorrt' in str(func):
            return out
        outputs = [t for t in (out if isinstance(out, (tuple, list)) else (out,))
                   if isinstance(t, Tensor)]
        if not func.is_view:
            self.written += outputs

            def again() -> None:
                new = func(*args, **(kwargs or {}))
                for old, value in zip(outputs, new if isinstance(new, (tuple, list)) else (new,),
                                      strict=True):
                    if old is not value:
                        old.copy_(value)

            self.graph.steps.append(again)
        return out


@contextlib.contextmanager
def capture(graph: Graph, pool: Any = None, **_: Any) -> Iterator[None]:
    """Stands in for torch.cuda.graph."""
    Graph.of_pool.append(pool)
    Graph.recording = graph
    recorder = _Recorder(graph)
    try:
        with recorder:
            yield
    finally:
        Graph.recording = None
    for tensor in recorder.written:
        tensor.zero_()


@contextlib.contextmanager
def no_capture(*_: Any, **__: Any) -> Iterator[None]:
    raise RuntimeError('operation not permitted when stream is capturing')
    yield


def install(patch: pytest.MonkeyPatch) -> None:
    """Make the CPU the GPU."""
    def full(shape: Any, value: Any, **options: Any) -> Tensor:
        tensor = real_full(shape, value, **options)
        lying[tensor.numel(), tensor.dtype] = value
        return tensor

    def empty(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        tensor = real_empty(*shape, **options)
        value = lying.get((tensor.numel(), tensor.dtype))
        return tensor if value is None else tensor.fill_(value)

    lying: dict[Any, Any] = {}  # as torch's allocator gives out again what was freed last
    real_empty, real_full = torch.empty, torch.full
    stream = Stream()
    patch.setattr(torch, 'empty', empty)
    patch.setattr(torch, 'full', full)
    patch.setattr(Graph, 'of_pool', [])
    for name, stand_in in {
            'Stream': Stream, 'Event': Event, 'CUDAGraph': Graph, 'graph': capture,
            'graph_pool_handle': object, 'device': lambda _: contextlib.nullcontext(),
            'stream': lambda _: contextlib.nullcontext(), 'empty_cache': lambda: None,
            'mem_get_info': lambda *_: (100 << 20, 8192 << 20),
            'current_stream': lambda *_: stream, 'default_stream': lambda *_: Stream(),
            'current_device': lambda: 'cpu', 'get_device_capability': lambda *_: (8, 7),
            'get_device_name': lambda *_: 'Orin', 'get_arch_list': lambda: ['sm_80', 'sm_87'],
            'get_device_properties': lambda *_: types.SimpleNamespace(
                name='Orin', major=8, minor=7, total_memory=8192 << 20, is_integrated=1,
                multi_processor_count=16)}.items():
        patch.setattr(torch.cuda, name, stand_in)
