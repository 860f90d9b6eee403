# SPDX-License-Identifier: Apache-2.0
"""
lednet_benchmark: the backends side by side, camera pixels to label image, in one run.

All are warmed up and then take turns, one batch each a round, so that whatever else the machine
does hits them alike: ratios hold from run to run where milliseconds do not. A ratio is the median
of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lednet_ros.cli import benchmark_table2
from lednet_ros.cli.benchmark_measuring import (
    Knobs,
    camera_frames,
    count_gmac,
    machine,
    make_checkpoint,
    matmul_gflops,
    take_turn,
)
from lednet_ros.common.atomic_file import require_place, write_json
from lednet_ros.common.command import command
from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.common.paths import expanded, given
from lednet_ros.segmentation.backends.registry import BACKENDS, names

if TYPE_CHECKING:
    import numpy as np

    from lednet_ros.model.checkpoint import Checkpoint

STAGES = ('preprocess', 'inference', 'postprocess')
BASELINES = ('eager', 'plain onnx')
PRODUCT = 'matrix product'  # of as many FLOPs; no limit: convolutions have been faster
_PAPER_TABLE2 = ('LEDNet, paper (GTX 1080Ti)', '70.6', '87.1', '14', '71', '0.94')


@dataclass(frozen=True)
class Row:
    """One contender at one size and batch. Milliseconds are medians, for the whole batch."""

    name: str
    height: int
    width: int
    batch: int
    total_ms: float
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)  # to each of BASELINES

    @property
    def ms_per_megapixel(self) -> float:
        """Cost of a million pixels of the network's input."""
        return self.total_ms * 1e6 / (self.batch * self.height * self.width)


@dataclass(frozen=True)
class Footprint:
    """One contender in a process of its own, its cache warm, batch 1."""

    name: str
    ready_s: float       # from the start of the process to the first label image
    steady_mb: float     # resident after ten frames
    peak_mb: float       # resident at most
    gpu_mb: float | None  # taken from the GPU's free memory; None without one


@dataclass(frozen=True)
class Report:
    """All figures of one run."""

    machine: str
    knobs: Knobs
    parameters: int
    gmac: dict[str, float]  # by 'HxW'
    matmul_gflops: float
    rows: list[Row]
    footprints: list[Footprint]

    def markdown(self) -> str:
        """Tables for people."""
        k = self.knobs
        lines = [
            f'Machine: {self.machine}. {k.classes} classes, {self.parameters:,} parameters, '
            f'{k.rounds} interleaved rounds, medians; a ratio is the median of those '
            f'of the rounds. {PRODUCT.capitalize()}: as many FLOPs as the network has, at the '
            f'{self.matmul_gflops:.0f} GFLOP/s of one by torch; no limit.' + (
                '' if k.device == 'cpu' else ' Eager is PyTorch in fp32 as it comes, its '
                'convolutions in TF32 where the GPU has that; ours say their precision.'), '',
            '| input | batch | GMAC | what | preprocess ms | inference ms | postprocess ms | '
            'total ms | '
            'ms/Mpixel | frames/s | of eager | of plain ONNX |', '|' + '---|' * 12]
        for r in self.rows:
            ratios = ' | '.join(_cell(r.ratios.get(b), '.3f') for b in BASELINES)
            stages = (r.preprocess_ms, r.inference_ms, r.postprocess_ms)
            shown = ' | '.join(f'{ms:.1f}' if any(stages) else '-' for ms in stages)
            lines.append(
                f'| {r.width}x{r.height} | {r.batch} | '
                f'{self.gmac[f"{r.height}x{r.width}"] * r.batch:.2f} | {r.name} | {shown} | '
                f'{r.total_ms:.1f} | {r.ms_per_megapixel:.0f} | {r.batch * 1e3 / r.total_ms:.1f} '
                f'| {ratios} |')
        if self.footprints:
            lines += ['', '| what (own process, warm cache) | start to first label s | steady MB '
                      '| peak MB | GPU MB |', '|' + '---|' * 5]
            lines += [f'| {f.name} | {f.ready_s:.1f} | {f.steady_mb:.0f} | {f.peak_mb:.0f} | '
                      f'{_cell(f.gpu_mb, ".0f")} |' for f in self.footprints]
        return '\n'.join([*lines, '', *self._table2(), ''])

    def _table2(self) -> list[str]:
        """LEDNet's row in the columns of the paper's Table 2: speed at 1024x512, batch 1."""
        cells = [_PAPER_TABLE2]
        for r in self.rows:
            if r.name not in (PRODUCT, *BASELINES) and (r.height, r.width, r.batch) == (
                    512, 1024, 1):
                cells.append((f'LEDNet, {r.name} ({self.machine})', '-', '-',
                              f'{r.total_ms:.0f}', f'{1e3 / r.total_ms:.1f}',
                              f'{self.parameters / 1e6:.2f}'))
        return ['| Method | Cla | Cat | Time(ms) | Speed(Fps) | Para(M) |', '|' + '---|' * 6,
                *('| ' + ' | '.join(row) + ' |' for row in cells)]


