# SPDX-License-Identifier: Apache-2.0
"""Rendered ground truth with depth: a ground with holes, boxes, ramps and what hangs above.

As scene.py, written without the package's own geometry but for its poses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from scene import BOX, ROAD, SKY, VERGE, Box, camera_rays

from lednet_ros.projection import Camera, Pose


@dataclass(frozen=True)
class Ramp:
    """A wedge: from nothing at `x` up to `height` at `x + length`, and down upright there."""

    x: float
    y: float
    length: float = 3.0
    width: float = 3.0
    height: float = 0.5
    label: int = ROAD

    def hit(self, origin, rays) -> np.ndarray:
        """Along each ray of (N, 3), where it meets the wedge; infinite where it does not."""
        start = origin - [self.x, self.y, 0.0]
        slope = self.height / self.length
        planes = [((0, 0, -1), 0), ((1, 0, 0), self.length), ((0, 1, 0), self.width / 2),
                  ((0, -1, 0), self.width / 2), ((-slope, 0, 1), 0)]
        near, far = np.full(len(rays), -np.inf), np.full(len(rays), np.inf)
        for normal, limit in planes:
            along, left = rays @ normal, limit - start @ normal
            with np.errstate(divide='ignore', invalid='ignore'):
                t = left / along
            near = np.where(along < 0, np.maximum(near, t), near)
            far = np.where(along > 0, np.minimum(far, t), far)
        return np.where((near <= far) & (near > 0), near, np.inf)


@dataclass(frozen=True)
class Hole:
    """A pit in the ground with upright walls."""

    x: float
    y: float
    length: float = 1.0
    width: float = 1.0
    depth: float = 0.5
    label: int = ROAD

    def contains(self, x, y) -> np.ndarray:
        return (abs(x - self.x) < self.length / 2) & (abs(y - self.y) < self.width / 2)

    def inside(self, origin, rays) -> np.ndarray:
        """Along each ray that enters through the ground, where it meets wall or bottom."""
        low = np.array([self.x - self.length / 2, self.y - self.width / 2, -self.depth])
        high = np.array([self.x + self.length / 2, self.y + self.width / 2, 1e9])
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.maximum((low - origin) / rays, (high - origin) / rays).min(1)


@dataclass(frozen=True)
class Relief:
    """What is rendered: `labels`, `depth` in m along the axis (0: none), `hits` in the robot's."""

    camera: Camera
    pose: Pose
    things: tuple[Box | Ramp, ...] = ()
    holes: tuple[Hole, ...] = ()
    labels: np.ndarray = field(init=False)
    depth: np.ndarray = field(init=False)
    hits: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        c, origin = self.camera, self.pose.origin
        rays = camera_rays(c)
        turned = rays @ self.pose.rotation.T
        with np.errstate(divide='ignore', invalid='ignore'):
            along = np.where(turned[:, 2] < 0, -origin[2] / turned[:, 2], np.inf)
            labels = np.where(np.isfinite(along), ROAD, SKY)
            x, y = (origin[i] + along * turned[:, i] for i in (0, 1))
        for hole in self.holes:
            enters = np.isfinite(along) & hole.contains(x, y)
            along = np.where(enters, hole.inside(origin, turned), along)
            labels = np.where(enters, hole.label, labels)
        for thing in self.things:
            t = thing.hit(origin, turned)
            nearer = t < along
            along, labels = np.where(nearer, t, along), np.where(nearer, thing.label, labels)
        with np.errstate(invalid='ignore'):
            hits = origin + along[:, None] * turned
            depth = np.where(np.isfinite(along), along * rays[:, 2], 0)
        shape = (c.height, c.width)
        for name, value in (('labels', labels.astype(np.uint8).reshape(shape)),
                            ('depth', depth.astype(np.float32).reshape(shape)),
                            ('hits', hits.reshape(*shape, 3))):
            object.__setattr__(self, name, value)

    def noisy(self, seed: int = 0, per_m2: float = 0.0019) -> np.ndarray:
        """Return depth as a stereo camera of 5 cm base says it: blurred at edges, noise ~ z^2."""
        rng = np.random.default_rng(seed)
        noise = cv2.GaussianBlur(rng.normal(size=self.depth.shape).astype(np.float32), (3, 3), 0.8)
        noise /= noise.std()
        seen = (self.depth > 0) & (self.depth < 20)
        return np.where(seen, self.depth + noise * per_m2 * self.depth ** 2, 0).astype(np.float32)


def pole(x: float, y: float, label: int = BOX) -> Box:
    return Box(x, y, 0.1, 0.1, 1.8, label=label)


def bar(x: float, y: float, bottom: float, label: int = ROAD) -> Box:
    """Something across the way, its lower edge at a height."""
    return Box(x, y, 0.3, 3.0, 0.3, bottom=bottom, label=label)


__all__ = ['BOX', 'ROAD', 'SKY', 'VERGE', 'Box', 'Hole', 'Ramp', 'Relief', 'bar', 'pole']
