# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of this folder."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lednet_ros.segmentation.backends import cuda


class Stream:
    def __init__(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...


class Event:
    def __init__(self, **_: Any) -> None: ...
    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, until: 'Event') -> float:
        return 1.25


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is the CPU and which cannot capture CUDA graphs."""
    @contextlib.contextmanager
    def no_capture(*_: Any, **__: Any) -> Iterator[None]:
        raise RuntimeError('operation not permitted when stream is capturing')
        yield

    def empty(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        return real_empty(*shape, **options)

    real_empty = torch.empty
    monkeypatch.setattr(cuda.torch, 'empty', empty)
    for name, stand_in in {
            'Stream': Stream, 'Event': Event, 'CUDAGraph': object, 'graph': no_capture,
            'device': lambda _: contextlib.nullcontext(),
            'stream': lambda _: contextlib.nullcontext(), 'empty_cache': lambda: None,
            'mem_get_info': lambda _: (100 << 20, 8192 << 20)}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
