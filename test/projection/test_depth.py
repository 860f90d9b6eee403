# SPDX-License-Identifier: Apache-2.0
"""Depth images to labelled points, against rendered scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from relief import BOX, ROAD, Box, Hole, Ramp, Relief, pole
from scene import LENSES, TRAVERSABILITY, make_camera

from lednet_ros.projection import Pose
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.depth import BadDepth, leave_out_edges, metres

CAMERA = make_camera(height=256, width=512)
POSE = Pose.of_camera(1.3, roll=np.radians(20), pitch=np.radians(20))
THINGS = (Box(5, 1.5), pole(4, -1), Ramp(5, -2.5))


def look(scene: Relief, depth: np.ndarray | None = None, **config: float):
    cloud = LabelCloud(TRAVERSABILITY, CloudConfig(**config))
    return cloud.look_at_depth(scene.camera, scene.pose, scene.depth if depth is None else depth,
                               scene.labels)


@pytest.mark.parametrize('lens', LENSES)
def test_points_lie_where_the_scene_is_through_each_lens(lens) -> None:
    scene = Relief(LENSES[lens], POSE, THINGS, (Hole(3, 1),))
    points = look(scene)
    found = np.stack([points.x, points.y, points.z], -1)
    seen = np.isfinite(found).all(-1)
    error = np.linalg.norm(found - scene.hits, axis=-1)[seen]
    away = np.linalg.norm(scene.hits - scene.pose.origin, axis=-1)[seen]
    assert (error <= np.maximum(0.01 * away, 0.02)).all()
    in_range = (scene.depth > 0.1) & (scene.depth < 20)
    assert seen.sum() > 0.9 * in_range.sum()  # edges are few


def test_millimetres_and_metres_give_the_same_points() -> None:
    scene = Relief(CAMERA, POSE, THINGS)
    a, b = look(scene), look(scene, np.round(np.minimum(scene.depth, 60) * 1000).astype(np.uint16))
    assert np.nanmax(np.abs(a.x - b.x)) < 2e-3


@pytest.mark.parametrize('size', [(128, 256), (512, 1024), (170, 340)])
def test_depth_of_another_size_is_taken_to_the_nearest_pixel(size) -> None:
    scene = Relief(CAMERA, POSE)  # flat ground
    fine = Relief(make_camera(height=size[0], width=size[1]), POSE)
    points = look(scene, fine.depth)
    assert points.shape == (256, 512)
    near = np.hypot(points.x, points.y) < 4
    assert np.abs(points.z[near]).max() < 0.08  # a pixel of ground at most


def test_a_planner_s_size_is_of_the_camera_s_shape_nearly() -> None:
    """Labels of 424x240 beside depth of 1280x720: each side is scaled by itself."""
    fine = Relief(make_camera(height=720, width=1280), POSE, (Box(5, 1.5),))
    c, across, down = fine.camera, 424 / 1280, 240 / 720
    camera = replace(c, fx=c.fx * across, fy=c.fy * down, cx=(c.cx + 0.5) * across - 0.5,
                     cy=(c.cy + 0.5) * down - 0.5, width=424, height=240)
    scene = Relief(camera, POSE, (Box(5, 1.5),))
    points = look(scene, fine.depth)
    found = np.stack([points.x, points.y, points.z], -1)
    seen = np.isfinite(found).all(-1)
    away = np.linalg.norm(scene.hits - POSE.origin, axis=-1)
    error = np.linalg.norm(found - scene.hits, axis=-1)
    near = seen & (away < 6)
    assert near.sum() > 10_000
    # A pixel of ground at most, but at edges.
    assert (error[near] < 0.05 * away[near]).mean() > 0.98


def test_depth_of_another_shape_is_refused() -> None:
    with pytest.raises(BadDepth, match=r'320x256 and label 512x256.*registered'):
        look(Relief(CAMERA, POSE), np.ones((256, 320), np.float32))


@pytest.mark.parametrize(('depth', 'words'), [
    (np.full((256, 512), 2500, np.float32), 'look like millimetres'),
    (np.full((256, 512), 3, np.uint16), 'no millimetres')])
def test_units_that_cannot_be_are_refused(depth, words) -> None:
    with pytest.raises(BadDepth, match=words):
        look(Relief(CAMERA, POSE), depth)


def test_what_is_no_depth_gives_no_point() -> None:
    values = np.array([[0, -1, np.nan, np.inf, 0.05, 30, 5]], np.float32)
    found = metres(values, 1, 7, 0.1, 20)
    assert np.isnan(found[0, :6]).all()
    assert found[0, 6] == 5
    assert np.isnan(metres(np.zeros((1, 7), np.uint16), 1, 7, 0.1, 20)).all()


def row(*values: float) -> np.ndarray:
    return np.tile(np.array(values, np.float32), (7, 1))


def test_a_jump_leaves_the_nearer_side_and_drops_the_farther() -> None:
    depth = row(2, 2, 2, 2, 5, 5, 5, 5)
    leave_out_edges(depth, 0.05)
    assert np.array_equal(np.isnan(depth[3]), [False] * 4 + [True] + [False] * 3)


def test_no_point_stays_in_the_air_between_two_sides() -> None:
    depth = row(2, 2, 2, 2, 2.9, 5, 5, 5, 5)  # 2.9: half of each
    leave_out_edges(depth, 0.05)
    assert np.isnan(depth[3, 4])
    assert not np.isnan(depth[3, [0, 3, 7]]).any()


def test_a_jump_at_the_images_border_or_beside_no_depth_is_an_edge() -> None:
    depth = row(5, 2, np.nan, 5, 5, 2)
    depth[0, 3:] = np.nan
    leave_out_edges(depth, 0.05)
    assert np.array_equal(np.isnan(depth[3]), [True, False, True, False, True, False])
    assert np.array_equal(np.isnan(depth[0]), [True, False, True, True, True, True])


def test_ground_seen_at_a_grazing_angle_is_no_edge() -> None:
    scene = Relief(make_camera(height=120, width=160, focal=300.0), Pose.of_camera(0.3))
    depth = metres(scene.depth, 120, 160, 0.1, 12)
    before = np.isfinite(depth).sum()
    rows = np.flatnonzero(np.isfinite(depth[:, 80]))
    assert (np.diff(depth[rows, 80]) < -0.5).any()  # a row is more than 5 % from the next
    leave_out_edges(depth, 0.05)
    assert np.isfinite(depth).sum() > 0.95 * before  # all but the last two rows


@pytest.mark.parametrize('times', [1, 2, 4], ids=['equal', 'half', 'a quarter'])
def test_edges_of_a_scene_leave_no_point_far_from_its_surfaces(times) -> None:
    """Also where depth is smaller than the labels, and each of its pixels several of theirs."""
    pose = Pose.of_camera(1.3, pitch=0.2)
    scene = Relief(make_camera(height=256 // times, width=512 // times), pose, THINGS)
    blurred = scene.depth.copy()  # as an interpolating driver does it: halfway at each edge
    edge = np.abs(np.diff(scene.depth, axis=1)) > 0.5
    edge &= (scene.depth[:, 1:] > 0) & (scene.depth[:, :-1] > 0)
    blurred[:, 1:][edge] = (scene.depth[:, 1:][edge] + scene.depth[:, :-1][edge]) / 2
    points = look(Relief(CAMERA, pose, THINGS), blurred)
    is_wrong = np.abs(blurred - scene.depth) > 0.06 * scene.depth
    is_wrong &= (scene.depth > 0) & (scene.depth < 20)
    is_wrong = np.kron(is_wrong, np.ones((times, times), bool))
    assert is_wrong.sum() > 100
    assert not np.isfinite(points.z[is_wrong]).any()


def test_a_point_carries_label_colour_and_confidence() -> None:
    scene = Relief(CAMERA, POSE, THINGS)
    cloud = LabelCloud(TRAVERSABILITY)
    confidence = np.full(scene.labels.shape, 77, np.uint8)
    points = cloud.look_at_depth(CAMERA, POSE, scene.depth, scene.labels, confidence, 0.5)
    assert (points.codes[scene.labels == ROAD] == 3).all()  # unknown: less sure than that
    out = np.empty((*points.shape, 5), np.float32)
    points.fill(TRAVERSABILITY.labels, out)
    data = out.view(np.uint8)
    assert np.array_equal(data[..., 16], scene.labels)
    assert (data[..., 17] == 77).all()
    at = tuple(np.argwhere(scene.labels == BOX)[0])
    assert tuple(data[at][[14, 13, 12]]) == TRAVERSABILITY.labels.classes[BOX].color
