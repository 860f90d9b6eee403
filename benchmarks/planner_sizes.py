#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What a planner's labels cost to send, by their size: label, confidence and ground points.

One process publishes the three as the nodes do (an Image mono8 twice, a PointCloud2 of 16 bytes a
point), another receives them, at a steady rate, with the Fast DDS profile at both ends. Sizes are
interleaved. CPU time is that of both processes together, idle waiting included, per frame of three
messages; a frame's latency is that of its last message.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import dds_images
from dds_images import Stream, hear, machine, make_message, quality, say, tell

# Knobs.
SIZES = ((1920, 1080), (1280, 720), (640, 480), (424, 240))  # width, height
RATE_HZ = 10.0
SECONDS = 5.0  # of sending, a round
ROUNDS = 3
QOS = 'reliable'  # as the nodes publish
TOPICS = ('label', 'confidence', 'points')


def streams(size: tuple[int, int]) -> list[Stream]:
    """Return what is sent of a size."""
    return [Stream(*size, 'mono8'), Stream(*size, 'mono8'), Stream(*size, 'xyz_')]


def publish(size: tuple[int, int], rate_hz: float, seconds: float) -> None:
    """Send frames once told to; say how many, and the CPU time that they took."""
    import rclpy
    rclpy.init()
    node = rclpy.create_node('planner_sizes_publisher')
    messages = [make_message(stream) for stream in streams(size)]
    publishers = [node.create_publisher(type(message), topic, quality(QOS))
                  for topic, message in zip(TOPICS, messages, strict=True)]
    while any(each.get_subscription_count() < 1 for each in publishers):
        time.sleep(0.01)
    say(matched=True)
    sys.stdin.readline()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    frames = round(seconds * rate_hz)
    for frame in range(frames):
        time.sleep(max(0.0, began_s + frame / rate_hz - time.monotonic()))
        now_ns = time.time_ns()
        for publisher, message in zip(publishers, messages, strict=True):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
            publisher.publish(message)
    say(frames=frames, cpu_s=time.process_time() - began_cpu_s)
    sys.stdin.readline()
    node.destroy_node()
    rclpy.shutdown()


def subscribe(size: tuple[int, int]) -> None:
    """Receive frames until told to stop; say each one's latency and the CPU time."""
    import threading

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    rclpy.init()
    node = rclpy.create_node('planner_sizes_subscriber')
    parts: dict[int, int] = {}
    latencies_ms: list[float] = []

    def listen(message: Any) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        parts[stamp_ns] = parts.get(stamp_ns, 0) + 1
        if parts[stamp_ns] == len(TOPICS):
            latencies_ms.append((time.time_ns() - stamp_ns) / 1e6)

    subscriptions = [
        node.create_subscription(dds_images.message_type(stream), topic, listen, quality(QOS))
        for topic, stream in zip(TOPICS, streams(size), strict=True)]
    while not all(dds_images.publisher_count(node, each) for each in subscriptions):
        time.sleep(0.01)
    say(matched=True)
    stop = threading.Event()

    def wait_for_stop() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_stop, daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    began_cpu_s = time.process_time()
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.05)
    say(latencies_ms=latencies_ms, cpu_s=time.process_time() - began_cpu_s)
    node.destroy_node()
    rclpy.shutdown()


@contextlib.contextmanager
def child(role: str, size: tuple[int, int], options: argparse.Namespace) -> Any:
    """One more process of this file, with the profile; gone on leaving."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(options.domain_id),
                   'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                   dds_images.FAST_DDS_3 if dds_images.rclpy_major() >= 9
                   else dds_images.FAST_DDS_2: str(dds_images.PROFILE)}
    process = subprocess.Popen(
        [sys.executable, __file__, f'--role={role}', f'--sizes={size[0]}x{size[1]}',
         f'--seconds={options.seconds}', f'--rate-hz={options.rate_hz}'],
        env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def measure(size: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    """Run one round of one size."""
    with (child('subscriber', size, options) as listener,
          child('publisher', size, options) as sender):
        for process in (listener, sender):
            hear(process, 60.0)
        tell(sender)
        sent = hear(sender, 5.0 * options.seconds + 30.0)
        time.sleep(dds_images.DRAIN_S)
        tell(listener)
        heard = hear(listener, 30.0)
        tell(sender)
    return {'frames': sent['frames'], 'latencies_ms': heard['latencies_ms'],
            'cpu_ms': (sent['cpu_s'] + heard['cpu_s']) * 1e3}


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--sizes', default=','.join(f'{w}x{h}' for w, h in SIZES))
    parser.add_argument('--rate-hz', type=float, default=RATE_HZ)
    parser.add_argument('--seconds', type=float, default=SECONDS, help='of sending, a round')
    parser.add_argument('--rounds', type=int, default=ROUNDS)
    parser.add_argument('--domain-id', type=int, default=63)
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--role', choices=('publisher', 'subscriber'), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    sizes = [(int(w), int(h)) for w, h in (size.split('x') for size in options.sizes.split(','))]
    if options.role == 'publisher':
        publish(sizes[0], options.rate_hz, options.seconds)
        return 0
    if options.role == 'subscriber':
        subscribe(sizes[0])
        return 0
    rounds: dict[tuple[int, int], list[dict[str, Any]]] = {size: [] for size in sizes}
    for _ in range(options.rounds):
        for size in sizes:
            rounds[size].append(measure(size, options))
    print(f'{machine()}; load average {os.getloadavg()[0]:.1f}; {options.rounds} rounds of '
          f'{options.seconds:g} s at {options.rate_hz:g} Hz\n')
    print('| label, confidence and points of | MB a frame | MB/s | frames whole | latency p50 / '
          'p95 ms | CPU ms a frame, both ends |')
    print('|---|---|---|---|---|---|')
    record = []
    for size in sizes:
        done = rounds[size]
        frames = sum(each['frames'] for each in done)
        latencies = [ms for each in done for ms in each['latencies_ms']]
        megabytes = sum(stream.size for stream in streams(size)) / 1e6
        cpu_ms = statistics.median(each['cpu_ms'] / each['frames'] for each in done)
        p50, p95 = (statistics.quantiles(latencies, n=100, method='inclusive')[p - 1]
                    if len(latencies) > 1 else float('nan') for p in (50, 95))
        print(f'| {size[0]}x{size[1]} | {megabytes:.2f} | {megabytes * options.rate_hz:.0f} | '
              f'{len(latencies)} of {frames} | {p50:.1f} / {p95:.1f} | {cpu_ms:.1f} |')
        record.append({'size': f'{size[0]}x{size[1]}', 'megabytes': megabytes, 'frames': frames,
                       'whole': len(latencies), 'p50_ms': p50, 'p95_ms': p95, 'cpu_ms': cpu_ms})
    if options.json:
        options.json.write_text(
            json.dumps({'machine': machine(), 'rows': record}, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
