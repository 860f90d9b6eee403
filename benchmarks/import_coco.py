#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What lednet_import costs: time and memory for COCO polygons of 40 points, 10 in each 640x480.

Each number of polygons is imported in a process of its own. CPU time is beside the wall clock, as
it does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import machine

BY_IMAGE, POINTS, HEIGHT, WIDTH, CLASSES = 10, 40, 480, 640, 19


def make_export(root: Path, count: int) -> None:
    """Write COCO's JSON with `count` polygons, and one image under many names."""
    rng = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    cv2.imwrite(str(root / 'image.png'), rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count // BY_IMAGE):
        (root / 'images' / f'{i:06}.png').symlink_to(root / 'image.png')
        images.append({'id': i, 'file_name': f'{i:06}.png', 'height': HEIGHT, 'width': WIDTH})
        for _ in range(BY_IMAGE):
            middle, radius = rng.uniform(0, [WIDTH, HEIGHT]), rng.uniform(10, 150)
            angles = np.sort(rng.uniform(0, 2 * np.pi, POINTS))
            points = middle + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            annotations.append({
                'id': len(annotations), 'image_id': i, 'iscrowd': 0,
                'category_id': int(rng.integers(CLASSES)), 'segmentation': [
                    points.clip(0, [WIDTH, HEIGHT]).ravel().round(2).tolist()]})
    (root / 'instances.json').write_text(json.dumps({
        'images': images, 'annotations': annotations,
        'categories': [{'id': i, 'name': f'class {i}'} for i in range(CLASSES)]}))


def import_one(place: Path) -> int:
    """Import what was made, and print what it cost."""
    from lednet_ros.cli.import_labels import main as run
    began_s = time.monotonic()
    run([str(place / 'in'), str(place / 'out')])
    took_s, used = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    status = Path('/proc/self/status').read_text()  # ru_maxrss would be that of the parent, too
    most_kb = int(status.partition('VmHWM:')[2].split()[0])
    print(f'{took_s:.1f} s, of CPU {used.ru_utime + used.ru_stime:.1f} s; at most '
          f'{most_kb / 1024:.0f} MB')
    return 0


def main() -> int:
    """Print a line for each number of polygons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--polygons', type=int, nargs='+', default=[1000, 10000])
    parser.add_argument('--import-one', type=Path, metavar='DIR', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.import_one:
        return import_one(args.import_one)
    print(machine())
    for count in args.polygons:
        with TemporaryDirectory() as place:
            make_export(Path(place) / 'in', count)
            said = subprocess.run([sys.executable, __file__, '--import-one', place], check=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            print(f'{count} polygons: {said.stdout.splitlines()[-1]}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
