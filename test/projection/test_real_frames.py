# SPDX-License-Identifier: Apache-2.0
"""Real frames of RELLIS-3D and ORFD, which are not of the package: skipped where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from lednet_ros.model.labels import LabelClass, LabelSet
from lednet_ros.projection import Camera, Pose, Traversability
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.lidar import Painter
from lednet_ros.projection.traversability import BLOCKED, FREE

DATA = Path(os.environ.get('LEDNET_PROJECTION_DATA', Path(__file__).parents[3] / 'shared/data/'
                           'projection'))
TRAVERSABLE = [1, 3, 6, 10, 23, 31, 33]  # of RELLIS-3D: dirt, grass, water, asphalt, ... mud


class Rellis:
    """The frame: points in the camera's frame, their labels, and the image's."""

    def __init__(self) -> None:
        folder = DATA / 'rellis'
        if not folder.exists():
            pytest.skip(f'{folder} is not there: real frames of RELLIS-3D')
        scan = np.fromfile(folder / '000104.bin', np.float32).reshape(-1, 4)[:, :3].T.copy()
        scan[:, (scan == 0).all(0)] = np.nan  # no echo
        self.scan = scan
        self.truth = np.fromfile(folder / '000104.label', np.uint32)
        [image] = folder.glob('*.png')
        self.labels = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
        fx, fy, cx, cy = map(float, (folder / 'camera_info.txt').read_text().split())
        self.camera = Camera(fx, fy, cx, cy, *self.labels.shape)
        [pose] = yaml.safe_load((folder / 'transforms.yaml').read_text()).values()
        self.pose = Pose.from_quaternion([pose['q'][k] for k in 'xyzw'],
                                         [pose['t'][k] for k in 'xyz'])

    def score(self, **how) -> dict[str, float]:
        """Return how painted points agree with the scan's own labels."""
        painted = Painter(self.camera).paint(self.scan, self.pose, self.labels, **how).labels
        seen = painted != 255
        ours, theirs = painted[seen], self.truth[seen]
        is_free, should_be = np.isin(ours, TRAVERSABLE), np.isin(theirs, TRAVERSABLE)
        return {'points': seen.sum(), 'class': (ours == theirs).mean(),
                'traversable': (is_free == should_be).mean(),
                'unsafe': (is_free & ~should_be).sum(),
                'unsafe_rate': (is_free & ~should_be).mean()}


def test_leaving_hidden_points_out_paints_a_real_scan_better_and_no_less_safely() -> None:
    """7,429 of the points are in view; those at (0, 0, 0) are none."""
    frame = Rellis()
    plain = frame.score(leave_out_hidden=False)
    seen, both = frame.score(), frame.score(border=2)
    assert plain['class'] == pytest.approx(0.773, abs=0.001)
    assert plain['traversable'] == pytest.approx(0.935, abs=0.001)
    for better in (seen, both):
        assert better['class'] > plain['class']
        assert better['traversable'] > plain['traversable']
        assert better['unsafe'] <= plain['unsafe']
        assert better['points'] > 0.95 * plain['points']
    assert both['class'] > 0.78
    assert both['unsafe_rate'] < plain['unsafe_rate']


class Orfd:
    """The frame: dense depth of the camera's size."""

    def __init__(self) -> None:
        folder = DATA / 'orfd'
        if not folder.exists():
            pytest.skip(f'{folder} is not there: a real frame of ORFD')
        [depth], [calibration] = folder.glob('dense_depth*'), folder.glob('calib*')
        self.depth = (cv2.imread(str(depth), cv2.IMREAD_UNCHANGED) / 256).astype(np.float32)
        lines = dict(line.split(':') for line in calibration.read_text().splitlines() if line)
        k = np.array(lines['cam_K'].split(), float).reshape(3, 3)
        self.camera = Camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], *self.depth.shape)


TRACK = Traversability(LabelSet('track', (LabelClass('ground', (0, 160, 0), 'ground'),)),
                       ('free',))


def level_pose(points: np.ndarray) -> Pose:
    """Return the camera's pose over the plane through points of its frame, (N, 3)."""
    middle = points.mean(0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    normal *= -np.sign(normal[1])  # up, against y
    forward = np.array([0, 0, 1.0]) - normal * normal[2]
    forward /= np.linalg.norm(forward)
    rotation = np.stack([forward, np.cross(normal, forward), normal])
    return Pose(rotation, np.array([0, 0, -middle @ normal]))


def test_the_track_of_a_real_depth_image_is_a_plane_and_free_and_the_bushes_are_not() -> None:
    frame = Orfd()
    labels = np.zeros(frame.depth.shape, np.uint8)  # all is labelled ground: heights must tell
    cloud = LabelCloud(TRACK, CloudConfig(max_range=30, grid_size=60, grid_resolution=0.25))
    rays = frame.camera.rays()
    in_camera = rays / rays[..., 2:] * frame.depth[..., None]
    track = np.zeros(frame.depth.shape, bool)
    track[-200:, 500:800] = True
    track &= (frame.depth > 1) & (frame.depth < 10)
    pose = level_pose(in_camera[track])
    points = cloud.look_at_depth(frame.camera, pose, frame.depth, labels)
    z = points.z[track]
    assert np.nanstd(z) < 0.05
    assert np.isfinite(z).mean() > 0.95
    place = cloud.place()
    cells = cloud.cells([points], place)
    x, y = place.middles()
    def share(code: int, x0: float, x1: float, y0: float, y1: float) -> float:
        return float((cells[(x > x0) & (x < x1) & (y > y0) & (y < y1)] == code).mean())

    assert share(FREE, 6, 25, 2, 3) > 0.95    # along the track, which bends to the left
    assert share(FREE, 6, 12, -1, 3) > 0.95
    assert share(BLOCKED, 20, 26, -8, -5) > 0.85   # the trees to its right
    assert share(BLOCKED, 18, 24, 6.8, 8) > 0.65   # the bushes to its left
    assert share(FREE, 18, 26, 6.8, 8) < 0.02
