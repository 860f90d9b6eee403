#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The node for minutes or days beside a camera that misbehaves: nothing may grow.

A clip is played at 30 Hz by a camera that now and then sends rubbish, changes its size, stops,
comes back or stamps wrongly; listeners come and go; the node is deactivated and activated. Memory,
file descriptors, threads and latency are sampled; the exit code is 1 if one of them grew, if a
frame had no outcome or two, or if the node ended. In the warm-up every fault comes in turn while
all outputs are listened to, so that the buffers that a node needs at most are there before growth
is judged; afterwards, for the minutes asked for, all is random.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from lednet_ros.images.sources import open_source, resized
from lednet_ros.monitor.diagnostics_reader import NodeReport, read_reports, stage_quantiles
from lednet_ros.nodes.shared.image_messages import encode_image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import FAST_DDS_2, FAST_DDS_3, PROFILE, machine, rclpy_major

# Knobs.
RATE_HZ = 30.0
SIZES = ((480, 640), (360, 480), (240, 320))  # height, width of the camera, in turn
OUTPUTS = ('label', 'color', 'overlay', 'confidence')
NETWORK = (128, 256)       # of the network's input: small, so that frames get through
FAULT_EVERY_S = (2.0, 6.0)  # at random between these
SAMPLE_EVERY_S = 10.0
WARM_UP = 0.2              # of the minutes asked for, before them, at most WARM_UP_MOST_S
WARM_UP_MOST_S = 240.0
MOST_MEMORY_GROWTH_MB = 2.0
MOST_LATENCY_DRIFT = 1.5   # of the median run time, latency and CPU time, last quarter to first
REPORTS_WITHIN_S = 60.0    # though it is configured anew, on a machine that does other things
DOMAIN_ID = 63
STATE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Sample:
    """The node at one moment."""

    minutes: float
    memory_mb: float   # resident; of it
    private_mb: float  # what the process has allocated
    shared_mb: float   # what it has touched of Fast DDS's segments, its own and its peers'
    descriptors: int
    threads: int
    cpu_s: float  # of all its threads, since its start
    inference_p50_ms: float | None
    total_p95_ms: float | None
    received: int
    segmented: int
    dropped: int
    rejected: int


class Camera:
    """Publishes the clip in a thread; the faults change how."""

    def __init__(self, node: Any, clip: Sequence[np.ndarray]) -> None:
        self._node = node
        self._qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publisher = node.create_publisher(Image, 'image', self._qos)
        self._clips = {size: [encode_image(f, 'bgr8', Image().header) for f in resized(
            clip, *size)] for size in SIZES}
        self._size = SIZES[0]
        self._spoil: list[Callable[[Image], None]] = []
        self._silent_until_s = 0.0
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def change_size(self, size: tuple[int, int]) -> None:
        """Send another size from now on."""
        self._size = size

    def spoil(self, how: Sequence[Callable[[Image], None]]) -> None:
        """Spoil the next frames, one by one."""
        with self._lock:
            self._spoil.extend(how)

    def vanish(self, seconds: float) -> None:
        """Take the publisher away, as a driver that died, and come back."""
        self._silent_until_s = time.monotonic() + seconds

    def close(self) -> None:
        """Send no more."""
        self.stopped.set()
        self._thread.join()

    def _play(self) -> None:
        due_s = time.monotonic()
        for i in itertools.count():
            if self.stopped.is_set():
                return
            due_s = max(due_s + 1 / RATE_HZ, time.monotonic() - 1.0)
            time.sleep(max(0.0, due_s - time.monotonic()))
            if time.monotonic() < self._silent_until_s:
                if self._publisher is not None:
                    self._node.destroy_publisher(self._publisher)
                self._publisher = None
                continue
            if self._publisher is None:
                self._publisher = self._node.create_publisher(Image, 'image', self._qos)
            clip = self._clips[self._size]
            message = clip[i % len(clip)]
            message.header.stamp = self._node.get_clock().now().to_msg()
            with self._lock:
                spoil = self._spoil.pop(0) if self._spoil else None
            if spoil:
                message = encode_image(np.zeros((48, 64, 3), np.uint8), 'bgr8', message.header)
                spoil(message)
            self._publisher.publish(message)


