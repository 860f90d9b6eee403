#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What arrives of large messages between processes, with and without the Fast DDS profile.

Needs ROS 2 with rmw_fastrtps_cpp; takes about a minute. `--sides none,publisher,subscriber,both`
shows what the profile does at one end only.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

# Knobs.
SECONDS = 1.5                # of sending, per row
SUBSCRIBERS = 1              # processes that listen to every message
SIDES = 'none,both'          # which ends load the profile; also: publisher, subscriber
QOS = 'best_effort,reliable'  # each at depth 1
PROFILE = Path(__file__).resolve().parent.parent / 'config' / 'fastdds_large_images.xml'
DOMAIN_ID = 61               # away from a robot that may be running
MATCH_WITHIN_S = 20.0        # for discovery on a busy machine
DRAIN_S = 0.4                # after the last message, for those under way

FAST_DDS_3 = 'FASTDDS_DEFAULT_PROFILES_FILE'    # Kilted and later
FAST_DDS_2 = 'FASTRTPS_DEFAULT_PROFILES_FILE'   # Humble and Jazzy: the newer name is ignored


@dataclass(frozen=True)
class Stream:
    """One topic: what is sent on it. A point cloud has encoding 'xyz_' and 16-byte points."""

    width: int
    height: int
    encoding: str

    @property
    def step(self) -> int:
        """Bytes per row."""
        return self.width * {'mono8': 1, 'bgr8': 3, 'rgb8': 3, 'xyz_': 16}[self.encoding]

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return self.step * self.height


@dataclass(frozen=True)
class Case:
    """Streams that one node publishes together, at one rate."""

    name: str
    rate_hz: float
    streams: tuple[Stream, ...]

    @property
    def size(self) -> int:
        """Bytes of payload per frame, all streams together."""
        return sum(stream.size for stream in self.streams)

    @property
    def title(self) -> str:
        """The name with what it asks of the transport."""
        return f'{self.name}, {self.size / 1e6:.1f} MB at {self.rate_hz:g} Hz'


LABEL = Stream(1024, 512, 'mono8')
CAMERA = Stream(1024, 512, 'bgr8')
CASES = (
    Case('mono8 1024x512', 30.0, (LABEL,)),
    Case('bgr8 1024x512', 30.0, (CAMERA,)),
    Case('bgr8 and mono8 1024x512', 30.0, (CAMERA, LABEL)),
    Case('bgr8 1280x720', 30.0, (Stream(1280, 720, 'bgr8'),)),
    Case('rgb8 1920x1080', 10.0, (Stream(1920, 1080, 'rgb8'),)),
    Case('PointCloud2 768x512', 10.0, (Stream(768, 512, 'xyz_'),)),
)


@dataclass
class Row:
    """One line of the table; the latencies are those of all subscribers together."""

    case: str
    qos: str
    profile: str                 # the side that has it
    megabytes: float             # sent in all
    sent: int
    received: list[int]          # per subscriber
    damaged: int                 # arrived, but not the bytes that were sent
    duration_s: float
    latencies_ms: list[float] = field(repr=False)

    def latency(self, percent: int) -> float | None:
        """Return a percentile of the latency in ms, None when too little arrived to tell."""
        if len(self.latencies_ms) < 2:
            return None
        return statistics.quantiles(self.latencies_ms, n=100, method='inclusive')[percent - 1]

    @property
    def megabytes_per_s(self) -> float:
        """Payload that the least served subscriber got, per second of sending."""
        share = min(self.received) / self.sent if self.sent else 0.0
        return share * self.megabytes / self.duration_s

    def cells(self) -> list[str]:
        """Return the row as the table shows it."""
        p50, p95 = (self.latency(percent) for percent in (50, 95))
        latency = '-' if p50 is None or p95 is None else f'{p50:.1f} / {p95:.1f}'
        return [self.case, self.qos, self.profile, str(self.sent),
                ' + '.join(map(str, self.received)), latency, f'{self.megabytes_per_s:.1f}']


# --- The child processes. Each prints one JSON object per line and reads one word per line.

def say(**what: Any) -> None:
    """One line to the parent."""
    print(json.dumps(what), flush=True)


def make_message(stream: Stream) -> Any:
    """Return a message whose data is an array.array: assigning an ndarray costs over 100 ms."""
    from sensor_msgs.msg import Image, PointCloud2, PointField
    data = array.array('B', bytes(stream.size))
    if stream.encoding == 'xyz_':
        fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                  for i, name in enumerate('xyz')]
        message = PointCloud2(width=stream.width, height=stream.height, fields=fields,
                              point_step=16, row_step=stream.step, is_dense=False)
    else:
        message = Image(width=stream.width, height=stream.height, step=stream.step,
                        encoding=stream.encoding)
    message.data = data
    return message


