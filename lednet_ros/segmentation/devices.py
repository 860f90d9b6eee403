# SPDX-License-Identifier: Apache-2.0
"""Which device runs the network and in which precision, why there is no GPU, and how one fares."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from pathlib import Path

import torch

from lednet_ros.common.errors import BackendUnavailable, ConfigError
from lednet_ros.segmentation.config import SegmenterConfig

THERMAL = Path('/sys/class/thermal')


def choose_device(device: str) -> torch.device:
    """Return the device that a setting names. Raise BackendUnavailable with the remedy."""
    if device == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    chosen = torch.device(device)
    if chosen.type == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            there = f'{count} of them can be used' if count else why_no_gpu()
            raise BackendUnavailable(
                f'device {device}: {there}: choose device auto or cpu, or another GPU')
        return torch.device('cuda', chosen.index or 0)
    return chosen


def is_gpu(device: torch.device) -> bool:
    """Whether a device is a CUDA GPU."""
    return device.type == 'cuda'


def device_health(device: str) -> dict[str, float]:
    """
    Return a CUDA GPU's memory in MB, as the driver sees it, and temperature in degrees Celsius.

    Empty for the CPU and for a GPU that is lost. A Jetson's memory is the whole computer's, and
    its temperature the kernel's; a PC's is NVML's (nvidia-ml-py), and left out without it.
    """
    if not device.startswith('cuda'):
        return {}
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # who asks wants to report just that
        return {}
    health = {'gpu_used_mb': (total - free) / 1e6, 'gpu_total_mb': total / 1e6}
    try:
        health['gpu_temperature_c'] = float(torch.cuda.temperature(device))
    except Exception:  # not installed, no driver library, a Jetson
        with contextlib.suppress(OSError, ValueError):
            for zone in THERMAL.glob('thermal_zone*'):
                if 'gpu' in (zone / 'type').read_text(encoding='utf-8').lower():
                    health['gpu_temperature_c'] = int(
                        (zone / 'temp').read_text(encoding='utf-8')) / 1e3
    return health


def choose_precision(config: SegmenterConfig, device: torch.device) -> str:
    """Return 'fp16' or 'fp32'. Raise ConfigError for fp16 on the CPU."""
    if config.precision == 'auto':
        return 'fp16' if is_gpu(device) else 'fp32'
    if config.precision == 'fp16' and not is_gpu(device):
        raise ConfigError('precision is fp16 but the device is the CPU, which would only be '
                          'slower: choose precision auto or fp32')
    return config.precision


def why_no_gpu() -> str:
    """Return why torch finds no CUDA GPU, in words."""
    nodes = [node for pattern in ('/dev/nvidia[0-9]*', '/dev/nvhost-gpu', '/dev/nvgpu/igpu0')
             for node in glob.glob(pattern)]
    if not nodes:
        return 'no CUDA GPU'
    if torch.version.cuda is None:
        return (f'an NVIDIA GPU, but torch {torch.__version__} is a CPU build: install a CUDA '
                'build of torch')
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES')
    number = re.match(r'\d+', hidden or '')
    is_none = int(number[0]) >= len(nodes) if number else not re.match('GPU-|MIG-', hidden or '')
    if hidden is not None and is_none:
        return f"an NVIDIA GPU, but CUDA_VISIBLE_DEVICES is '{hidden}': unset it"
    closed = [node for node in nodes
              if os.path.exists(node) and not os.access(node, os.R_OK | os.W_OK)]
    if len(closed) == len(nodes):
        return (f'an NVIDIA GPU, but this user may not use {closed[0]}: add the user to the '
                'groups video and render, and log in anew')
    return (f'an NVIDIA GPU, but its driver does not fit CUDA {torch.version.cuda} of torch '
            f'{torch.__version__}: update the driver, or install a torch for an older CUDA')


def require_code_for(device: torch.device) -> None:
    """Raise BackendUnavailable where this torch has no code for a GPU, which its kernels need."""
    major, minor = torch.cuda.get_device_capability(device)
    built_for = torch.cuda.get_arch_list()  # 'sm_90', and 'compute_90': to be translated
    for architecture in built_for:
        kind, _, number = architecture.partition('_')
        digits = re.sub(r'\D', '', number)
        if kind not in ('sm', 'compute') or len(digits) < 2:  # as of ROCm: it says nothing here
            return
        has = int(digits[:-1]), int(digits[-1])
        if number.endswith('a'):  # 'sm_90a': for this one alone
            fits = has == (major, minor)
        elif kind == 'sm':
            fits = has[0] == major and has[1] <= minor
        else:
            fits = has <= (major, minor)
        if fits:
            return
    if built_for:
        raise BackendUnavailable(
            f'{device}: torch {torch.__version__} has no code for this GPU '
            f'({torch.cuda.get_device_name(device)}, sm_{major}{minor}), only for '
            f'{", ".join(built_for)}: install a torch built for it, or choose device cpu')
