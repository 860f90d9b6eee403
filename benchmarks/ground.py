#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
How long ground points, grid and scan take, for a pose that stays and one that changes.

A drawn street: road, pavement, cars and houses with a ragged edge, under a little sky. All that
the node does for a frame but ROS itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import machine

from lednet_ros.projection import Camera, Ground, GroundConfig, Pose, Traversability

# Knobs.
SIZES = ((512, 1024), (360, 480))  # height, width of the label image
FRAMES = 200
POSE_FRAMES = 20
DISTORTION = (-0.25, 0.06, 0.001, -0.0005, 0.0)
HEIGHT_M, PITCH_RAD = 1.3, 0.05


def street(height: int, width: int, names: list[str], seed: int) -> np.ndarray:
    """Draw labels of a street, uint8 (H, W)."""
    noise = np.random.default_rng(seed)
    rows = np.arange(height)[:, None]
    columns = np.arange(width)
    labels = np.full((height, width), names.index('sky'), np.uint8)
    edge = height * 0.55 + noise.integers(-3, 4, width // 8 + 1).repeat(8)[:width]
    labels[rows > height * 0.2 + 20 * np.sin(columns / 90)] = names.index('building')
    labels[rows > edge] = names.index('pavement')
    labels[(rows > edge) & (np.abs(columns - width / 2) < (rows - height * 0.4) * 1.5)
           ] = names.index('road')
    for _ in range(6):
        foot = int(noise.integers(int(height * 0.55), int(height * 0.8)))
        size = int((foot - height * 0.45) * 1.2)
        left = int(noise.integers(0, width - size))
        labels[foot - size // 2:foot, left:left + size] = names.index('car')
    return labels


def measure(height: int, width: int) -> dict[str, float]:
    """Measure one size; p50 in ms by output, and all of them together."""
    traversability = Traversability.load('camvid')
    frames = [street(height, width, traversability.labels.names, seed) for seed in range(8)]
    focal = width * 0.55
    camera = Camera(focal, focal, width / 2, height / 2, height, width, 'plumb_bob', DISTORTION)
    ground = Ground(traversability, GroundConfig())
    points = np.empty((height, width, 4), np.float32)

    def pose(i: int) -> Pose:
        return Pose.of_camera(HEIGHT_M, pitch=PITCH_RAD + i * 1e-4)

    def look(i: int) -> None:
        ground.look(frames[i % len(frames)])

    outputs: dict[str, Callable[[int], object]] = {
        'points': lambda i: ground.points(points), 'grid': lambda i: ground.grid(i / 10),
        'scan': lambda i: ground.free_space()}

    def all_three(i: int) -> None:
        ground.set_camera(camera, pose(0))
        look(i)
        for make in outputs.values():
            make(i)

    def all_anew(i: int) -> None:
        ground.set_camera(camera, pose(i))
        all_three_of_this_pose(i)

    def all_three_of_this_pose(i: int) -> None:
        look(i)
        for make in outputs.values():
            make(i)

    result = {'first': timed(all_three, 1), 'all': timed(all_three, FRAMES)}
    for name, make in outputs.items():
        def look_and_make(i: int, make: Callable[[int], object] = make) -> None:
            look(i)
            make(i)

        result[name] = timed(look_and_make, FRAMES)
    result['new pose'] = timed(lambda i: all_anew(i + 1), POSE_FRAMES)
    return result


def timed(work: Callable[[int], object], count: int) -> float:
    """Return the median of `count` runs, in ms."""
    took_ms = []
    for i in range(count):
        began_s = time.perf_counter()
        work(i)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(took_ms)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    options = parser.parse_args()
    results = {f'{width}x{height}': measure(height, width) for height, width in SIZES}
    print(f'{machine()}\n')
    columns = ('all', 'points', 'grid', 'scan', 'new pose', 'first')
    print('| ms, p50 | all three | points alone | grid alone | scan alone | all, the pose new | '
          'the first frame |')
    print('|---|' + '---|' * len(columns))
    for size, result in results.items():
        print(f'| {size} | ' + ' | '.join(f'{result[c]:.1f}' for c in columns) + ' |')
    if options.json:
        options.json.write_text(json.dumps({'machine': machine(), 'ms': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