def shorten(image: Image) -> None:
    """Send less data than the size says."""
    image.data = image.data[:100]


def enlarge(image: Image) -> None:
    """Claim a size nobody has."""
    image.height = image.width = 2**31


def misname(image: Image) -> None:
    """Send an encoding that is no picture."""
    image.encoding = '32FC1'


def empty(image: Image) -> None:
    """Send nothing."""
    image.height, image.data = 0, image.data[:0]


def unstamp(image: Image) -> None:
    """Send a stamp of zero."""
    image.header = Image().header


def antedate(image: Image) -> None:
    """Send a stamp from the future."""
    header = Image().header
    header.stamp.sec = image.header.stamp.sec + 1000
    image.header = header


SPOILERS = (shorten, enlarge, misname, empty, unstamp, antedate)


class Robot:
    """The rest of the graph: a camera, listeners, and whoever manages the node's life."""

    def __init__(self, clip: Sequence[np.ndarray]) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('soak')
        self._listeners: dict[str, Any] = {}
        self.report: NodeReport | None = None
        self.reported_s = 0.0  # when it came, monotonic
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, 10)
        self._change = self._node.create_client(ChangeState, '/segment/change_state')
        self.camera = Camera(self._node, clip)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def listen(self, output: str, on: bool) -> None:
        """Begin or end to listen to an output."""
        if on and output not in self._listeners:
            self._listeners[output] = self._node.create_subscription(
                Image, f'/segment/{output}', lambda message: None, QoSProfile(depth=1))
        elif not on and output in self._listeners:
            self._node.destroy_subscription(self._listeners.pop(output))

    def change_state(self, transition: int) -> bool:
        """Ask for a transition; whether it was made."""
        request = ChangeState.Request()
        request.transition.id = transition
        future = self._change.call_async(request)
        until_s = time.monotonic() + STATE_WITHIN_S
        while not future.done() and time.monotonic() < until_s:
            time.sleep(0.02)
        return bool(future.done() and future.result().success)

    def close(self) -> None:
        """Leave the graph."""
        self.camera.close()
        rclpy.try_shutdown()
        self._thread.join()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_report(self, array: DiagnosticArray) -> None:
        for report in read_reports(array):
            self.report, self.reported_s = report, time.monotonic()


def faults(robot: Robot, chance: random.Random) -> dict[str, Callable[[], object]]:
    """Return what may go wrong, by name."""
    def deactivate() -> None:
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            if not robot.change_state(transition):
                raise RuntimeError(f'transition {transition} failed')

    def reconfigure() -> None:
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                           Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            if not robot.change_state(transition):
                raise RuntimeError(f'transition {transition} failed')

    def nobody() -> None:
        for output in OUTPUTS:
            robot.listen(output, False)

    def listeners() -> None:
        for output in OUTPUTS:
            robot.listen(output, chance.random() < 0.5)

    return {
        'bad frames': lambda: robot.camera.spoil(
            chance.choices(SPOILERS, k=chance.randint(1, 30))),
        'another size': lambda: robot.camera.change_size(chance.choice(SIZES)),
        'camera gone': lambda: robot.camera.vanish(chance.uniform(0.5, 8.0)),
        'other listeners': listeners,
        'nobody listens': nobody,
        'deactivated': deactivate,
        'configured anew': reconfigure,
    }


def sample(pid: int, minutes: float, report: NodeReport) -> Sample:
    """Look at the process and its last report."""
    process = Path(f'/proc/{pid}')
    camera = report.cameras['image']
    counts = {name: int(camera.number(name) or 0) for name in (
        'received', 'segmented', 'dropped', 'rejected')}
    return Sample(
        round(minutes, 2),
        *resident_mb(process),
        len(list((process / 'fd').iterdir())), len(list((process / 'task').iterdir())),
        cpu_s(process),
        stage_quantiles(report.latency.values, 'inference').get('p50'),
        stage_quantiles(report.latency.values, 'total').get('p95'), **counts)


