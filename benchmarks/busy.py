#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What waiting costs, on a quiet machine and beside processes that never rest.

    benchmarks/busy.py [onnxruntime | torch | training] [--sizes WxH ...] [--minutes M]

Threads that wait for each other busily are quick on a machine of their own, and burn the cores
where others compute too. Candidates take turns of some seconds, in another order each time, on
the quiet machine and beside busy processes of equal priority, which are started and ended here.
Prints Markdown, also after Ctrl-C: then of what was measured until then. Other load blurs it all:
what there was before the first turn is said.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lednet_ros.cli.benchmark_measuring import machine
from lednet_ros.common.cpu import SPIN_COUNT, usable_cores
from lednet_ros.segmentation.backends.onnxruntime import (
    OnnxSession,
    import_onnxruntime,
    load_sessions,
    session_options,
)

# Knobs.
SIZES = ((360, 480), (512, 1024))  # height, width of the network's input
BUSY = (0, 1, 2, 4)  # processes beside
MINUTES = 10.0       # for all sizes together
# The first third does not count: in it, ours sees which cores are free, and makes its session.
TURN_S = {'onnxruntime': 9.0, 'torch': 9.0, 'training': 6.0}
REST_S = 0.1         # between turns: threads of the one before fall asleep

OURS, ONE = 'ours', 'one thread'
# ONNX Runtime's session configuration, in place of ours; 'all threads' waits as ours does.
STOP = {'session.force_spinning_stop': '1'}
SESSIONS: dict[str, dict[str, str]] = {
    OURS: {}, 'all threads': {}, ONE: {}, 'without bound': STOP,
    'no spinning': {'session.intra_op.allow_spinning': '0'},
    **{f'spin {us} us': {**STOP, 'session.intra_op.spin_duration_us': str(us)}
       for us in (5, 50, 200)}}
# Environments of the torch backend.
ENVIRONMENTS: dict[str, dict[str, str]] = {
    OURS: {}, "torch's own": {'GOMP_SPINCOUNT': '300000'}, ONE: {'OMP_NUM_THREADS': '1'},
    'passive': {'OMP_WAIT_POLICY': 'PASSIVE'},
    **{f'spin {count}': {'GOMP_SPINCOUNT': str(count)} for count in (0, 1000, 10_000, 100_000)}}

Sample = tuple[float, float]  # wall and CPU time in ms, of a frame or a step


class Candidate(Protocol):
    """One way to wait."""

    def turn(self, seconds: float) -> list[Sample]:
        """Work for so long."""


