# SPDX-License-Identifier: Apache-2.0
"""Points, grid and scan against rendered ground truth: distorted and not, pitched and rolled."""

from __future__ import annotations

import numpy as np
import pytest
from scene import (
    BOX,
    LENSES,
    POSES,
    TRAVERSABILITY,
    VERGE,
    WALL,
    Box,
    Scene,
    make_camera,
    opencv_pixels,
)

from lednet_ros.projection import Ground, GroundConfig, Pose

CELL = 0.1
FEW = {('pinhole', 'level'), ('plumb_bob', 'up 5, roll -20, turned'), ('rational', 'pitch 20'),
       ('equidistant', 'pitch 10, roll 20'), ('plumb_bob', 'pitch 20, roll -20')}
CASES = [
    pytest.param((lens, pose), id=f'{lens}, {pose}',
                 marks=[] if (lens, pose) in FEW else pytest.mark.full)
    for lens in LENSES for pose in POSES]


@pytest.fixture(scope='module', params=CASES)
def seen(request) -> tuple[Scene, Ground, np.ndarray]:
    """A scene with four boxes before the camera, what came of it, and its points."""
    lens, pose_name = request.param
    camera, pose = LENSES[lens], POSES[pose_name]
    forward = pose.rotation @ [0, 0, 1]
    heading = np.arctan2(forward[1], forward[0])
    c, s = np.cos(heading), np.sin(heading)

    def box(ahead: float, left: float, *size: float, **more) -> Box:
        x, y = c * ahead - s * left + pose.origin[0], s * ahead + c * left + pose.origin[1]
        return Box(x, y, *size, **{'yaw': heading, **more})

    scene = Scene(camera, pose, (
        box(5, 1, 1, 1, 2.5, yaw=0.3), box(8.5, -2, 1, 2, 1.6),
        box(9, 0.3, 0.3, 0.3, 3, label=WALL), box(14, 3, 2, 4, 3, label=WALL)))
    ground = Ground(TRAVERSABILITY, GroundConfig(grid_resolution=CELL, grid_size=24))
    ground.set_camera(camera, pose)
    assert ground.look(scene.labels)
    points = np.empty((*scene.labels.shape, 4), np.float32)
    ground.points(points)
    return scene, ground, points[..., :3]


def ranges_of(scene: Scene, points: np.ndarray) -> np.ndarray:
    """How far points are from below the camera, along the ground."""
    return np.hypot(points[..., 0] - scene.pose.origin[0], points[..., 1] - scene.pose.origin[1])


def test_ground_pixels_lie_within_2_percent_up_to_20_m(seen) -> None:
    scene, _, points = seen
    on_ground = (scene.which < 0) & np.isfinite(scene.hits).all(2)
    true_range = ranges_of(scene, scene.hits)
    within = on_ground & (true_range < 20 * 0.999)
    assert within.sum() > 50_000
    error = np.linalg.norm(points - scene.hits, axis=2)[within] / true_range[within]
    assert error.max() < 0.02  # NaN would fail too
    assert error.max() < 0.001  # and really it is exact
    beyond = (scene.which < 0) & ~(true_range < 20 * 1.001)
    assert np.isnan(points[beyond]).all()  # sky among it


def test_a_checkerboard_s_squares_are_cells(seen) -> None:
    scene, *_ = seen
    board = Scene(scene.camera, scene.pose, scene.boxes, checkered=True)
    ground = Ground(TRAVERSABILITY, GroundConfig(grid_resolution=CELL, grid_size=24))
    ground.set_camera(board.camera, board.pose)
    ground.look(board.labels)
    points = np.empty((*board.labels.shape, 4), np.float32)
    ground.points(points)
    lie = (board.which < 0) & np.isfinite(points).all(2)
    x, y = points[lie][:, :2].T
    inner = (np.abs(x - np.round(x)) > 0.02) & (np.abs(y - np.round(y)) > 0.02)
    assert (on_verge(x, y) == (board.labels[lie] == VERGE))[inner].all()
    values, x, y = cells(ground)
    inner = (np.abs(x - np.round(x)) > 0.2) & (np.abs(y - np.round(y)) > 0.2)
    inner &= (values != -1) & (np.min([b.distance(x, y) for b in board.boxes], 0) > 0.3)
    inner &= ranges_of(board, np.stack([x, y], -1)) < 10
    assert inner.sum() > 500
    assert ((values == 100) == on_verge(x, y))[inner].all()


def on_verge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.floor(x) + np.floor(y)) % 2 == 1