class Contender(Protocol):
    """Camera frames to label images, by one way."""

    name: str

    def __call__(self, frames: Sequence[np.ndarray]) -> dict[str, float]:
        """Segment BGR frames of the network's size; gives each of STAGES in ms."""
        ...


class _Backend:
    """One of our own, through the Segmenter."""

    def __init__(
        self, checkpoint: Checkpoint, name: str, knobs: Knobs, size: tuple[int, int]
    ) -> None:
        from lednet_ros.segmentation import Segmenter, SegmenterConfig
        self._segmenter = Segmenter(checkpoint, SegmenterConfig(
            backend=name, device=knobs.device, input_height=size[0], input_width=size[1]))
        self.name = self._segmenter.backend_info.name

    def __call__(self, frames: Sequence[np.ndarray]) -> dict[str, float]:
        return self._segmenter.segment(frames)[0].timings


class _Eager:
    """The network as lednet.py has it, its upsampling, argmax: what one writes first."""

    name = 'eager'

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        import torch
        self._torch = torch
        self._device = torch.device(device)
        self._network = copy.deepcopy(checkpoint.network).to(self._device)

    def __call__(self, frames: Sequence[np.ndarray]) -> dict[str, float]:
        import cv2
        torch = self._torch
        from_s = time.perf_counter()
        with torch.inference_mode():
            x = torch.stack([torch.from_numpy(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                             for frame in frames]).to(self._device)
            x = x.permute(0, 3, 1, 2).float().contiguous() / 255
            prepared_s = time.perf_counter()
            labels = self._network(x).argmax(1)
            if self._device.type == 'cuda':
                torch.cuda.synchronize(self._device)
            ran_s = time.perf_counter()
            labels.to(torch.uint8).cpu().numpy()
        return _timings(from_s, prepared_s, ran_s)


class _PlainOnnx:
    """What torch.onnx.export makes of pixels to labels, in ONNX Runtime as it comes."""

    name = 'plain onnx'

    def __init__(self, checkpoint: Checkpoint, size: tuple[int, int], batch: int) -> None:
        import warnings

        import torch

        from lednet_ros.segmentation.backends.graph import LabelGraph
        from lednet_ros.segmentation.backends.onnxruntime import import_onnxruntime
        onnxruntime = import_onnxruntime()
        graph = LabelGraph(checkpoint.network, checkpoint.preprocessing).eval()
        pixels = torch.zeros(batch, *size, 3, dtype=torch.uint8)
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            path = os.path.join(directory, 'plain.onnx')
            torch.onnx.export(graph, (pixels,), path, opset_version=17, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = usable_cores()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                path, options, providers=['CPUExecutionProvider'])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, frames: Sequence[np.ndarray]) -> dict[str, float]:
        import cv2
        import numpy as np
        from_s = time.perf_counter()
        batch = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in frames])
        prepared_s = time.perf_counter()
        labels = self._session.run(None, {self._input: batch})[0]
        ran_s = time.perf_counter()
        labels.astype(np.uint8)
        return _timings(from_s, prepared_s, ran_s)


