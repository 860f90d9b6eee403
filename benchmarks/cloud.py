#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
How long a labelled cloud, a grid and a scan take: of a depth image, and of a LiDAR's scan.

A drawn yard: ground, boxes and a wall. All that semantic_cloud_node does for a frame but ROS
itself. The two take turns, so that what else the machine does falls on both; CPU time is what is
left of that where it does much.
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

from lednet_ros.common.malloc import keep_freed_buffers
from lednet_ros.projection import Camera, Pose, Traversability
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.labelled_points import POINT_FLOATS, LabelledPoints

# Knobs.
HEIGHT, WIDTH = 512, 1024
RINGS, COLUMNS = 128, 1024  # 131,072 points
FRAMES = 60
POSE = Pose.of_camera(1.3, pitch=0.15)
MAST = np.array([0.0, 0.2, 1.6])
WALL_X, BOX = 14.0, (6.0, -1.0, 1.5, 1.2)  # x, y, width, height of its face


def distances(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along each ray of (N, 3) something is, and whether it is ground."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ground = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
        wall = np.where(rays[:, 0] > 0, (WALL_X - origin[0]) / rays[:, 0], np.inf)
        x, y, width, height = BOX
        face = np.where(rays[:, 0] > 0, (x - origin[0]) / rays[:, 0], np.inf)
        at = origin + face[:, None] * rays
        hit = (np.abs(at[:, 1] - y) < width / 2) & (at[:, 2] < height) & (at[:, 2] > 0)
    nearest = np.minimum(np.minimum(ground, wall), np.where(hit, face, np.inf))
    return nearest, nearest == ground


def camera_frame(camera: Camera, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a depth image, uint16 in mm, and its labels."""
    rays = camera.rays().reshape(-1, 3)
    along, is_ground = distances(POSE.origin, rays @ POSE.rotation.T)
    depth = np.where(along < 60, along * rays[:, 2] * 1000, 0)
    labels = np.where(is_ground, names.index('road'), names.index('building'))
    labels[~np.isfinite(along)] = names.index('sky')
    shape = (camera.height, camera.width)
    return depth.astype(np.uint16).reshape(shape), labels.astype(np.uint8).reshape(shape)


def scan() -> np.ndarray:
    """Return a LiDAR's points, float32 (3, N)."""
    bearing, slope = np.meshgrid(np.linspace(-np.pi, np.pi, COLUMNS, endpoint=False),
                                 np.radians(np.linspace(-22.5, 22.5, RINGS)))
    rays = np.stack([np.cos(slope) * np.cos(bearing), np.cos(slope) * np.sin(bearing),
                     np.sin(slope)], -1).reshape(-1, 3)
    along, _ = distances(MAST, rays)
    along[along > 100] = np.nan
    return (MAST[:, None] + along * rays.T).astype(np.float32)


def ways() -> dict[str, Callable[[int], dict[str, float]]]:
    """Return what is measured: each does a frame and returns its stages in ms."""
    traversability = Traversability.load('camvid')
    names = traversability.labels.names
    camera = Camera(WIDTH * 0.55, WIDTH * 0.55, WIDTH / 2, HEIGHT / 2, HEIGHT, WIDTH)
    depth, labels = camera_frame(camera, names)
    points, confidence = scan(), np.full_like(labels, 200)
    of_depth, of_lidar = (LabelCloud(traversability, CloudConfig()) for _ in range(2))
    outs = {'depth': np.empty((HEIGHT, WIDTH, POINT_FLOATS), np.float32),
            'lidar': np.empty((1, points.shape[1], POINT_FLOATS), np.float32)}

    def frame(name: str, cloud: LabelCloud, look: Callable[[], LabelledPoints], has_view: bool,
              i: int) -> dict[str, float]:
        cpu_s, marks = time.process_time(), [time.perf_counter()]
        seen = look()
        cloud.check_ground(seen)
        marks.append(time.perf_counter())
        seen.fill(traversability.labels, outs[name])
        marks.append(time.perf_counter())
        place = cloud.place()
        cells = cloud.cells([seen], place)
        cloud.grid(cells, place, i / 10)
        marks.append(time.perf_counter())
        cloud.free_space(cells, place, [cloud.view(camera, POSE)] if has_view else [])
        marks.append(time.perf_counter())
        stages = dict(zip(('look', 'cloud', 'grid', 'scan'), np.diff(marks) * 1e3, strict=True))
        return {**stages, 'all': (marks[-1] - marks[0]) * 1e3,
                'cpu': (time.process_time() - cpu_s) * 1e3}

    return {
        f'depth {WIDTH}x{HEIGHT}': lambda i: frame(
            'depth', of_depth, lambda: of_depth.look_at_depth(
                camera, POSE, depth, labels, confidence), True, i),
        f'LiDAR of {points.shape[1]:,} points': lambda i: frame(
            'lidar', of_lidar, lambda: of_lidar.look_at_points(
                camera, POSE, points, MAST, labels, confidence), False, i)}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    options = parser.parse_args()
    keep_freed_buffers()  # as the node does
    taken: dict[str, list[dict[str, float]]] = {}
    measured = ways()
    for i in range(FRAMES):
        for name, way in measured.items():
            taken.setdefault(name, []).append(way(i))
    columns = ('all', 'cpu', 'look', 'cloud', 'grid', 'scan')
    results = {name: {c: statistics.median(f[c] for f in frames) for c in columns}
               | {'least': min(f['all'] for f in frames)} for name, frames in taken.items()}
    print(f'{machine()}\n')
    print('| ms, p50 | all | CPU time | points of labels | cloud | grid | scan | all, the least |')
    print('|---|' + '---|' * 7)
    for name, result in results.items():
        print(f'| {name} | ' + ' | '.join(f'{result[c]:.1f}' for c in (*columns, 'least')) + ' |')
    if options.json:
        options.json.write_text(json.dumps({'machine': machine(), 'ms': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
