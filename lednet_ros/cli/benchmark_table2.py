# SPDX-License-Identifier: Apache-2.0
"""
lednet_benchmark --table 2: the paper's Table 2, all its networks measured on this machine.

Three things are timed of each, at the paper's 1024x512, one frame at a time:

- as the paper timed it: the network alone, its batch normalisation left out, and neither the last
  upsampling nor the choice of a class;
- all of it by torch: with these;
- camera to labels: pixels in, label image out, by the backend that a robot would have.

All take turns, one frame each a round; medians.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lednet_ros.cli import benchmark_measuring
from lednet_ros.cli.benchmark_measuring import (
    Knobs,
    camera_frames,
    count_gmac,
    machine,
    take_turn,
)
from lednet_ros.common.errors import BackendUnavailable

if TYPE_CHECKING:
    from lednet_ros.model.checkpoint import Checkpoint
    from lednet_ros.model.networks import AnyNetwork
    from lednet_ros.segmentation import Segmenter

SIZE = (512, 1024)
CLASSES = 20  # 19 and the background, as the paper has it
ROUNDS = 5
BARE, WHOLE, LABELS = 'as the paper timed it', 'all of it by torch', 'camera to labels'
# Class and category mIoU on Cityscapes' test split, ms, frames a second, million parameters, on a
# GTX 1080 Ti. ERFNet has no row there, and LEDNet1D is its future work.
PAPER = {
    'segnet': ('57.0', '79.1', '67', '15', '29.5'), 'enet': ('58.3', '80.4', '34', '31', '0.36'),
    'espnet': ('60.3', '82.2', '9', '112', '0.40'), 'cgnet': ('64.8', '85.7', '20', '50', '0.50'),
    'erfnet': ('-', '-', '-', '-', '-'), 'icnet': ('69.5', '86.4', '33', '30', '7.80'),
    'lednet': ('70.6', '87.1', '14', '71', '0.94'), 'lednet_1d': ('-', '-', '-', '-', '-'),
}


@dataclass(frozen=True)
class NetworkRow:
    """One network. Milliseconds are medians, of one frame."""

    name: str
    title: str
    parameters: int
    gmac: float
    bare_ms: float
    whole_ms: float
    labels_ms: float
    memory_mb: float | None  # resident at most, in a process of its own; None: not measured


@dataclass(frozen=True)
class Table2:
    """All of one run."""

    machine: str
    backend: str
    size: tuple[int, int]  # height, width
    rounds: int
    rows: list[NetworkRow]

    def markdown(self) -> str:
        """Return tables for people: what was measured here, and the paper's figures beside."""
        lines = [
            f'Machine: {self.machine}. {self.size[1]}x{self.size[0]}, {CLASSES} classes, one '
            f'frame, {self.rounds} interleaved rounds, medians.',
            f'"{BARE}": torch, the network alone without batch normalisation, last upsampling and '
            f'argmax. "{WHOLE}": with these. "{LABELS}": {self.backend}.', '',
            f'| Method | Para(M) | GMAC | {BARE}: ms | fps | {WHOLE}: ms | fps | {LABELS}: ms | '
            'fps | memory MB | paper: Cla | Cat | Time(ms) | Speed(Fps) | Para(M) |',
            '|' + '---|' * 15]
        for row in self.rows:
            cells = [row.title, f'{row.parameters / 1e6:.2f}', f'{row.gmac:.2f}']
            for ms in (row.bare_ms, row.whole_ms, row.labels_ms):
                cells += [f'{ms:.1f}', f'{1e3 / ms:.1f}']
            cells.append('-' if row.memory_mb is None else f'{row.memory_mb:.0f}')
            lines.append('| ' + ' | '.join([*cells, *PAPER[row.name]]) + ' |')
        return '\n'.join([*lines, '', *self._claims(), ''])

    def _claims(self) -> Iterator[str]:
        """Yield what the paper says of these figures, with what they say here."""
        found = {row.name: row for row in self.rows}
        if not {'lednet', 'segnet', 'enet'} <= set(found):
            return
        ours, segnet, enet = (found[name] for name in ('lednet', 'segnet', 'enet'))
        yield (f'Paper: "nearly 5x faster and 30x smaller than SegNet". Here: '
               f'{segnet.bare_ms / ours.bare_ms:.1f}x faster as it timed them, '
               f'{segnet.labels_ms / ours.labels_ms:.1f}x from camera to labels, '
               f'{segnet.parameters / ours.parameters:.1f}x smaller.')
        yield (f'Paper: ENet "is 1.5x efficient, and has 3x less parameters". Here: ENet takes '
               f"{enet.bare_ms / ours.bare_ms:.2f} of LEDNet's time as it timed them, "
               f'{enet.labels_ms / ours.labels_ms:.2f} from camera to labels, and '
               f'{enet.parameters / ours.parameters:.2f} of its parameters.')


