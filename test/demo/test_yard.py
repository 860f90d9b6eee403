# SPDX-License-Identifier: Apache-2.0
"""The drawn yard of the demo of depth."""

from __future__ import annotations

import numpy as np

from lednet_ros.demo.yard import HOLE, YARD, look
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.projection import Camera, Pose

CAMERA = Camera(115.0, 115.0, 106.0, 60.0, 120, 212)
LABELS = builtin_label_set('camvid')


def test_depth_and_labels_are_of_what_stands_there() -> None:
    pose = Pose.of_camera(1.3, pitch=0.2)
    picture, labels, depth = look(CAMERA, pose, LABELS)
    assert picture.shape == (120, 212, 3)
    rays = CAMERA.rays()
    points = (rays / rays[..., 2:] * depth[..., None]) @ pose.rotation.T + pose.origin
    seen = depth > 0
    ground = (labels == LABELS.names.index('road')) & seen
    assert np.abs(points[ground][:, 2]).min() < 1e-3
    assert points[seen][:, 2].min() < -0.1  # in the hole
    below = points[seen & (points[..., 2] < -0.05)]
    assert ((below[:, 0] > HOLE.x0 - 0.01) & (below[:, 0] < HOLE.x1 + 0.01)).all()
    [car] = [block for block in YARD if block.name == 'car']
    of_car = points[(labels == LABELS.names.index('car')) & seen]
    assert of_car[:, 0].min() > car.x0 - 0.01
    assert of_car[:, 2].max() < car.z1 + 0.01
    assert set(np.unique(labels[~seen])) <= {LABELS.names.index('sky'),
                                             LABELS.names.index('road')}  # beyond 40 m
