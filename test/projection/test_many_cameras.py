# SPDX-License-Identifier: Apache-2.0
"""Several cameras are one wide one, where they look; one that dies sees nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from relief import Hole, Relief
from scene import TRAVERSABILITY, Box, Scene

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.projection import Camera, Ground, GroundConfig, Pose
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.traversability import BLOCKED, FREE

BOXES = (Box(6.0, 0.3), Box(4.0, 3.0, yaw=0.5), Box(3.0, -4.0, length=2.0),
         Box(9.0, -5.0, 0.3, 0.3), Box(8.0, 5.0, label=4))
YAWS = {'left': np.radians(45), 'front': 0.0, 'right': np.radians(-45)}
# 68 degrees wide each, so that neighbours share 23 of them; the wide one sees 156, as a fisheye.
NARROW = Camera(400.0, 400.0, 270.0, 160.0, 320, 540)
WIDE = Camera(300.0, 300.0, 408.0, 200.0, 400, 816, 'equidistant')


@cache
def scene(name: str) -> Scene:
    if name == 'wide':
        return Scene(WIDE, Pose.of_camera(1.5, pitch=0.2), BOXES)
    return Scene(NARROW, Pose.of_camera(1.5, pitch=0.2, yaw=YAWS[name]), BOXES)


def ground_of(names, max_range: float = 8.0, labels=None, **config) -> Ground:
    ground = Ground(TRAVERSABILITY, GroundConfig(max_range=max_range, **config))
    for name in names:
        seen = scene(name)
        ground.set_camera(seen.camera, seen.pose, name)
        ground.look(seen.labels if labels is None else labels[name], name=name)
    return ground


def grid_of(ground: Ground, names, blind=(), stamp_s: float = 0.0) -> np.ndarray:
    return ground.grid_of(dict.fromkeys(names, (0.0, 0.0, 0.0)), stamp_s, blind).values


def bearings(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Give the bearing and the distance of each cell's middle, in rad and m."""
    y, x = (np.mgrid[:shape[0], :shape[1]] + 0.5 - shape[0] / 2) * 0.1
    return np.arctan2(y, x), np.hypot(x, y)


def test_three_cameras_make_the_grid_and_the_scan_of_one_wide_one() -> None:
    three, wide = ground_of(YAWS), ground_of(['wide'])
    ours, theirs = grid_of(three, YAWS), grid_of(wide, ['wide'])
    bearing, distance = bearings(ours.shape)
    # What both see: not the rims, and not nearer than the narrow ones' lower rows.
    inside = (np.abs(bearing) < np.radians(65)) & (distance > 3.5) & (distance < 7.5)
    for value in (0, 100):
        # To a cell: pixels of other sizes end elsewhere.
        for a, b in ((ours, theirs), (theirs, ours)):
            near = np.lib.stride_tricks.sliding_window_view(
                np.pad(b == value, 1), (3, 3)).any((2, 3))
            assert (inside & (a == value) & ~near).sum() <= 0.04 * (inside & (a == value)).sum()
    assert (ours[inside] == theirs[inside]).mean() > 0.97
    assert (ours[inside] == 0).mean() > 0.3
    assert (ours[inside] == 100).any()

    (scan, ranges), (wide_scan, wide_ranges) = (
        (s, r.copy()) for s, r in (three.free_space(list(YAWS)), wide.free_space(['wide'])))
    assert scan.beams == wide_scan.beams
    angle = scan.angle_min + scan.angle_increment * np.arange(scan.beams)
    ahead = np.abs(angle) < np.radians(65)
    both = ahead & np.isfinite(ranges) & np.isfinite(wide_ranges)
    assert both.sum() > 50
    assert np.quantile(np.abs(ranges[both] - wide_ranges[both]), 0.97) < 0.15
    assert (np.isposinf(ranges[ahead]) == np.isposinf(wide_ranges[ahead])).mean() > 0.97


