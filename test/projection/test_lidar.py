# SPDX-License-Identifier: Apache-2.0
"""Clouds painted by label images."""

from __future__ import annotations

import numpy as np
import pytest
from relief import BOX, ROAD, SKY, Box, Relief
from scene import LENSES, TRAVERSABILITY, make_camera

from lednet_ros.projection import Pose
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.heights import BESIDE
from lednet_ros.projection.lidar import Painter
from lednet_ros.projection.traversability import BLOCKED, FREE, OUT

CAMERA = make_camera(height=256, width=512)
POSE = Pose.of_camera(1.3, pitch=0.1)
MAST = np.array([0.0, 0.6, 2.2])  # the LiDAR is above the camera and beside it
BOXES = (Box(5.0, 0.0, 1.0, 1.5, 1.6),)


def scan(things=BOXES, rings=64, columns=1024) -> np.ndarray:
    """Return what a LiDAR on the mast sees, float32 (3, N), in the robot's frame; NaN: no echo."""
    bearing, slope = np.meshgrid(np.linspace(-np.pi, np.pi, columns, endpoint=False),
                                 np.radians(np.linspace(-32, 12, rings)))
    rays = np.stack([np.cos(slope) * np.cos(bearing), np.cos(slope) * np.sin(bearing),
                     np.sin(slope)], -1).reshape(-1, 3)
    with np.errstate(divide='ignore'):
        along = np.where(rays[:, 2] < 0, -MAST[2] / rays[:, 2], np.inf)
    for thing in things:
        along = np.minimum(along, thing.hit(MAST, rays))
    along[along > 40] = np.nan
    return (MAST[:, None] + along * rays.T).astype(np.float32)


@pytest.mark.parametrize('lens', LENSES)
def test_a_point_has_the_label_of_the_pixel_that_sees_it(lens) -> None:
    scene = Relief(LENSES[lens], POSE, BOXES)
    at = np.array([(300, 500), (330, 700), (200, 520), (450, 100)])
    points = scene.hits[at[:, 0], at[:, 1]].T.astype(np.float32)
    painted = Painter(LENSES[lens]).paint(points, POSE, scene.labels).labels
    assert painted.tolist() == scene.labels[at[:, 0], at[:, 1]].tolist()


def test_what_no_pixel_sees_is_unlabelled() -> None:
    points = np.float32([[-3, 0, 0], [5, 30, 0], [np.nan] * 3, [np.inf] * 3, [0, 0, 1.3]]).T
    labels = np.full((256, 512), ROAD, np.uint8)
    painted, sure, _ = Painter(CAMERA).paint(points, POSE, labels, labels)
    assert painted.tolist() == [255] * 5
    assert sure is not None
    assert sure.tolist() == [0] * 5


def test_points_hidden_from_the_camera_are_not_painted() -> None:
    """The LiDAR looks over the box onto road that the camera sees the box before."""
    scene = Relief(CAMERA, POSE, BOXES)
    points = scan()
    x, _, z = points
    behind = (x > 5.6) & (z < 0.05)
    plain = Painter(CAMERA).paint(points, POSE, scene.labels, leave_out_hidden=False).labels
    painted = Painter(CAMERA).paint(points, POSE, scene.labels).labels
    wrong = behind & (plain == BOX)
    assert wrong.sum() > 100
    assert (painted == BOX)[wrong].sum() < 0.1 * wrong.sum()
    right = (plain != 255) & ~wrong & (plain != SKY)
    assert (painted[right] == plain[right]).mean() > 0.97


def test_open_ground_hides_nothing() -> None:
    scene = Relief(CAMERA, POSE)
    plain = Painter(CAMERA).paint(scan(()), POSE, scene.labels, leave_out_hidden=False).labels
    painted = Painter(CAMERA).paint(scan(()), POSE, scene.labels).labels
    assert (plain == ROAD).sum() > 1000
    assert np.array_equal(plain, painted)


def test_where_classes_meet_points_stay_unlabelled() -> None:
    labels = np.full((256, 512), ROAD, np.uint8)
    labels[:, 256:] = BOX
    points = scan(())
    painted = Painter(CAMERA).paint(points, POSE, labels, border=2).labels
    plain = Painter(CAMERA).paint(points, POSE, labels).labels
    left_out = (plain != 255) & (painted == 255)
    assert 0 < left_out.sum() < 0.1 * (plain != 255).sum()