class Frames:
    """Frame after frame, in this process."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        run()

    def turn(self, seconds: float) -> list[Sample]:
        """Work for so long, at least for one frame that counts."""
        from_s = time.perf_counter()
        samples: list[Sample] = []
        while not samples or time.perf_counter() < from_s + seconds:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            self._run()
            if wall_s >= from_s + seconds / 3:
                samples.append((1e3 * (time.perf_counter() - wall_s),
                                1e3 * (time.process_time() - cpu_s)))
        return samples


class Child:
    """The same in a process with an environment of its own, by lines of text."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        told = {k: v for k, v in os.environ.items() if not k.startswith(('OMP_', 'GOMP_'))}
        self.process = subprocess.Popen(
            [sys.executable, *command], env={**told, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._answer()

    def turn(self, seconds: float) -> list[Sample]:
        """Let it work for so long."""
        assert self.process.stdin
        print(seconds, file=self.process.stdin, flush=True)
        return [(wall, cpu) for wall, cpu, *_ in (
            map(float, sample.split(' ')) for sample in self._answer().split(','))]

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit('busy.py: a child ended early: see above')
        return line.strip()


def serve(frames: Frames) -> None:
    """Be a Child's process."""
    print('ready', flush=True)
    for line in sys.stdin:
        print(','.join(f'{wall:.3f} {cpu:.3f}' for wall, cpu in frames.turn(float(line))),
              flush=True)


def sessions(height: int, width: int) -> dict[str, Candidate]:
    """Return ONNX Runtime with the shipped network, up to the scores."""
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.segmentation.backends.onnx_writer import build_onnx_model
    runtime = import_onnxruntime()
    model = build_onnx_model(load_checkpoint(default_checkpoint()), height, width)
    frame = pixels(height, width)

    def make(name: str) -> Candidate:
        if name == OURS:
            ours = load_sessions(runtime, model)
            return Frames(lambda: ours.choose().run(frame))
        session = OnnxSession(runtime, model, session_options(
            runtime, 1 if name == ONE else usable_cores(), SESSIONS[name]))
        return Frames(lambda: session.run(frame))

    return {name: make(name) for name in SESSIONS}


def torch_frames(height: int, width: int) -> Frames:
    """Return the torch backend with the shipped network."""
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.segmentation.backends.torch import TorchBackend
    from lednet_ros.segmentation.config import SegmenterConfig
    backend = TorchBackend(load_checkpoint(default_checkpoint()), SegmenterConfig(
        backend='torch', device='cpu', input_height=height, input_width=width))
    frames = pixels(height, width)
    return Frames(lambda: backend.run(frames, confidence=False))


def pixels(height: int, width: int) -> np.ndarray:
    """Return a frame, uint8 (1, H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)


def candidates(what: str, height: int, width: int, stack: ExitStack) -> dict[str, Candidate]:
    """Return what is to be compared; children end with the stack."""
    if what == 'onnxruntime':
        return sessions(height, width)
    size = f'{width}x{height}'
    if what == 'torch':
        command, environments = [__file__, what, '--serve', '--sizes', size], ENVIRONMENTS
    else:
        from busy_training import CANDIDATES as environments  # noqa: N811
        command = [str(Path(__file__).with_name('busy_training.py')), '--size', size]
    found: dict[str, Candidate] = {}
    for name, environment in environments.items():
        child = Child(command, environment)
        stack.callback(end, child.process)
        found[name] = child
    return found


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing; they also end where this one is killed."""
    code = (f'import os\nwhile os.getppid() == {os.getpid()}:\n'
            '    for i in range(100000): pass')
    processes = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(
                [sys.executable, '-S', '-E', '-c', code], start_new_session=True))
        time.sleep(0.3 if count else REST_S)  # until they run
        yield
    finally:
        for process in processes:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a process; one that listens tidies up."""
    if process.stdin:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30.0)
    process.kill()
    process.wait()


def measure(
    what: str, size: tuple[int, int], loads: list[int], minutes: float
) -> dict[tuple[str, int], list[Sample]]:
    """Return samples by candidate and number of busy processes."""
    with ExitStack() as stack:
        found = candidates(what, *size, stack)
        samples: dict[tuple[str, int], list[Sample]] = {
            (name, load): [] for name in found for load in loads}
        names, until_s, passes = list(found), time.monotonic() + 60 * minutes, 0
        try:
            while not passes or time.monotonic() < until_s:
                passes += 1
                for load in loads:
                    random.shuffle(names)
                    with busy(load):
                        for name in names:
                            time.sleep(REST_S)
                            samples[name, load] += found[name].turn(TURN_S[what])
        except KeyboardInterrupt:
            print(f'busy.py: stopped in pass {passes}', file=sys.stderr)
    return samples


def tables(
    size: tuple[int, int], loads: list[int], samples: Mapping[tuple[str, int], list[Sample]]
) -> str:
    """Return all figures of one size, and how ours compare."""
    names = list(dict.fromkeys(name for name, _ in samples))
    heads = ['quiet' if not load else f'beside {load} busy' for load in loads]
    lines = [f'| {size[1]}x{size[0]}, ms | ' + ' | '.join(heads) + ' |',
             '|' + '---|' * (1 + len(loads))]

    def figures(name: str, load: int) -> tuple[float, float, float] | None:
        if not (taken := samples.get((name, load))):
            return None
        wall, cpu = np.array(taken).T
        return float(np.median(wall)), float(np.percentile(wall, 95)), float(np.mean(cpu))

    def line(name: str) -> str:
        cells = [figures(name, load) for load in loads]
        shown = (f'{c[0]:.1f} ({c[1]:.1f}), {c[2]:.1f}' if c else '-' for c in cells)
        return f'| {name} | ' + ' | '.join(shown) + ' |'

    def compared(load: int) -> str:
        of_all = {name: figures(name, load) for name in names}
        of_all = {name: found for name, found in of_all.items() if found}
        ours, one = of_all.get(OURS), of_all.get(ONE)
        if not ours or not one:
            return '-'
        p50, p95 = (ours[i] / min(found[i] for found in of_all.values() if found) for i in (0, 1))
        return f'{p50:.2f} ({p95:.2f}), {ours[2] / one[2]:.2f}'

    lines += [line(name) for name in names]
    if OURS in names and ONE in names:
        lines.append("| ours to the best; CPU to one thread's | "
                     + ' | '.join(map(compared, loads)) + ' |')
    return '\n'.join(lines)


def cores_in_use(seconds: float = 2.0) -> float:
    """Return how many cores were in use, by whomever."""
    def idle_s() -> float:
        fields = Path('/proc/stat').read_text(encoding='ascii').split('\n', 1)[0].split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf('SC_CLK_TCK')

    before, from_s = idle_s(), time.monotonic()
    time.sleep(seconds)
    return (os.cpu_count() or 1) - (idle_s() - before) / (time.monotonic() - from_s)


def versions(what: str) -> str:
    """Name the libraries measured."""
    if what == 'onnxruntime':
        return f'onnxruntime {import_onnxruntime().__version__}'
    import torch
    return f'torch {torch.__version__}, ours: spin {SPIN_COUNT}'


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=(
        argparse.RawDescriptionHelpFormatter))
    parser.add_argument('what', nargs='?', choices=sorted(TURN_S), default='onnxruntime')
    parser.add_argument('--sizes', nargs='+', metavar='WxH', default=[],
                        help='default: 480x360 and, but for training, 1024x512')
    parser.add_argument('--busy', nargs='+', type=int, default=list(BUSY), metavar='N')
    parser.add_argument('--minutes', type=float, default=MINUTES)
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = [(int(height), int(width)) for width, _, height in (
        size.partition('x') for size in args.sizes)] or list(
            SIZES[:1 if args.what == 'training' else 2])
    if args.serve:
        serve(torch_frames(*sizes[0]))
        return 0
    load, in_use = os.getloadavg(), cores_in_use()
    print(f'{machine("cpu")}; {versions(args.what)}. Before the run: load average {load[0]:.2f}, '
          f'{in_use:.2f} cores in use. p50 (p95) and mean CPU of a '
          f'{"step" if args.what == "training" else "frame"} in ms.', flush=True)
    for size in sizes:
        samples = measure(args.what, size, args.busy, args.minutes / len(sizes))
        print('\n' + tables(size, args.busy, samples), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