def benchmark(
    knobs: Knobs, footprints: bool = True, progress: Callable[[str], None] = lambda _: None
) -> Report:
    """Measure everything. Raise BackendUnavailable or ConfigError."""
    import numpy as np

    from lednet_ros.segmentation import SegmenterConfig
    from lednet_ros.segmentation.devices import choose_device
    for size in knobs.sizes:  # what is wrong is said before anything is measured
        SegmenterConfig(device=knobs.device, input_height=size[0], input_width=size[1])
    knobs = replace(knobs, device=str(choose_device(knobs.device)))
    checkpoint = make_checkpoint(knobs)
    rows: list[Row] = []
    rates: list[float] = []
    gmac = {}
    for size in knobs.sizes:
        gmac[f'{size[0]}x{size[1]}'] = count_gmac(checkpoint, size)
        for batch in knobs.batches:
            frames = camera_frames(knobs, size, batch)
            where = f'{size[1]}x{size[0]}, batch {batch}'
            progress(f'{where}: set-up')
            contenders = _contenders(checkpoint, knobs, size, batch)
            for contender in contenders:
                for _ in range(2):
                    contender(frames)
            taken: list[list[dict[str, float]]] = [[] for _ in contenders]
            ours = []
            for number in range(knobs.rounds):
                progress(f'{where}: round {number + 1} of {knobs.rounds}')
                for contender, timings in zip(contenders, taken, strict=True):
                    timings.append(take_turn(partial(contender, frames), knobs.device))
                ours.append(take_turn(partial(matmul_gflops, knobs.device), knobs.device))
            totals = {c.name: np.array([sum(t.values()) for t in timings])
                      for c, timings in zip(contenders, taken, strict=True)}
            rates += ours
            gflop = 2 * gmac[f'{size[0]}x{size[1]}'] * batch
            totals[PRODUCT] = gflop / np.array(ours) * 1e3
            for name, total in totals.items():
                timings = next((t for c, t in zip(contenders, taken, strict=True)
                                if c.name == name), [])
                preprocess_ms, inference_ms, postprocess_ms = (
                    statistics.median(t[s] for t in timings) if timings else 0.0 for s in STAGES)
                ratios = {b: float(np.median(total / totals[b])) for b in BASELINES
                          if b in totals}
                rows.append(Row(name, *size, batch, float(np.median(total)),
                                preprocess_ms, inference_ms, postprocess_ms, ratios))
    parameters = sum(p.numel() for p in checkpoint.network.parameters())
    return Report(machine(knobs.device), knobs, parameters, gmac, statistics.median(rates), rows,
                  [footprint(knobs, name) for name in knobs.backends] if footprints else [])


def footprint(knobs: Knobs, name: str) -> Footprint:
    """Start a process that segments a few frames (twice, the first fills the cache)."""
    arguments = [sys.executable, '-m', 'lednet_ros.cli.benchmark', '--probe', name,
                 '--device', knobs.device, '--classes', str(knobs.classes)]
    for option, value in (('--checkpoint', knobs.checkpoint), ('--images', knobs.images)):
        if value:
            arguments += [option, value]
    for _ in range(2):
        from_s = time.time()
        done = subprocess.run(arguments, capture_output=True, encoding='utf-8',
                              errors='replace')
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]
            raise BackendUnavailable(f'{name}, in a process of its own: {said}')
    answer = json.loads(done.stdout.splitlines()[-1])
    return Footprint(name, answer['ready_at_s'] - from_s, answer['steady_mb'],
                     answer['peak_mb'], answer['gpu_mb'])


def _probe(knobs: Knobs, name: str) -> None:
    checkpoint = make_checkpoint(knobs)
    size = (512, 1024)
    backend = _Backend(checkpoint, name, knobs, size)
    frames = camera_frames(knobs, size, 1)
    backend(frames)
    ready_at_s = time.time()
    for _ in range(10):
        backend(frames)
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    status = dict(line.split(':', 1) for line in lines)
    gpu_mb = None
    if knobs.device.startswith('cuda'):
        import torch
        free, whole = torch.cuda.mem_get_info(knobs.device)
        gpu_mb = (whole - free) / 2**20
    print(json.dumps({
        'ready_at_s': ready_at_s, 'gpu_mb': gpu_mb,
        'steady_mb': int(status['VmRSS'].split()[0]) / 1024,
        'peak_mb': int(status['VmHWM'].split()[0]) / 1024}))


