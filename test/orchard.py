# SPDX-License-Identifier: Apache-2.0
"""Small data sets that can be learnt: a class is a colour."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 48, 64
LABELS_YAML = """
name: orchard
classes:
  - {name: grass, color: [0, 200, 0], category: flat}
  - {name: trunk, color: [90, 60, 0], category: object}
  - {name: rest, color: [0, 0, 0], category: void, void: true}
"""
COLORS = np.array([[30, 180, 40], [160, 90, 40], [200, 200, 220]], np.uint8)  # RGB by class


def draw(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Give an image, RGB, and its labels: trunks on grass, some of it not labelled."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for x in rng.integers(0, width - 16, 2):
        labels[:height * 3 // 4, x:x + 16] = 1
    labels[:4] = 2
    labels[-3:] = 255
    noise = rng.integers(-20, 20, (height, width, 3))
    image = COLORS[np.minimum(labels, 2)].astype(int) + noise
    return image.clip(0, 255).astype(np.uint8), labels


def make_orchard(root: Path, train: int = 8, val: int = 3) -> Path:
    for split, count in (('train', train), ('val', val)):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image, labels = draw(i + 100 * (split == 'val'))
            cv2.imwrite(str(root / 'images' / split / f'{i}.png'), image[..., ::-1])
            cv2.imwrite(str(root / 'labels' / split / f'{i}.png'), labels)
    (root / 'labels.yaml').write_text(LABELS_YAML)
    return root


RECIPE = """
base: none
input_height: 48
input_width: 64
epochs: 2
batch: 4
crops: [[0.0, 32, 48], [0.5, 48, 64]]
scale: [0.8, 1.3]
color: 0.2
learning_rate: 0.003
class_weights: enet
auxiliary_loss: 0.4
ema: 0.5
precision: fp32
workers: 1
"""