def quality(name: str) -> Any:
    """Return the QoS of a camera driver: newest message only."""
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    policy = {'best_effort': ReliabilityPolicy.BEST_EFFORT, 'reliable': ReliabilityPolicy.RELIABLE}
    return QoSProfile(reliability=policy[name], history=HistoryPolicy.KEEP_LAST, depth=1)


def message_type(stream: Stream) -> Any:
    """Return the message class of a stream."""
    from sensor_msgs.msg import Image, PointCloud2
    return PointCloud2 if stream.encoding == 'xyz_' else Image


def publish(case: Case, qos: str, seconds: float, subscribers: int) -> None:
    """Send at the case's rate once told to, each message marked at both ends of its data."""
    import rclpy
    rclpy.init()
    node = rclpy.create_node('dds_images_publisher')
    publishers = [node.create_publisher(message_type(stream), f'stream_{i}', quality(qos))
                  for i, stream in enumerate(case.streams)]
    messages = [make_message(stream) for stream in case.streams]
    while any(each.get_subscription_count() < subscribers for each in publishers):
        time.sleep(0.01)
    say(matched=True)
    sys.stdin.readline()
    began_s = time.monotonic()
    frames = max(1, round(seconds * case.rate_hz))
    for frame in range(frames):
        time.sleep(max(0.0, began_s + frame / case.rate_hz - time.monotonic()))
        if frame and time.monotonic() - began_s > 2.0 * seconds:  # a reliable writer may block
            frames = frame
            break
        for publisher, message in zip(publishers, messages, strict=True):
            message.data[0] = message.data[-1] = frame % 251
            now_ns = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
            message.header.frame_id = str(frame)
            publisher.publish(message)
    duration_s = max(time.monotonic() - began_s, frames / case.rate_hz)
    say(sent=frames * len(publishers), duration_s=duration_s)
    sys.stdin.readline()  # what is under way lies in this process's shared memory
    node.destroy_node()
    rclpy.shutdown()


def subscribe(case: Case, qos: str) -> None:
    """Count and time what arrives until told to stop."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    latencies_ms: list[float] = []
    damaged = 0

    def listen(index: int, message: Any) -> None:
        nonlocal damaged
        stamp = message.header.stamp
        latency_ms = (time.time_ns() - stamp.sec * 10**9 - stamp.nanosec) / 1e6
        mark = int(message.header.frame_id) % 251
        whole = len(message.data) == case.streams[index].size
        if whole and message.data[0] == message.data[-1] == mark:
            latencies_ms.append(latency_ms)
        else:
            damaged += 1

    rclpy.init()
    node = rclpy.create_node(f'dds_images_subscriber_{os.getpid()}')
    subscriptions = [
        node.create_subscription(message_type(stream), f'stream_{i}',
                                 lambda message, i=i: listen(i, message), quality(qos))
        for i, stream in enumerate(case.streams)]
    while not all(publisher_count(node, each) for each in subscriptions):
        time.sleep(0.01)
    say(matched=True)
    stop = threading.Event()

    def wait_for_stop() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_stop, daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.05)
    say(latencies_ms=latencies_ms, damaged=damaged)
    node.destroy_node()
    rclpy.shutdown()


def publisher_count(node: Any, subscription: Any) -> int:
    """Return matched publishers; before Jazzy only the graph's count exists."""
    if hasattr(subscription, 'get_publisher_count'):
        return int(subscription.get_publisher_count())
    return int(node.count_publishers(subscription.topic_name))


# --- The parent.

@contextlib.contextmanager
def child(arguments: list[str], profile: Path | None) -> Iterator[subprocess.Popen[str]]:
    """One more process of this file, with or without the profile; gone on leaving."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in (FAST_DDS_2, FAST_DDS_3)}
    environment['ROS_DOMAIN_ID'] = str(DOMAIN_ID)
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    environment.setdefault('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if profile is not None:
        environment[FAST_DDS_3 if rclpy_major() >= 9 else FAST_DDS_2] = str(profile)
    process = subprocess.Popen([sys.executable, __file__, *arguments], env=environment, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
        with contextlib.suppress(subprocess.TimeoutExpired):  # all is said: leave it no longer
            process.wait(timeout=5.0)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5.0)
        if process.poll() is None:
            process.kill()
            process.wait()


def pipe(stream: IO[str] | None) -> IO[str]:
    """Return the pipe that Popen opened."""
    if stream is None:
        raise RuntimeError('dds_images: a child has no pipe')
    return stream


def hear(process: subprocess.Popen[str], within_s: float) -> dict[str, Any]:
    """Return the child's next line; a silent child is ended, so that the read returns."""
    timer = threading.Timer(within_s, process.kill)
    timer.start()
    try:
        line = pipe(process.stdout).readline()
    finally:
        timer.cancel()
    if not line:
        raise RuntimeError(
            f'dds_images: {process.args!r} ended or said nothing for {within_s:.0f} s: '
            'check that rmw_fastrtps_cpp runs and that DOMAIN_ID is free')
    answer: dict[str, Any] = json.loads(line)
    return answer


