#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What diagnostics cost: CPU time of a frame's bookkeeping and of a report, in percent of a core.

The node's own code beside a camera, listeners and a reader of /diagnostics in another process, as
a report looks at all of their QoS. The images themselves are not sent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import machine

# Knobs.
RATE_HZ = 30.0
REPORTS = 200
FRAMES = 5000
DOMAIN_ID = 64

OTHERS = """
import contextlib, sys, rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('others')
for name in sys.argv[1:]:
    node.create_publisher(Image, f'{name}/image', 1)
    for output in ('label', 'color'):
        node.create_subscription(Image, f'/segment/{name}/{output}', lambda m: None, 1)
node.create_subscription(DiagnosticArray, '/diagnostics', lambda m: None, 10)
with contextlib.suppress(rclpy.executors.ExternalShutdownException):
    rclpy.spin(node)
"""


def cpu_ms(what: Callable[[], object], times: int) -> float:
    """Return the CPU time of one call, of all threads."""
    began_s = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - began_s) * 1e3 / times


def measure(names: list[str]) -> dict[str, float]:
    """Measure with so many cameras."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from lednet_ros.nodes.segment.segment_node import SegmentNode
    from lednet_ros.nodes.shared.latency import STAGES, TOTAL
    rclpy.init(args=['--ros-args', '-p', f'cameras:=[{", ".join(names)}]',
                     '-p', 'input_height:=64', '-p', 'input_width:=96'])
    node = SegmentNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.start()
    while node._active_since_s is None:
        executor.spin_once(1.0)
    camera = node._cameras[0]
    with subprocess.Popen([sys.executable, '-c', OTHERS, *names]) as others:
        try:
            while len(camera.wanted()) < 2:
                time.sleep(0.1)
            node._listen()
            time.sleep(1.0)
            image = Image(height=1, width=1, step=3, encoding='bgr8', data=bytes(3))
            stages = dict.fromkeys((*STAGES, TOTAL), 1.0)

            def frame() -> None:
                image.header.stamp = node.get_clock().now().to_msg()
                camera.receive(image, 0.0)
                camera.stats.segmented()
                node._latency.add(time.monotonic(), stages)

            for _ in range(2048):
                frame()
            frame_ms, report_ms = cpu_ms(frame, FRAMES), cpu_ms(node._report, REPORTS)
        finally:
            others.terminate()
    node.stop()
    rclpy.shutdown()
    frames_hz = RATE_HZ * len(names)
    return {'frame_us': frame_ms * 1e3, 'report_ms': report_ms,
            'percent_of_a_core': (frames_hz * frame_ms + report_ms) / 10}


def main(argv: list[str] | None = None) -> int:
    """Print one line for one camera, and one for four."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--json', type=Path, metavar='FILE')
    options = parser.parse_args(argv)
    os.environ['ROS_DOMAIN_ID'] = str(DOMAIN_ID)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    print(f'{machine()}; {RATE_HZ:g} Hz a camera, a report each second\n')
    rows = []
    for count in (1, 4):
        row = measure([f'camera{i}' for i in range(count)])
        rows.append({'cameras': count, **row})
        print(f'{count} cameras: ' + ', '.join(f'{k} {v:.2f}' for k, v in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({'machine': machine(), 'rows': rows}, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