def _contenders(
    checkpoint: Checkpoint, knobs: Knobs, size: tuple[int, int], batch: int
) -> list[Contender]:
    contenders: list[Contender] = [_Eager(checkpoint, knobs.device)]
    if not knobs.device.startswith('cuda'):
        try:
            contenders.append(_PlainOnnx(checkpoint, size, batch))
        except ImportError as error:
            raise BackendUnavailable(
                f'the baseline "plain onnx" needs what is not installed ({error}): pip install '
                'onnxruntime onnx') from error
    contenders += [_Backend(checkpoint, name, knobs, size) for name in knobs.backends]
    return contenders


def _timings(from_s: float, prepared_s: float, ran_s: float) -> dict[str, float]:
    return {'preprocess': (prepared_s - from_s) * 1e3, 'inference': (ran_s - prepared_s) * 1e3,
            'postprocess': (time.perf_counter() - ran_s) * 1e3}


def _cell(value: float | None, spec: str) -> str:
    return '-' if value is None else format(value, spec)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: give a whole number from 1')
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    try:
        return _count(height), _count(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f'{text!r}: give WIDTHxHEIGHT') from None


@command('lednet_benchmark')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Gives its exit code."""
    default = Knobs()
    parser = argparse.ArgumentParser('lednet_benchmark', description=__doc__.partition(': ')[2])
    parser.add_argument('--backends', nargs='+', choices=tuple(BACKENDS),
                        help='default: torch onnxruntime; with --device cuda tensorrt torch')
    parser.add_argument('--sizes', nargs='+', type=_size, metavar='WxH', default=default.sizes)
    parser.add_argument('--batches', nargs='+', type=_count, metavar='N', default=default.batches)
    parser.add_argument('--rounds', type=_count, help=f'default: {default.rounds}; with --table 2 '
                        f'{benchmark_table2.ROUNDS}')
    parser.add_argument('--device', default=default.device, help='cpu, cuda or cuda:N')
    parser.add_argument('--classes', type=_count, default=default.classes)
    parser.add_argument('--checkpoint', type=given, help='default: the shipped one')
    parser.add_argument('--images', default='', metavar='DIR', help='camera images to use')
    parser.add_argument('--table', type=int, choices=(2,),
                        help="the paper's Table 2 instead: its networks side by side at 1024x512")
    parser.add_argument('--no-footprints', action='store_true',
                        help='leave out memory and start-up, which take processes of their own')
    parser.add_argument('--json', type=expanded, metavar='FILE',
                        help='write all figures there too')
    parser.add_argument('--probe', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    require_place(args.json)
    if args.table:
        return _table2(args)
    on_gpu = args.device.startswith('cuda')
    knobs = Knobs(
        tuple(args.backends or (names('cuda') if on_gpu else default.backends)),
        tuple(args.sizes), tuple(args.batches), args.rounds or default.rounds, args.device,
        args.classes, args.checkpoint or '', args.images)
    if args.probe:
        _probe(knobs, args.probe)
        return 0
    report = benchmark(knobs, not args.no_footprints, _show)
    if args.json:
        write_json(args.json, asdict(report))
    print(report.markdown())
    return 0


def _table2(args: argparse.Namespace) -> int:
    rounds = args.rounds or benchmark_table2.ROUNDS
    table = benchmark_table2.measure(args.device, rounds, not args.no_footprints, _show)
    if args.json:
        write_json(args.json, asdict(table))
    print(table.markdown())
    return 0


def _show(text: str) -> None:
    """One line that is written over, where there is a terminal to do it on."""
    if sys.stderr.isatty():
        print(f'\r\x1b[K{text}', end='\r', file=sys.stderr, flush=True)


if __name__ == '__main__':
    sys.exit(main())
