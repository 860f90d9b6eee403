# SPDX-License-Identifier: Apache-2.0
"""Which torch, torch_tensorrt and TensorRT go together: one table, for the errors and the docs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lednet_ros.common.errors import BackendUnavailable

INSTEAD = 'or choose backend torch or onnxruntime'


@dataclass(frozen=True)
class Route:
    """What is installed together, and how far it was tried."""

    torch: str     # of torch, and of torch_tensorrt alike
    tensorrt: str
    cuda: str      # that torch_tensorrt is built for
    machine: str
    state: str     # 'tested': run on a GPU; 'built': our graph converted and an engine serialized
    #                without one, by TensorRT-RTX's builder; 'read': its sources have what we call


# From the packages' metadata, and from what NVIDIA and torch_tensorrt's notes say of JetPack.
ROUTES = (
    Route('2.8', '10.3', '12.6', 'JetPack 6', 'built'),
    Route('2.8', '10.12', '12.8', 'PC', 'built'),
    Route('2.9', '10.13', '13.0', 'JetPack 7.0 and 7.1', 'read'),
    Route('2.9', '10.13', '13.0', 'PC', 'read'),
    Route('2.10', '10.14', '13.0', 'PC', 'read'),
    Route('2.11', '10.15', '13.0', 'PC', 'built'),
    Route('2.12', '10.16', '13.0', 'JetPack 7.2', 'read'),
    Route('2.12', '10.16', '13.0', 'PC', 'read'),
    Route('2.13', '11.0', '13.2', 'PC', 'built'),
    Route('2.14', '11.1', '13.2', 'PC', 'read'),
)


def check_versions(torch: str, torch_tensorrt: str, tensorrt: str | None = None) -> str | None:
    """
    Return what is doubtful about versions that may still work together; None: nothing.

    Raise BackendUnavailable, with what to install, for versions that cannot.
    """
    number = _number(torch_tensorrt)
    routes = [route for route in ROUTES if route.torch == number]
    there = f'torch {torch}, torch_tensorrt {torch_tensorrt}' + (
        f' and TensorRT {tensorrt}' if tensorrt else '')
    if not routes or _number(torch) != number:
        raise BackendUnavailable(
            f'tensorrt: {there} do not work together here: install {wanted(torch)}, {INSTEAD}')
    if tensorrt is None or _number(tensorrt) in [route.tensorrt for route in routes]:
        return None
    fitting = ' or '.join(dict.fromkeys(route.tensorrt for route in routes))
    if tensorrt.split('.')[0] not in [route.tensorrt.split('.')[0] for route in routes]:
        raise BackendUnavailable(
            f'tensorrt: {there} do not work together: install TensorRT {fitting}, or the '
            f'torch and torch_tensorrt that fit TensorRT {tensorrt}, {INSTEAD}')
    return f'{there}: made for TensorRT {fitting}'


def wanted(torch: str) -> str:
    """Return what to install beside this torch, in words; with which torch, where none fits it."""
    fitting = dict.fromkeys(r.tensorrt for r in ROUTES if r.torch == _number(torch))
    if fitting:
        return f'torch_tensorrt {_number(torch)} and TensorRT {" or ".join(fitting)}'
    boards = ', '.join(f'{r.machine}: {r.torch}' for r in ROUTES if r.machine != 'PC')
    return (f'torch {ROUTES[0].torch} to {ROUTES[-1].torch} and torch_tensorrt of the same number '
            f'({boards})')


def table() -> str:
    """Return ROUTES as docs/gpu.md shows them, in Markdown."""
    return '\n'.join([
        '| torch and torch_tensorrt | TensorRT | CUDA | machine | state |', '|' + '---|' * 5,
        *(f'| {r.torch} | {r.tensorrt} | {r.cuda} | {r.machine} | {r.state} |' for r in ROUTES)])


def _number(version: str) -> str:
    """Return a version's first two numbers: '2.13' of '2.13.0+cu130'."""
    return '.'.join(re.findall(r'\d+', version)[:2])
