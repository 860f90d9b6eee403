# SPDX-License-Identifier: Apache-2.0
"""A drawn yard for the demo of depth: what a camera in it would see, with labels and depth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lednet_ros.model.labels import LabelSet
from lednet_ros.projection import Camera, Pose


class Block(NamedTuple):
    """Something with upright sides, in m; a class's name. Below the ground: a hole."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float
    name: str


YARD = (
    Block(5.5, 9.0, -3.2, -1.5, 0.0, 1.4, 'car'),
    Block(7.0, 7.15, 1.9, 2.05, 0.0, 2.6, 'pole'),
    Block(4.2, 4.6, 1.6, 3.0, 0.0, 0.25, 'road'),       # a step that the labels do not know
    Block(8.6, 8.8, -1.5, 2.0, 1.1, 1.4, 'sign symbol'),  # a bar across the way
    Block(0.0, 14.0, 4.5, 5.5, 0.0, 3.5, 'building'),
    Block(13.0, 14.0, -8.0, 4.5, 0.0, 2.2, 'fence'),
)
HOLE = Block(5.2, 6.2, 0.0, 1.2, -0.6, 0.0, 'road')
_SKY = (168, 196, 226)


def look(camera: Camera, pose: Pose, labels: LabelSet,
         ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the picture, uint8 (H, W, 3) RGB, labels, uint8, and depth, float32 in m; 0: none."""
    rays = camera.rays().reshape(-1, 3)
    turned, origin = rays.astype(float) @ pose.rotation.T, pose.origin
    with np.errstate(divide='ignore', invalid='ignore'):
        along = np.where(turned[:, 2] < 0, -origin[2] / turned[:, 2], np.inf)
        ids = np.where(np.isfinite(along), labels.names.index('road'), labels.names.index('sky'))
        at = origin + along[:, None] * turned
        in_hole = ((at[:, 0] > HOLE.x0) & (at[:, 0] < HOLE.x1)
                   & (at[:, 1] > HOLE.y0) & (at[:, 1] < HOLE.y1))
        near, far = _through(HOLE._replace(z1=1e6), origin, turned)
        along = np.where(in_hole, far, along)
        for block in YARD:
            near, far = _through(block, origin, turned)
            hits = (near <= far) & (near > 0) & (near < along)
            along = np.where(hits, near, along)
            ids = np.where(hits, labels.names.index(block.name), ids)
        at = origin + along[:, None] * turned
        light = 0.75 + 0.25 * ((np.floor(at[:, 0]) + np.floor(at[:, 1])) % 2)
        light *= np.clip(0.55 + 0.15 * at[:, 2], 0.25, 1.0)
    picture = labels.palette[ids] * np.nan_to_num(light)[:, None]
    picture[~np.isfinite(along)] = _SKY
    depth = np.where(along < 40, along * rays[:, 2], 0)
    shape = (camera.height, camera.width)
    return (picture.astype(np.uint8).reshape(*shape, 3), ids.astype(np.uint8).reshape(shape),
            depth.astype(np.float32).reshape(shape))


def _through(block: Block, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along each ray of (N, 3) it enters and leaves a block."""
    low = np.array([block.x0, block.y0, block.z0])
    high = np.array([block.x1, block.y1, block.z1])
    to_low, to_high = (low - origin) / rays, (high - origin) / rays
    return np.minimum(to_low, to_high).max(1), np.maximum(to_low, to_high).min(1)