def test_all_points_stay_and_the_seen_ones_make_cells() -> None:
    scene = Relief(CAMERA, POSE, BOXES)
    cloud = LabelCloud(TRAVERSABILITY, CloudConfig(grid_resolution=0.25))
    points = scan()
    seen = cloud.look_at_points(CAMERA, POSE, points, MAST, scene.labels)
    assert seen.shape == (1, points.shape[1])
    place = cloud.place()
    cells = cloud.cells([seen], place)
    x, y = place.middles()
    ahead = (np.abs(y) < 1.5) & (x > 2.5) & (x < 4)
    assert (cells[ahead] == FREE).sum() > 0.5 * ahead.sum()
    front = (BOXES[0].distance(x, y) < 0.3) & (x < 4.7) & (x > 4.4)
    assert (cells[front] == BLOCKED).sum() > 0.7 * front.sum()  # its corners are borders
    assert not (cells[x < 0] == FREE).any()  # nothing has a label there
    assert (cells[x < 0] == BESIDE).any()
    assert (cells == OUT).any()  # between rings
    geometry, ranges = cloud.free_space(cells, place)
    assert ranges[geometry.beams // 2] <= 4.6
    assert not np.isposinf(ranges).any()
    behind = np.abs(np.arange(geometry.beams) * geometry.angle_increment - np.pi) > np.pi / 2
    assert not (ranges[behind] > 4.4).any()  # the nearest ring, of the mast that is 0.6 m aside
    assert np.isfinite(ranges[behind]).all()


@pytest.mark.parametrize('body', [
    [(-0.4, 0.0, 0.5), (-0.4, 0.0, 0.6)], [(-0.4, 0.1, 0.0)],
    [(0.35 * np.cos(a), 0.35 * np.sin(a), 0.5) for a in np.linspace(2, 3, 50)]],
    ids=['two points', 'a stray', 'a mast'])
def test_a_scan_is_not_lost_where_a_lidar_sees_the_robot_itself(body) -> None:
    scene = Relief(CAMERA, POSE, BOXES)
    ranges = []
    for points in (scan(), np.concatenate([scan(), np.float32(body).T], axis=1)):
        cloud = LabelCloud(TRAVERSABILITY, CloudConfig(grid_resolution=0.25))
        place = cloud.place()
        seen = cloud.look_at_points(CAMERA, POSE, points, MAST, scene.labels)
        geometry, found = cloud.free_space(cloud.cells([seen], place), place)
        assert geometry.range_min <= np.nanmin(found)
        ranges.append(found)
    alone, beside = ranges
    assert np.isfinite(alone).mean() > 0.9
    changed = ~np.isclose(alone, beside, equal_nan=True)
    assert changed.mean() < 0.3
    assert (beside[changed] < 1.0).all(), 'where it sees itself'


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('nowhere', [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize('axes', [[0, 1, 2], [0], [1], [2]], ids=['all', 'x', 'y', 'z'])
def test_points_that_are_none_are_left_out_in_silence(nowhere, axes) -> None:
    """So drivers mark directions from which no light came back; some by the largest number."""
    points = np.zeros((3, 4), np.float32)
    points[0] = 3.0
    points[axes, 1:] = nowhere
    labels = np.full((256, 512), ROAD, np.uint8)
    seen = LabelCloud(TRAVERSABILITY).look_at_points(CAMERA, POSE, points, POSE.origin, labels)
    assert seen.labels[0, 0] == ROAD
    assert (seen.codes[0, 1:] == OUT).all()
    if len(axes) == 3 or not np.isfinite(nowhere):
        assert (seen.labels[0, 1:] == 255).all()


def test_a_wall_behind_the_robot_is_an_obstacle_without_a_label() -> None:
    scene = Relief(CAMERA, POSE)
    wall = Box(-5, 0, 1, 6, 2)
    cloud = LabelCloud(TRAVERSABILITY, CloudConfig(grid_resolution=0.25))
    seen = cloud.look_at_points(CAMERA, POSE, scan((wall,)), MAST, scene.labels)
    cells = cloud.cells([seen], cloud.place())
    x, y = cloud.place().middles()
    beside = (np.abs(y) < 2) & (np.abs(x + 4.5) < 0.25)  # its face is between two columns
    assert (cells == BLOCKED)[beside].reshape(-1, 2).any(1).all()
