# SPDX-License-Identifier: Apache-2.0
"""What the two benchmarks measure with: checkpoints, frames, turns, and the machine's own rate."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import ConfigError
from lednet_ros.segmentation.backends.registry import names

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lednet_ros.model.checkpoint import Checkpoint

T = TypeVar('T')

REST_S = 0.1  # the threads of the contender before wait busily for a while: let them fall asleep
GPU_CALLS = 5  # of a contender in a row, of which the last counts: a GPU's clocks fall as it waits
_MATMUL = 1024  # the side of the square matrices of a product


@dataclass(frozen=True)
class Knobs:
    """What is measured. benchmarks/run.py shows them with their values."""

    backends: tuple[str, ...] = names('cpu')
    sizes: tuple[tuple[int, int], ...] = ((256, 512), (512, 1024), (1024, 2048))
    batches: tuple[int, ...] = (1, 2, 4)
    rounds: int = 15
    device: str = 'cpu'
    classes: int = 20
    checkpoint: str = ''  # '': the shipped one; its classes are repeated to make `classes`
    images: str = ''      # a directory of camera images; '': frames drawn by code


def take_turn(measure: Callable[[], T], device: str) -> T:
    """Return what is measured, rested on a CPU and warm on a GPU."""
    if not device.startswith('cuda'):
        time.sleep(REST_S)
        return measure()
    for _ in range(GPU_CALLS - 1):
        measure()
    return measure()


def make_checkpoint(knobs: Knobs) -> Checkpoint:
    """
    Return a trained network with as many classes as wanted.

    Where the file has fewer, its classes are repeated with nine tenths of their scores: labels
    stay plausible, and every class costs what it costs.
    """
    from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
    from lednet_ros.model.labels import LabelClass, LabelSet
    from lednet_ros.model.lednet import LEDNet
    loaded = load_checkpoint(knobs.checkpoint or default_checkpoint())
    known = len(loaded.labels)
    if knobs.classes == known:
        return loaded
    network = LEDNet(knobs.classes)
    weights = network.state_dict()
    for name, value in loaded.network.state_dict().items():
        wanted = weights[name].shape
        if wanted == value.shape:
            weights[name] = value
            continue
        index = [i % known for i in range(knobs.classes)]
        weights[name] = value[index].clone()
        if name.endswith(('bn.weight', 'bn.bias')):
            weights[name][known:] *= 0.9
    network.load_state_dict(weights)
    labels = LabelSet('benchmark', tuple(
        LabelClass(f'class {i}', (i, i, i), 'any') for i in range(knobs.classes)))
    return Checkpoint(network.eval().requires_grad_(False), labels, loaded.preprocessing,
                      loaded.metadata)


def camera_frames(knobs: Knobs, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """BGR frames of the network's size: from the directory, else drawn with a fixed seed."""
    import cv2
    import numpy as np

    from lednet_ros.images.encodings import BadImage, read_image
    from lednet_ros.images.sources import list_images
    height, width = size
    if knobs.images:
        try:
            paths, _ = list_images(Path(knobs.images))
        except ConfigError as error:
            raise ConfigError(f'images: {error}') from error
        step = max(1, len(paths) // count)
        chosen = [paths[i * step % len(paths)] for i in range(count)]
        images = []
        for path in chosen:
            try:
                image = read_image(path)
            except BadImage as error:
                raise ConfigError(f'images: {path}: {error}: remove it') from error
            images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        return images
    random = np.random.default_rng(0)
    frames: list[np.ndarray] = []
    for _ in range(count):
        frame: np.ndarray = np.full((height, width, 3), (200, 160, 120), np.uint8)
        frame[height // 2:] = (90, 90, 90)
        for _ in range(25):
            x, y = random.integers(0, (width, height))
            w, h = random.integers((width // 40, height // 20), (width // 5, height // 3))
            cv2.rectangle(frame, (int(x), int(y)), (int(x + w), int(y + h)),
                          random.integers(0, 256, 3).tolist(), -1)
        noise = random.integers(0, 20, frame.shape, np.uint8)
        frames.append(np.maximum(frame, noise))
    return frames


def count_gmac(checkpoint: Checkpoint, size: tuple[int, int]) -> float:
    """Multiply-accumulates of the convolutions for one frame, in 10^9."""
    import torch
    total = 0

    def count(
        module: torch.nn.Conv2d | torch.nn.ConvTranspose2d, inputs: Any, output: torch.Tensor
    ) -> None:
        nonlocal total
        at = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        total += at[0].numel() * module.weight[0].numel()

    network = copy.deepcopy(checkpoint.network).to('meta')
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(count)
    network(torch.empty(1, 3, *size, device='meta'))
    return total / 1e9


def matmul_gflops(device: str) -> float:
    """Return the machine's rate in a matrix product right now: fp32 on a CPU, fp16 on a GPU."""
    import torch
    on_gpu = device.startswith('cuda')
    side = 4 * _MATMUL if on_gpu else _MATMUL
    a = torch.ones(side, side, device=device if on_gpu else 'cpu',
                   dtype=torch.float16 if on_gpu else torch.float32)
    a @ a
    if on_gpu:
        torch.cuda.synchronize(device)
    from_s = time.perf_counter()
    repeats = 10
    for _ in range(repeats):
        a @ a
    if on_gpu:
        torch.cuda.synchronize(device)
    return repeats * 2 * side ** 3 / (time.perf_counter() - from_s) / 1e9


def machine(device: str) -> str:
    """Name what was measured on."""
    if device.startswith('cuda'):
        import torch
        return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'
    model = platform.processor() or platform.machine()
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                model = line.partition(':')[2].strip()
                break
    except OSError:
        pass  # not Linux
    return f'{model}, {usable_cores()} cores'