def resident_mb(process: Path) -> tuple[float, float, float]:
    """Return the resident memory: all, what is private, and what is shared but for files."""
    kb = {name: int(value.split()[0]) for name, _, value in (
        line.partition(':') for line in (process / 'status').read_text().splitlines())
        if name.startswith(('VmRSS', 'Rss'))}
    return kb['VmRSS'] * 1024 / 1e6, kb['RssAnon'] * 1024 / 1e6, kb['RssShmem'] * 1024 / 1e6


def cpu_s(process: Path) -> float:
    """Return the CPU time that a process has taken."""
    fields = (process / 'stat').read_text().rpartition(') ')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')  # utime, stime


def cpu_ms_a_frame(samples: Sequence[Sample]) -> float:
    """Return the CPU time of all the node did, for each frame it segmented."""
    # A node that was configured anew counts from zero.
    frames = sum(max(0, b.segmented - a.segmented) for a, b in itertools.pairwise(samples))
    return 1e3 * (samples[-1].cpu_s - samples[0].cpu_s) / max(1, frames)


def warm_up_s(minutes: float) -> float:
    """Return how long a run of so many minutes warms up before."""
    return min(WARM_UP * minutes * 60, WARM_UP_MOST_S)


def verdict(samples: Sequence[Sample], minutes: float) -> list[str]:
    """
    Name what grew between the first and the last part after the warm-up.

    `minutes` are those that were asked for.
    """
    judged = [s for s in samples if s.minutes * 60 >= warm_up_s(minutes)]
    if len(judged) < 4:
        return ['it ended before there was anything to judge']
    tenth, quarter = max(1, len(judged) // 10), max(2, len(judged) // 4)
    first, last = judged[:quarter], judged[-quarter:]

    def medians(name: str, count: int = quarter) -> list[float]:
        return [statistics.median([
            getattr(s, name) for s in part if getattr(s, name) is not None] or [0.0])
            for part in (judged[:count], judged[-count:])]

    problems = []
    if not all(any(s.inference_p50_ms is not None for s in part) for part in (first, last)):
        return ['nothing was segmented in the first or the last quarter']
    before, after = medians('memory_mb', tenth)
    growth = (after - before) / 0.9  # from the middle of one tenth to that of the other
    print(f'memory {before:.1f} -> {after:.1f} MB ({growth:+.2f} in all the minutes)')
    if growth > MOST_MEMORY_GROWTH_MB:
        problems.append(f'memory grew by {growth:.1f} MB')
    for name in ('descriptors', 'threads'):
        before, after = medians(name, tenth)
        print(f'{name} {before:.0f} -> {after:.0f}')
        if after > before + 1:  # one more or less, as listeners come and go
            problems.append(f'{name} grew from {before:.0f} to {after:.0f}')
    cpu_before, cpu_after = cpu_ms_a_frame(first), cpu_ms_a_frame(last)
    print(f'CPU time a frame {cpu_before:.1f} -> {cpu_after:.1f} ms')
    for name in ('inference_p50_ms', 'total_p95_ms'):
        before, after = medians(name)
        print(f'{name} {before:.1f} -> {after:.1f}')
        # Slower without more CPU time, it is the machine that had other things to do.
        if after > MOST_LATENCY_DRIFT * before and cpu_after > MOST_LATENCY_DRIFT * cpu_before:
            problems.append(f'{name} grew from {before:.1f} to {after:.1f}')
    for s in samples:
        under_way = s.received - s.segmented - s.dropped - s.rejected
        if not 0 <= under_way <= 2:  # one in the slot, one in the network
            problems.append(f'at {s.minutes} min {under_way} frames have no outcome, or two')
            break
    return problems


@contextmanager
def segment_node(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the node; it ends with the block."""
    command = [sys.executable, '-m', 'lednet_ros.nodes.segment.segment_node', '--ros-args', '-p',
               f'input_height:={NETWORK[0]}', '-p', f'input_width:={NETWORK[1]}']
    with log.open('wb') as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_clip(source: str) -> list[np.ndarray]:
    """Take two seconds of a directory or video, or draw them."""
    if source:
        return list(itertools.islice(open_source(source).frames(), int(2 * RATE_HZ)))
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 3), np.uint8)
    wide = cv2.resize(noise, (1280, 480), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, 10 * i:10 * i + 640]) for i in range(60)]


def main(argv: list[str] | None = None) -> int:
    """Soak, and print one line a sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0,
                        help='after the warm-up (default: %(default)g)')
    parser.add_argument('--source', default='', help='directory or video (default: drawn)')
    parser.add_argument('--seed', type=int, default=0, help='of the faults')
    parser.add_argument('--log', type=Path, default=Path('soak.log'), help="the node's output")
    parser.add_argument('--json', type=Path, metavar='FILE')
    options = parser.parse_args(argv)
    os.environ['ROS_DOMAIN_ID'] = str(DOMAIN_ID)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ[FAST_DDS_3 if rclpy_major() >= 9 else FAST_DDS_2] = str(PROFILE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the node has to end as well
    chance = random.Random(options.seed)
    samples: list[Sample] = []
    happened: dict[str, int] = {}
    problems: list[str] = []
    print(f'{machine()}; {options.minutes:g} min at {RATE_HZ:g} Hz', flush=True)
    robot = Robot(read_clip(options.source))
    possible = faults(robot, chance)
    in_turn = itertools.cycle(possible)
    try:
        with segment_node(options.log) as process:
            robot.listen('label', True)
            while robot.report is None or 'image' not in robot.report.cameras:
                if process.poll() is not None:
                    raise SystemExit(f'soak: the node ended at start: see {options.log}')
                time.sleep(0.1)
            began_s = time.monotonic()
            sample_s = fault_s = 0.0
            until_s = warm_up_s(options.minutes) + options.minutes * 60
            while (now_s := time.monotonic() - began_s) < until_s:
                if process.poll() is not None:
                    problems.append(f'the node ended with {process.returncode} after '
                                    f'{now_s / 60:.1f} min')
                    break
                if time.monotonic() - robot.reported_s > REPORTS_WITHIN_S:
                    problems.append(f'no report for {REPORTS_WITHIN_S:g} s at '
                                    f'{now_s / 60:.1f} min')
                    break
                if now_s >= sample_s and robot.report.cameras:
                    samples.append(sample(process.pid, now_s / 60, robot.report))
                    sample_s = now_s + SAMPLE_EVERY_S
                    print(' '.join(f'{k} {v:.1f}' if isinstance(v, float) else f'{k} {v}'
                                   for k, v in asdict(samples[-1]).items()), flush=True)
                if now_s >= fault_s:
                    if now_s < warm_up_s(options.minutes):
                        robot.camera.change_size(max(SIZES))
                        for output in OUTPUTS:
                            robot.listen(output, True)
                        name = next(in_turn)
                    else:
                        name = chance.choice(list(possible))
                        if chance.random() < 0.7:
                            robot.listen('label', True)
                    happened[name] = happened.get(name, 0) + 1
                    print(f'{now_s / 60:.2f} {name}', flush=True)
                    try:
                        possible[name]()
                    except RuntimeError as error:
                        problems.append(f'at {now_s / 60:.1f} min: {error}')
                        break
                    fault_s = time.monotonic() - began_s + chance.uniform(*FAULT_EVERY_S)
                time.sleep(0.05)
            else:
                code = process.poll()
                if code is not None:
                    problems.append(f'the node ended with {code}')
        if process.returncode != 0:
            problems.append(f'the node ended with {process.returncode} on SIGINT')
    except KeyboardInterrupt:
        pass  # what was seen until now is judged
    finally:
        robot.close()
    print('faults: ' + ', '.join(f'{n} x {name}' for name, n in sorted(happened.items())))
    problems += verdict(samples, options.minutes)
    for problem in problems:
        print(f'soak: {problem}', file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({
            'machine': machine(), 'faults': happened, 'problems': problems,
            'samples': [asdict(s) for s in samples]}, indent=1) + '\n')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
