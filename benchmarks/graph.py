#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The node as a robot has it: camera, node and listener are processes, images go over DDS.

Three questions, each with and without the Fast DDS profile: what the node adds to the network's
own time, what an overload does to latency and memory, and whether several cameras cost anything.
Needs ROS 2 with rmw_fastrtps_cpp. The camera and the listener take their share of the same cores.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import FAST_DDS_2, FAST_DDS_3, PROFILE, machine, rclpy_major

# Knobs.
SECONDS = 20.0                          # a row, after the warm-up
WARM_UP_S = 4.0
NETWORK = (512, 1024)                   # height, width of the network's input
OVERHEAD = ((512, 1024), (1080, 1920))  # cameras, at half of what the network can do
OVERLOAD = (512, 1024)                  # a camera at CAMERA_HZ
CAMERAS = 4                             # of 480x640 at CAMERA_HZ each
CAMERAS_NETWORK = (512, 1024)          # slower than one camera, which would limit the rate else
CAMERA_HZ = 30.0
SEGMENTING = ('preprocess', 'inference', 'postprocess')  # stages
ROUNDS = 3                              # of one and of several cameras in turn
DOMAIN_ID = 62


def camera(topics: Sequence[str], size: tuple[int, int], rate_hz: float) -> None:
    """Be cameras: publish stamped bgr8 images until SIGTERM."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image

    from lednet_ros.nodes.shared.image_messages import encode_image

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('benchmark_camera')
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [node.create_publisher(Image, topic, best_effort) for topic in topics]
    coarse = np.random.default_rng(0).integers(0, 256, (size[0] // 16, size[1] // 16, 3), np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1))
    message = encode_image(pixels, 'bgr8', Image().header)
    due_s = time.monotonic()
    while True:
        for publisher in publishers:
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)
        due_s += 1 / rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))


class Listener:
    """Listens to labels and colours as a planner and RViz would, and to the node's reports."""

    def __init__(self, outputs: Sequence[str]) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('benchmark_listener', context=self._context)
        self.latency_ms: list[float] = []
        self.counts = dict.fromkeys(outputs, 0)
        self.report: dict[str, dict[str, str]] = {}
        for output in outputs:
            self._node.create_subscription(
                Image, f'/segment/{output}', lambda m, o=output: self._on_image(o, m),
                QoSProfile(depth=1))
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._executor.spin_once(timeout_sec=0.05)

    def wait_ready(self) -> None:
        """Wait until the first labels have come."""
        until_s = time.monotonic() + 120
        while not all(self.counts.values()):
            self._executor.spin_once(timeout_sec=0.05)
            if time.monotonic() > until_s:
                raise SystemExit('graph: no labels within 120 s')

    def reset(self) -> None:
        """Forget what was counted."""
        self.latency_ms.clear()
        self.counts = dict.fromkeys(self.counts, 0)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_image(self, output: str, message: Any) -> None:
        self.counts[output] += 1
        if output.endswith('label'):
            stamp = message.header.stamp
            self.latency_ms.append(
                (time.time_ns() - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e6)

    def _on_report(self, array: Any) -> None:
        self.report = {status.name.removeprefix('segment: '): {
            value.key: value.value for value in status.values} for status in array.status}


@contextlib.contextmanager
def child(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a Python process; it ends with the block."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def node(network: tuple[int, int], names: Sequence[str] = ()) -> contextlib.AbstractContextManager[
        subprocess.Popen[bytes]]:
    """Start segment_node."""
    parameters = [f'input_height:={network[0]}', f'input_width:={network[1]}']
    if names:
        parameters.append(f'cameras:=[{", ".join(names)}]')
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    return child(['-m', 'lednet_ros.nodes.segment.segment_node', '--ros-args', *arguments])


def cameras(topics: Sequence[str], size: tuple[int, int], rate_hz: float
            ) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start this file as cameras."""
    return child([__file__, '--role=camera', f'--topics={",".join(topics)}',
                  f'--size={size[0]},{size[1]}', f'--rate={rate_hz}'])


def stage(listener: Listener, name: str, quantile: str = 'p50') -> float:
    """Return a stage's quantile of the last report, in ms."""
    return float(listener.report['latency'][f'{name}_{quantile}_ms'])


def resident_mb(pid: int) -> float:
    """Return a process's resident memory."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def overhead(size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Measure what the node adds: decoding and publishing, the network at half its throughput."""
    listener = Listener(('label', 'color'))
    try:
        with node(NETWORK):
            with cameras(['image'], size, CAMERA_HZ):
                listener.wait_ready()
                listener.spin(WARM_UP_S)
                segmenting_ms = sum(stage(listener, name) for name in SEGMENTING)
            rate_hz = 500 / segmenting_ms
            with cameras(['image'], size, rate_hz):
                listener.spin(12.0)  # until the report's window holds nothing of before
                listener.reset()
                listener.spin(seconds)
        return {
            'camera_hz': rate_hz, 'segmenting_ms': segmenting_ms,
            'inference_ms': stage(listener, 'inference'), 'queue_ms': stage(listener, 'queue'),
            'decode_ms': stage(listener, 'decode'), 'publish_ms': stage(listener, 'publish'),
            'overhead_ms': stage(listener, 'decode') + stage(listener, 'publish'),
            'transport_ms': stage(listener, 'transport'),
            'total_ms': stage(listener, 'total'),
            'label_at_listener_ms': statistics.median(listener.latency_ms),
            'received_hz': float(listener.report['camera image']['received_hz'])}
    finally:
        listener.close()


def overload(seconds: float) -> dict[str, float]:
    """Measure latency and memory while the camera is faster than the network."""
    listener = Listener(('label', 'color'))
    try:
        with node(NETWORK) as process, cameras(['image'], OVERLOAD, CAMERA_HZ):
            listener.wait_ready()
            listener.spin(max(WARM_UP_S, 12.0))
            listener.reset()
            began_mb = resident_mb(process.pid)
            listener.spin(seconds)
            ended_mb = resident_mb(process.pid)
        segmenting_ms = sum(stage(listener, name) for name in SEGMENTING)
        p95_ms = statistics.quantiles(listener.latency_ms, n=20)[-1]
        counts = listener.report['camera image']
        return {'segmenting_ms': segmenting_ms, 'p95_ms': p95_ms,
                'p95_in_segmenting': p95_ms / segmenting_ms,
                'memory_mb': began_mb, 'memory_growth_percent': 100 * (ended_mb / began_mb - 1),
                'received': float(counts['received']), 'dropped': float(counts['dropped']),
                'labels_hz': listener.counts['label'] / seconds}
    finally:
        listener.close()


def several(count: int, seconds: float) -> dict[str, float]:
    """Measure the labels a second of so many cameras, summed and of the least served."""
    names = [f'camera{i}' for i in range(count)]
    listener = Listener([f'{name}/label' for name in names])
    try:
        with node(CAMERAS_NETWORK, names), cameras(
                [f'{name}/image' for name in names], (480, 640), CAMERA_HZ):
            listener.wait_ready()
            listener.spin(WARM_UP_S)
            listener.reset()
            listener.spin(seconds)
        hz = [n / seconds for n in listener.counts.values()]
        return {'sum_hz': sum(hz), 'least_share': min(hz) * count / sum(hz)}
    finally:
        listener.close()


def measure(what: str, seconds: float) -> list[dict[str, float | str]]:
    """Run one of the questions; rows with their names."""
    rows: list[dict[str, float | str]] = []
    if what == 'overhead':
        for size in OVERHEAD:
            rows.append({'row': f'overhead, {size[1]}x{size[0]}', **overhead(size, seconds)})
    elif what == 'overload':
        rows.append({'row': f'overload, {CAMERA_HZ:g} Hz', **overload(seconds)})
    else:
        # In turns, as whatever else the machine does hits both alike then.
        turns = [(several(1, seconds), several(CAMERAS, seconds)) for _ in range(ROUNDS)]
        for i, title in enumerate(('1 camera', f'{CAMERAS} cameras')):
            rows.append({'row': title, **{
                key: statistics.median(turn[i][key] for turn in turns)
                for key in ('sum_hz', 'least_share')}})
        rows[-1]['sum_ratio'] = statistics.median(
            many['sum_hz'] / one['sum_hz'] for one, many in turns)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Print one line of figures a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--only', choices=('overhead', 'overload', 'cameras'))
    parser.add_argument('--seconds', type=float, default=SECONDS)
    parser.add_argument('--profile', choices=('both', 'with', 'without'), default='both')
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--role', choices=('camera',), help=argparse.SUPPRESS)
    parser.add_argument('--topics', help=argparse.SUPPRESS)
    parser.add_argument('--size', help=argparse.SUPPRESS)
    parser.add_argument('--rate', type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.role:
        height, width = map(int, options.size.split(','))
        camera(options.topics.split(','), (height, width), options.rate)
        return 0
    os.environ['ROS_DOMAIN_ID'] = str(DOMAIN_ID)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    variable = FAST_DDS_3 if rclpy_major() >= 9 else FAST_DDS_2
    print(f'{machine()}; {options.seconds:g} s per row\n')
    rows = []
    for what in ('overhead', 'overload', 'cameras'):
        if options.only not in (None, what):
            continue
        for side in ('with', 'without') if options.profile == 'both' else (options.profile,):
            os.environ.pop(variable, None)
            if side == 'with':
                os.environ[variable] = str(PROFILE)
            try:
                measured = measure(what, options.seconds)
            except (SystemExit, KeyError) as error:  # nothing arrives without the profile
                measured = [{'row': what, 'failed': str(error)}]
            for row in measured:
                rows.append({'profile': side, **row})
                print(f'{row["row"]}, {side} profile: ' + ', '.join(
                    f'{name} {value:.2f}' if isinstance(value, float) else f'{name} {value}'
                    for name, value in row.items() if name != 'row'), flush=True)
    if options.json:
        options.json.write_text(json.dumps({'machine': machine(), 'rows': rows}, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