def measure(
    device: str, rounds: int = ROUNDS, with_memory: bool = True,
    progress: Callable[[str], None] = lambda _: None, size: tuple[int, int] = SIZE,
) -> Table2:
    """Measure every network of the paper. Raise BackendUnavailable or ConfigError."""
    from lednet_ros.model.networks import NETWORKS
    from lednet_ros.segmentation.devices import choose_device
    device = str(choose_device(device))
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        turns: dict[tuple[str, str], Callable[[], object]] = {}
        checkpoints = {}
        backend = ''
        for name in PAPER:
            progress(f'{NETWORKS[name].title}: set-up')
            checkpoints[name] = checkpoint = make_checkpoint(name, size)
            segmenter = stack.enter_context(make_segmenter(checkpoint, device, cache))
            backend = segmenter.backend
            turns |= {(name, kind): turn
                      for kind, turn in _turns(checkpoint, segmenter, device, size).items()}
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
        for number in range(rounds + 1):  # the first warms up
            progress(f'round {number} of {rounds}')
            for key, turn in turns.items():
                ms = take_turn(lambda turn=turn: _timed(turn), device)  # type: ignore[misc]
                if number:
                    taken[key].append(ms)
        median = {key: statistics.median(times) for key, times in taken.items()}
        turns.clear()
        rows = []
        for name, checkpoint in checkpoints.items():
            progress(f'{NETWORKS[name].title}: memory')
            rows.append(NetworkRow(
                name, NETWORKS[name].title,
                sum(p.numel() for p in checkpoint.network.parameters()),
                count_gmac(checkpoint, size), median[name, BARE], median[name, WHOLE],
                median[name, LABELS], _memory_mb(name, device, cache) if with_memory else None))
    return Table2(machine(device), backend, size, rounds, rows)


def make_checkpoint(name: str, size: tuple[int, int] = SIZE) -> Checkpoint:
    """
    Make a network of CLASSES: LEDNet with the shipped weights, the others with random ones.

    Where classes are chosen from scores that grow, the time depends on how many borders there are:
    there batch normalisation is fitted to a scene, so that a random network sees some.
    """
    import torch

    from lednet_ros.model.checkpoint import Checkpoint, Metadata, Preprocessing
    from lednet_ros.model.labels import LabelClass, LabelSet
    from lednet_ros.model.networks import find_entry, make_network
    if name == 'lednet':
        loaded = benchmark_measuring.make_checkpoint(Knobs(classes=CLASSES))
        return replace(loaded, metadata=Metadata(*size))
    torch.manual_seed(0)
    network = make_network(name, CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    if find_entry(name).stride > 1:
        _fit_batch_norm(network)
    labels = LabelSet('benchmark', tuple(
        LabelClass(f'class {i}', (i, i, i), 'any') for i in range(CLASSES)))
    network.eval().requires_grad_(False)
    return Checkpoint(network, labels, Preprocessing(), Metadata(*size))


def _fit_batch_norm(network: AnyNetwork) -> None:
    import torch

    from lednet_ros.segmentation.self_check import make_frames
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    scene = torch.from_numpy(make_frames(1, 256, 512)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        network.train()(scene)


def make_segmenter(checkpoint: Checkpoint, device: str, cache: str) -> Segmenter:
    """Return the way from camera to labels that a robot with this device would have."""
    from lednet_ros.segmentation import Segmenter, SegmenterConfig
    backend = 'tensorrt' if device.startswith('cuda') else 'onnxruntime'
    return Segmenter(checkpoint, SegmenterConfig(
        backend=backend, device=device, engine_cache_dir=cache))


def without_batch_norm(network: AnyNetwork) -> AnyNetwork:
    """Return a copy of a network whose batch normalisation does nothing."""
    from torch import nn
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    return network


def _turns(
    checkpoint: Checkpoint, segmenter: Segmenter, device: str, size: tuple[int, int]
) -> dict[str, Callable[[], object]]:
    import torch

    bare = without_batch_norm(checkpoint.network).to(device)
    whole = copy.deepcopy(checkpoint.network).to(device)
    x = torch.rand(1, 3, *size, device=device)
    frames = camera_frames(Knobs(), size, 1)

    def run(compute: Callable[[], object]) -> None:
        with torch.inference_mode():
            compute()
            if device.startswith('cuda'):
                torch.cuda.synchronize(device)

    return {BARE: lambda: run(lambda: bare.scores(x)),
            WHOLE: lambda: run(lambda: whole(x).argmax(1)),
            LABELS: lambda: segmenter.segment(frames)}


def _timed(turn: Callable[[], object]) -> float:
    from_s = time.perf_counter()
    turn()
    return (time.perf_counter() - from_s) * 1e3


def _memory_mb(name: str, device: str, cache: str) -> float:
    """Run a few frames in a process of its own, its engine built before."""
    done = subprocess.run(
        [sys.executable, '-m', __spec__.name, name, device, cache],
        capture_output=True, encoding='utf-8', errors='replace', check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]
        raise BackendUnavailable(f'{name}, in a process of its own: {said}')
    peak_mb: float = json.loads(done.stdout.splitlines()[-1])
    return peak_mb


def _probe(name: str, device: str, cache: str) -> None:
    """Print the most memory that was resident, in MiB."""
    with make_segmenter(make_checkpoint(name), device, cache) as segmenter:
        for _ in range(3):
            segmenter.segment(camera_frames(Knobs(), SIZE, 1))
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    peak = next(line for line in lines if line.startswith('VmHWM'))
    print(json.dumps(int(peak.split()[1]) / 1024))


if __name__ == '__main__':
    _probe(*sys.argv[1:])
