#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
How much of a remembering grid changes from one frame of a street clip to the next.

The clip's frames are segmented by the shipped network and projected by one pose; the grid stays
where it is, as that of a camera on a mast does, so that what changes is what moves in the street,
and what the network wavers over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dds_images import machine

from lednet_ros.projection import Camera, Ground, GroundConfig, Pose, Traversability
from lednet_ros.segmentation import Segmenter, SegmenterConfig

# Knobs.
RATE_HZ = 10.0
FOCAL = 0.9            # of the image's width
HEIGHT_M, PITCH_RAD = 1.3, -0.04
DECAY_S = 2.0
INPUT = (360, 480)     # height, width of the network's input
NAMES = {0: 'free', 100: 'occupied', -1: 'unknown'}


def frames_of(clip: Path, most: int) -> list[np.ndarray]:
    """Return a video's or a directory's first frames, uint8 (H, W, 3) BGR."""
    frames: list[Any] = []
    if clip.is_dir():
        frames += [cv2.imread(str(file)) for file in sorted(clip.glob('*.png'))[:most]]
        return frames
    film = cv2.VideoCapture(str(clip))
    while len(frames) < most and (read := film.read())[0]:
        frames.append(read[1])
    return frames


def measure(frames: list[np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    """Return the changes of cells that are known before or after, by kind."""
    height, width = frames[0].shape[:2]
    focal = FOCAL * width
    config = GroundConfig(grid_decay_s=DECAY_S)
    if options.weigh:
        config = replace(config, grid_weighs=True)
    ground = Ground(Traversability.load('camvid'), config)
    ground.set_camera(Camera(focal, focal, width / 2, height / 2, height, width),
                      Pose.of_camera(options.height, pitch=options.pitch))
    kinds: Counter[str] = Counter()
    changed, known, free, occupied = [], [], [], []
    before = None
    with Segmenter(config=SegmenterConfig(input_height=INPUT[0], input_width=INPUT[1])) as network:
        for i, frame in enumerate(frames):
            [seen] = network.segment([frame], confidence=True)
            ground.look(seen.labels, seen.confidence, options.min_confidence)
            values = ground.grid(i / RATE_HZ).values.copy()
            if before is not None:
                different = values != before
                changed.append(int(different.sum()))
                known.append(int(((values >= 0) | (before >= 0)).sum()))
                kinds.update(f'{NAMES[a]} to {NAMES[b]}' for a, b in zip(
                    before[different].tolist(), values[different].tolist(), strict=True))
            free.append(int((values == 0).sum()))
            occupied.append(int((values == 100).sum()))
            before = values
    return {'frames': len(frames), 'changed_a_frame': float(np.mean(changed)),
            'known_a_frame': float(np.mean(known)),
            'share': float(np.sum(changed) / np.sum(known)),
            'free_a_frame': float(np.mean(free)), 'occupied_a_frame': float(np.mean(occupied)),
            'kinds_a_frame': {kind: count / len(changed) for kind, count in kinds.most_common()}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('clip', type=Path, help='a video, or a directory of PNG files in order')
    parser.add_argument('--frames', type=int, default=200)
    parser.add_argument('--height', type=float, default=HEIGHT_M, help='of the camera, in m')
    parser.add_argument('--pitch', type=float, default=PITCH_RAD, help='of the camera, in rad')
    parser.add_argument('--min-confidence', type=float, default=0.0)
    parser.add_argument('--weigh', action='store_true', help='weigh sightings by confidence')
    parser.add_argument('--json', type=Path, metavar='FILE')
    options = parser.parse_args()
    result = measure(frames_of(options.clip, options.frames), options)
    print(f'{machine()}\n')
    print(f'{result["frames"]} frames: {result["changed_a_frame"]:.0f} of '
          f'{result["known_a_frame"]:.0f} known cells change a frame ({result["share"]:.1%}); '
          f'{result["free_a_frame"]:.0f} free, {result["occupied_a_frame"]:.0f} occupied')
    for kind, count in result['kinds_a_frame'].items():
        print(f'  {kind}: {count:.1f}')
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