@pytest.mark.parametrize('decay_s', [0.0, 100.0])
def test_what_a_dead_camera_looked_at_is_unknown_but_where_another_sees_it(decay_s) -> None:
    ground = ground_of(YAWS, grid_decay_s=decay_s)
    for i in range(3):
        before = grid_of(ground, YAWS, stamp_s=i * 0.1).copy()
    bearing, _ = bearings(before.shape)
    of_left = (bearing > np.radians(48)) & (bearing < np.radians(75))
    others = (bearing < np.radians(25)) & (bearing > np.radians(-90))
    assert (before[of_left] == 0).sum() > 500
    after = grid_of(ground, ['front', 'right'], ['left'], 0.4)
    assert not (after[of_left] == 0).any()
    assert np.array_equal(after[others] == 0, before[others] == 0)
    scan, ranges = ground.free_space(['front', 'right'])
    angle = scan.angle_min + scan.angle_increment * np.arange(scan.beams)
    assert np.isnan(ranges[angle > np.radians(48)]).all()
    assert np.isposinf(ranges[np.abs(angle) < np.radians(25)]).any()


def test_in_the_overlap_an_obstacle_that_one_camera_sees_is_one() -> None:
    labels = {name: scene(name).labels.copy() for name in YAWS}
    labels['front'][labels['front'] >= 3] = 1  # it takes the boxes for road
    values = grid_of(ground_of(YAWS, labels=labels), YAWS)
    bearing, distance = bearings(values.shape)
    box = (np.abs(bearing - np.arctan2(3.0, 4.0)) < 0.15) & (distance > 4.0) & (distance < 5.5)
    assert (values[box] == 100).any()
    for name in YAWS:  # and what one of them does not know, the other may
        labels = {n: scene(n).labels.copy() for n in YAWS}
        labels[name][:] = UNLABELLED
        values = grid_of(ground_of(YAWS, labels=labels), YAWS)
        assert (values == 0).sum() > 1000


def test_a_beam_that_runs_through_two_views_ends_where_the_second_sees_an_obstacle() -> None:
    """A camera that looks at the near ground and one that looks over it at the far one."""
    near, far = (Camera(200.0, 200.0, 100.0, 100.0, 200, 200) for _ in range(2))
    box = (Box(7.0, 0.0),)
    ground = Ground(TRAVERSABILITY, GroundConfig(max_range=10.0))
    for name, camera, pitch in (('near', near, 1.0), ('far', far, 0.25)):
        seen = Scene(camera, Pose.of_camera(1.5, pitch=pitch), box)
        ground.set_camera(camera, seen.pose, name)
        ground.look(seen.labels, name=name)
    scan, ranges = ground.free_space(['near', 'far'])
    ahead = round(-scan.angle_min / scan.angle_increment)
    assert ranges[ahead] == pytest.approx(6.5, abs=0.15)
    assert scan.range_min < 1.0
    scan, ranges = ground.free_space(['near'])
    assert np.isnan(ranges[ahead])  # its view ends before


def seen_with_depth(names) -> tuple[np.ndarray, np.ndarray]:
    """Give cells and scan of cameras with depth, over the same boxes and a hole."""
    judge = LabelCloud(TRAVERSABILITY, CloudConfig(max_range=12.0))
    points, views = [], []
    for name in names:
        seen = Relief(scene(name).camera, scene(name).pose, BOXES, (Hole(5.0, -1.5),))
        own = LabelCloud(TRAVERSABILITY, judge.config)
        points.append(own.look_at_depth(seen.camera, seen.pose, seen.depth, seen.labels))
        views.append(own.view(seen.camera, seen.pose))
    place = judge.place()
    cells = judge.cells(points, place)
    return cells, judge.free_space(cells, place, views)[1]


def test_three_depth_cameras_make_the_grid_and_the_scan_of_one_wide_one() -> None:
    (ours, our_scan), (theirs, wide_scan) = seen_with_depth(YAWS), seen_with_depth(['wide'])
    bearing, distance = bearings(ours.shape)
    inside = (np.abs(bearing) < np.radians(65)) & (distance > 3.5) & (distance < 7.5)
    for code in (FREE, BLOCKED):
        for a, b in ((ours, theirs), (theirs, ours)):
            near = np.lib.stride_tricks.sliding_window_view(
                np.pad(b == code, 1), (3, 3)).any((2, 3))
            assert (inside & (a == code)).sum() > 50
            assert (inside & (a == code) & ~near).sum() <= 0.02 * (inside & (a == code)).sum()
    angle = np.linspace(-180, 180, len(our_scan), endpoint=False)
    ahead = np.abs(angle) < 65
    both = ahead & np.isfinite(our_scan) & np.isfinite(wide_scan)
    assert both.sum() > 50
    assert np.abs(our_scan[both] - wide_scan[both]).max() < 0.15
    assert (np.isposinf(our_scan[ahead]) == np.isposinf(wide_scan[ahead])).mean() > 0.98
