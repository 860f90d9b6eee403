# SPDX-License-Identifier: Apache-2.0
"""The processes that train together under torchrun, or one alone."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

# Before there is a process group: imported later, as optimizers do, it keeps the group as a
# default argument (torch 2.13), whose threads then abort a process that ends after another.
import torch.distributed.nn
from torch import Tensor, nn

from lednet_ros.common.errors import LednetRosError

T = TypeVar('T')

PATIENCE = timedelta(hours=2)  # the first alone reads the whole data set while all wait


@dataclass(frozen=True)
class Processes:
    """Which one of how many there are. All call the same methods in the same order."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """
        Broadcast what the first one makes: it alone reads and writes files.

        A LednetRosError is raised in all of them.
        """
        value: Any = None
        if self.is_first:
            try:
                value = make()
            except LednetRosError as error:
                value = error
        if self.count > 1:
            values = [value]
            dist.broadcast_object_list(values)
            value = values[0]
        if isinstance(value, LednetRosError):
            value.is_said_elsewhere = not self.is_first
            raise value
        return value

    def sum(self, value: Tensor) -> Tensor:
        """Add up a tensor over all, without gradients."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        """Return the tensors of all, of one shape, one after another; without gradients."""
        if self.count == 1:
            return value
        values = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(values, value.contiguous())
        return torch.cat(values)

    def differentiable_sum(self, value: Tensor) -> Tensor:
        """Add up a tensor over all; its gradient is the sum of their gradients."""
        return _sum(value) if self.count > 1 else value

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether it is so for one of them."""
        return bool(self.sum(torch.tensor(float(value), device=device)).item())


def join_processes(device: torch.device) -> Processes:
    """Meet the others that torchrun started; alone without it."""
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if device.type == 'cuda':
        torch.cuda.set_device(device)  # what names no GPU, as pinning memory does, means this one
    if count == 1:
        return Processes()
    if not dist.is_initialized():
        dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo', timeout=PATIENCE)
    return Processes(dist.get_rank(), count)


def leave_processes() -> None:
    """Part from the others, if there are any, when all went well."""
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # DistributedDataParallel lies in cycles, and keeps the group's threads


def end_at_once(code: int) -> NoReturn:
    """End after an error: to part in order would wait for others that wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_of_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process ended while this one waited for it."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and 'gloo' in str(error))


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Make batch normalisation see the batch of all processes."""
    if device.type == 'cuda':
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
    return network


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """What nn.SyncBatchNorm does, for the CPU, where PyTorch has none; equal parts of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        count = dist.get_world_size()
        mean = _sum(x.float().mean((0, 2, 3))) / count
        centred = x.float() - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().mean((0, 2, 3))) / count
        with torch.no_grad():
            n = x.numel() // x.shape[1] * count
            momentum = self.momentum or 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (n / max(n - 1, 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        y = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        return (y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total