def test_obstacle_pixels_lie_where_they_stand_or_nowhere_and_never_behind(seen) -> None:
    scene, _, points = seen
    placed = np.isfinite(points).all(2)
    pixel = 1 / scene.camera.fx
    for i, box in enumerate(scene.boxes):
        its = scene.which == i
        true_range = ranges_of(scene, scene.hits[its & placed])
        # A pixel, at most, of depression: r^2 / h of it.
        slack = true_range ** 2 / scene.pose.origin[2] * pixel * 1.1 + 0.01
        behind = ranges_of(scene, points[its & placed]) - true_range
        assert (behind < slack).all()
        assert (points[its & placed][:, 2] == 0).all()
        if i < 3:  # nothing hides their feet, and the image holds most of them
            assert (its & placed).sum() > 0.85 * its.sum()
            near = box.distance(*points[its & placed][:, :2].T)
            assert near.max() < CELL


def cells(ground: Ground) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid's values and its cells' middles."""
    grid = ground.grid(0.0)
    x, y = ((np.arange(grid.cells) + 0.5) * CELL + corner for corner in grid.origin)
    return grid.values.copy(), *np.meshgrid(x, y)


def test_occupied_cells_are_within_one_cell_of_obstacles_up_to_10_m(seen) -> None:
    scene, ground, _ = seen
    values, x, y = cells(ground)
    range_ = ranges_of(scene, np.stack([x, y], -1))
    occupied = (values == 100) & (range_ < 10)
    assert occupied.sum() > 20
    off = np.min([box.distance(x, y) for box in scene.boxes], axis=0)[occupied]
    assert off.max() <= 1.5 * CELL * np.sqrt(2)  # the middle of the next cell, at its corner
    # And the other way round: each visible bit of an outline has one.
    grown = np.pad(values == 100, 1)
    neighbourhood = np.max([grown[i:i + values.shape[0], j:j + values.shape[1]]
                            for i in range(3) for j in range(3)], axis=0)
    faces = 0
    for box in scene.boxes[:3]:
        along = np.linspace(-0.5, 0.5, 41)
        for a, b in ((-0.5, along), (0.5, along), (along, -0.5), (along, 0.5)):
            a, b = np.broadcast_arrays(a * (box.length + 0.002), b * (box.width + 0.002))
            c, s = np.cos(box.yaw), np.sin(box.yaw)
            px, py = box.x + c * a - s * b, box.y + s * a + c * b
            visible = scene.sees(px, py) & in_image(scene, px, py) & (
                ranges_of(scene, np.stack([px, py], -1)) < 10)
            column, row = (np.floor((p - corner) / CELL).astype(int)
                           for p, corner in zip((px, py), ground._grid.origin, strict=True))
            bearings = np.arctan2(py - scene.pose.origin[1], px - scene.pose.origin[0])
            if visible.sum() > 20 and np.ptp(bearings) * scene.camera.fx > 10:  # not edge-on
                assert neighbourhood[row[visible], column[visible]].mean() > 0.9
                faces += 1
    assert faces >= 3


def in_image(scene: Scene, x: np.ndarray, y: np.ndarray, margin: float = 3.0) -> np.ndarray:
    """Whether ground points fall into the image, well inside its border."""
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3) - scene.pose.origin
    points = points @ scene.pose.rotation
    u, v = opencv_pixels(scene.camera, points).T
    # Far outside the image its distortion would fold back into it.
    ahead = points[:, 2] > np.linalg.norm(points, axis=1) * scene.widest
    return (ahead & (u > margin) & (v > margin) & (u < scene.camera.width - 1 - margin)
            & (v < scene.camera.height - 1 - margin)).reshape(x.shape)


def test_free_cells_are_seen_whole_and_what_is_hidden_is_unknown(seen) -> None:
    scene, ground, _ = seen
    values, x, y = cells(ground)
    free = values == 0
    pixel = ranges_of(scene, np.stack([x, y], -1)) / scene.camera.fx
    # Hidden, and not only by a hair's breadth: what a pixel's middle cannot tell.
    hidden = np.ones_like(free)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            hidden &= ~scene.sees(x + dx * (0.05 + pixel), y + dy * (0.05 + pixel))
    inside = np.min([box.distance(x, y) for box in scene.boxes], axis=0) <= 0
    assert hidden.sum() > 100
    assert not (free & (hidden | inside)).any()
    assert not (free & ~in_image(scene, x, y, -2)).any()
    assert (values[hidden & (np.min([b.distance(x, y) for b in scene.boxes], 0) > 0.3)
                   ] == -1).mean() > 0.995
    # Nor is it timid: what is seen well is free.
    clear = np.ones_like(free)
    for dx in (-0.1, 0.1):
        for dy in (-0.1, 0.1):
            clear &= scene.sees(x + dx, y + dy) & in_image(scene, x + dx, y + dy)
    clear &= np.min([box.distance(x, y) for box in scene.boxes], axis=0) > 0.2
    clear &= ranges_of(scene, np.stack([x, y], -1)) < 10
    assert free[clear].mean() > 0.98


def test_beams_end_where_free_ground_does(seen) -> None:
    scene, ground, _ = seen
    scan, ranges = ground.free_space()
    bearings = scan.angle_min + np.arange(scan.beams) * scan.angle_increment
    ends = np.isfinite(ranges)
    assert ends.sum() > 20
    for bearing, range_ in zip(bearings[ends], ranges[ends], strict=True):
        # A beam is as wide as its increment.
        across = bearing + np.linspace(-0.6, 0.6, 7) * scan.angle_increment
        along = np.linspace(0.2, 20, 397)
        x, y = (np.multiply.outer(side(across), along) for side in (np.cos, np.sin))
        free = scene.sees(x, y) & (np.min([b.distance(x, y) for b in scene.boxes], 0) > 0)
        free |= ~in_image(scene, x, y, 0)  # not judged there
        slack = 0.1 + range_ ** 2 / scene.pose.origin[2] / scene.camera.fx
        before, there = along < range_ - slack, np.abs(along - range_) <= slack
        assert free[3, before].all(), (bearing, range_)
        assert not free[:, there].all(), (bearing, range_)
    # No beam but those towards boxes ends: the rest is free, to the end of what is in view.
    open_ = np.isposinf(ranges) & in_image(scene, 5 * np.cos(bearings), 5 * np.sin(bearings))
    for bearing in bearings[open_]:
        x, y = (side(bearing) * np.linspace(3, 20, 100) for side in (np.cos, np.sin))
        blocked = np.min([b.distance(x, y) for b in scene.boxes], 0) <= 0
        assert not (blocked & in_image(scene, x, y)).any()


@pytest.mark.parametrize('roll', [-0.3, 0.0, 0.3])
@pytest.mark.parametrize('yaw', [0.0, 0.1])
def test_an_obstacle_whose_foot_is_hidden_is_nowhere_behind_itself(roll, yaw) -> None:
    pose = Pose.of_camera(1.5, roll=roll, pitch=0.12, yaw=yaw)
    camera = make_camera(height=256, width=512)
    wall = 1
    scene = Scene(camera, pose, (
        Box(4, 0, 0.2, 4.0, 1.0), Box(7, 0.3, 0.2, 1.2, 1.1, label=WALL)))
    ground = Ground(TRAVERSABILITY)
    ground.set_camera(camera, pose)
    ground.look(scene.labels)
    points = np.empty((*scene.labels.shape, 4), np.float32)
    ground.points(points)
    there = scene.which == wall
    assert there.sum() > 500
    behind = (ranges_of(scene, points) - ranges_of(scene, scene.hits))[there]
    assert not (behind > 0.5).any()


@pytest.mark.parametrize('increment', [0.2, 0.05])
def test_no_thin_obstacle_passes_between_wide_beams(increment) -> None:
    camera, pose = make_camera(height=256, width=512), Pose.of_camera(1.5, pitch=0.12)
    for y in np.linspace(-1.0, 1.0, 10):
        scene = Scene(camera, pose, (Box(10, y, 0.1, 0.12, 2.0),))
        assert scene.labels.max() == BOX
        ground = Ground(TRAVERSABILITY, GroundConfig(angle_increment=increment))
        ground.set_camera(camera, pose)
        ground.look(scene.labels)
        assert np.nanmin(ground.free_space()[1]) == pytest.approx(10, abs=0.5), y


def test_no_strip_passes_between_the_ranges_of_a_long_beam() -> None:
    camera, pose = make_camera(height=256, width=512), Pose.of_camera(1.5, pitch=0.12)
    labels = Scene(camera, pose).labels.copy()
    row = 200
    labels[row] = VERGE
    ground = Ground(TRAVERSABILITY, GroundConfig(max_range=200.0))
    ground.set_camera(camera, pose)
    ground.look(labels)
    scan, ranges = ground.free_space()
    assert np.isfinite(ranges[round(-scan.angle_min / scan.angle_increment)])