def tell(process: subprocess.Popen[str]) -> None:
    """Send the one word that moves a child on."""
    pipe(process.stdin).write('go\n')
    pipe(process.stdin).flush()


def measure(case: Case, qos: str, side: str, options: argparse.Namespace) -> Row:
    """One row: start, wait until all have matched, send, count."""
    for_publisher = options.profile if side in ('both', 'publisher') else None
    for_subscriber = options.profile if side in ('both', 'subscriber') else None
    common = [f'--case={case.name}', f'--qos={qos}', f'--seconds={options.seconds}',
              f'--subscribers={options.subscribers}']
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(child(['--role=subscriber', *common], for_subscriber))
                     for _ in range(options.subscribers)]
        sender = stack.enter_context(child(['--role=publisher', *common], for_publisher))
        for process in (*listeners, sender):
            hear(process, MATCH_WITHIN_S)
        tell(sender)
        sent = hear(sender, 3.0 * options.seconds + 10.0)
        time.sleep(DRAIN_S)
        for process in listeners:
            tell(process)
        heard = [hear(process, 10.0) for process in listeners]
        tell(sender)
    return Row(case=case.title, qos=qos, profile=side, sent=sent['sent'],
               megabytes=sent['sent'] // len(case.streams) * case.size / 1e6,
               received=[len(each['latencies_ms']) for each in heard],
               damaged=sum(each['damaged'] for each in heard), duration_s=sent['duration_s'],
               latencies_ms=[latency for each in heard for latency in each['latencies_ms']])


def rclpy_major() -> int:
    """9 is Kilted, the first with Fast DDS 3; Humble is 3 and Jazzy is 7."""
    return int(importlib.metadata.version('rclpy').partition('.')[0])


def installed(*names: str) -> str:
    """Return the first of these distributions that is here, and its version."""
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f'{name} {importlib.metadata.version(name)}'
    return f'{names[0]} of unknown version'


def machine() -> str:
    """Where the numbers come from."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                cpu = line.partition(':')[2].strip()
                break
    distro = os.environ.get('ROS_DISTRO', 'distribution not named')
    fast_dds = installed('ros-fastdds', 'ros-fastrtps', 'fastdds', 'fastrtps')
    return (f'{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, '
            f'{installed("rclpy", "ros-rclpy")} ({distro}), {fast_dds}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line; its defaults are the knobs above."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--case', help='only cases whose name contains this')
    parser.add_argument('--qos', default=QOS)
    parser.add_argument('--sides', default=SIDES, help='none, both, publisher, subscriber')
    parser.add_argument('--profile', type=Path, default=PROFILE)
    parser.add_argument('--seconds', type=float, default=SECONDS)
    parser.add_argument('--subscribers', type=int, default=SUBSCRIBERS)
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--role', choices=('publisher', 'subscriber'), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.role is None and not options.profile.is_file():
        parser.error(f'{options.profile} is not a file: give the profile with --profile')
    for side in options.sides.split(','):
        if side not in ('none', 'both', 'publisher', 'subscriber'):
            parser.error(f'--sides has {side!r}: give none, both, publisher or subscriber')
    for qos in options.qos.split(','):
        if qos not in QOS.split(','):
            parser.error(f'--qos has {qos!r}: give {QOS}')
    return options


def main(argv: list[str] | None = None) -> int:
    """Run every case, the profiles interleaved so that a busy machine hurts each alike."""
    options = parse(argv)
    if options.role is not None:
        case = next(case for case in CASES if case.name == options.case)
        if options.role == 'publisher':
            publish(case, options.qos, options.seconds, options.subscribers)
        else:
            subscribe(case, options.qos)
        return 0
    options.profile = options.profile.resolve()
    print(f'{machine()}; {options.subscribers} subscriber(s), {options.seconds:g} s per row\n')
    print('| case | QoS | profile | sent | received | latency p50 / p95 ms | MB/s |')
    print('| --- | --- | --- | --- | --- | --- | --- |', flush=True)
    rows = []
    for case in CASES:
        if options.case and options.case not in case.name:
            continue
        for qos in options.qos.split(','):
            for side in options.sides.split(','):
                row = measure(case, qos, side, options)
                rows.append(row)
                print(f'| {" | ".join(row.cells())} |', flush=True)
                if row.damaged:
                    print(f'dds_images: {row.damaged} damaged in this row', file=sys.stderr)
    if options.json is not None:
        record = {'machine': machine(), 'seconds': options.seconds, 'rows': [
            asdict(row) | {'p50_ms': row.latency(50), 'p95_ms': row.latency(95),
                           'megabytes_per_s': row.megabytes_per_s} for row in rows]}
        options.json.write_text(json.dumps(record, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
