# SPDX-License-Identifier: Apache-2.0
"""Cells and scans by height and class, against rendered scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from relief import ROAD, VERGE, Box, Hole, Ramp, Relief, bar, pole
from scene import TRAVERSABILITY, make_camera

from lednet_ros.common.errors import ConfigError
from lednet_ros.projection import Pose
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.heights import BESIDE, HeightsConfig
from lednet_ros.projection.labelled_points import LabelledPoints
from lednet_ros.projection.traversability import BLOCKED, FREE, OBSTACLE, OUT, UNKNOWN

CAMERA = make_camera()
POSES = {'pitch 12': Pose.of_camera(1.3, pitch=np.radians(12)),
         'pitch 20, roll 20': Pose.of_camera(1.3, roll=np.radians(20), pitch=np.radians(20)),
         'pitch 20, roll -20': Pose.of_camera(1.3, roll=np.radians(-20), pitch=np.radians(20))}
HOLE = Hole(3.5, 0.3)
CELL = 0.1


class Judged:
    """A scene's cells, and where they lie."""

    def __init__(self, *things, holes=(), pose=POSES['pitch 12'], noisy=False, **config) -> None:
        self.scene = Relief(CAMERA, pose, things, holes)
        self.cloud = LabelCloud(TRAVERSABILITY, CloudConfig(**config))
        self.place = self.cloud.place()
        points = self.cloud.look_at_depth(
            CAMERA, pose, self.scene.noisy() if noisy else self.scene.depth, self.scene.labels)
        self.cells = self.cloud.cells([points], self.place)
        self.x, self.y = self.place.middles()

    def ranges(self) -> np.ndarray:
        view = self.cloud.view(CAMERA, self.scene.pose)
        return self.cloud.free_space(self.cells, self.place, [view])[1]

    def at(self, x: float, y: float) -> int:
        column, row = self.place.columns_and_rows(np.float32([x]), np.float32([y]))
        return int(self.cells[int(row[0]), int(column[0])])


def ahead(ranges: np.ndarray, degrees: float = 0.0) -> float:
    return float(ranges[round(len(ranges) * (degrees + 180) / 360) % len(ranges)])


@pytest.mark.parametrize('pose', POSES)
@pytest.mark.parametrize('noisy', [False, True], ids=['exact', 'noisy'])
def test_obstacles_are_within_a_cell_of_the_truth_and_free_ground_is_free(pose, noisy) -> None:
    """None of them is labelled as what it is: heights alone tell."""
    boxes = (Box(4.5, 0.8, label=ROAD), pole(3.5, -0.6, label=ROAD))
    judged = Judged(*boxes, pose=POSES[pose], noisy=noisy)
    near = np.hypot(judged.x, judged.y) < 5.5
    distance = np.minimum(*(box.distance(judged.x, judged.y) for box in boxes))
    blocked = (judged.cells == BLOCKED) & near
    # A cell beside the one that holds the outline: its middle is 1.5 cells off at most.
    assert distance[blocked].max() <= 1.5 * CELL * 1.001 + (0.15 if noisy else 0)
    for box in boxes:  # its front
        assert (blocked & (box.distance(judged.x, judged.y) < 1.5 * CELL)).any()
    inside = distance < 1e-6
    assert not (judged.cells[inside & near] == FREE).any()
    seen = near & (judged.cells != OUT)
    assert (judged.cells[seen & (distance > 0.7)] == FREE).mean() > 0.97


@pytest.mark.parametrize('pose', POSES)
@pytest.mark.parametrize('noisy', [False, True], ids=['exact', 'noisy'])
def test_no_cell_of_a_hole_is_free(pose, noisy) -> None:
    judged = Judged(holes=(HOLE,), pose=POSES[pose], noisy=noisy)
    inside = HOLE.contains(judged.x, judged.y)
    assert (judged.cells[inside] == BLOCKED).any()  # the far wall
    # The outermost cells hold ground too, or the upper edge of a wall; noise is of 3 cm.
    less = (4 if noisy else 2) * CELL
    inner = replace(HOLE, length=HOLE.length - less, width=HOLE.width - less)
    assert (judged.cells[inner.contains(judged.x, judged.y)] != FREE).all()
    assert ahead(judged.ranges(), 5) == pytest.approx(3.0, abs=(3 if noisy else 1.5) * CELL)


@pytest.mark.parametrize('height', [0.25, 0.5])
def test_a_step_up_is_blocked_and_what_is_beyond_is_not_free(height) -> None:
    judged = Judged(Box(5.0, 0, 3.0, 20.0, height, label=ROAD))
    assert judged.at(3.0, 0) == FREE
    assert {judged.at(3.45, 0), judged.at(3.55, 0)} & {BLOCKED}
    assert judged.at(4.5, 0) != FREE


def test_a_step_that_the_robot_takes_is_free() -> None:
    judged = Judged(Box(5.0, 0, 3.0, 20.0, 0.08, label=ROAD))
    assert (judged.cells[(np.abs(judged.y) < 1) & (judged.x > 2.5) & (judged.x < 6)]
            == FREE).all()


def test_a_low_cameras_ground_has_no_gaps() -> None:
    judged = Judged(pose=Pose.of_camera(0.3, pitch=0.1))
    ahead_of_it = (np.abs(judged.y) < 0.5) & (judged.x > 1.2) & (judged.x < 6)
    assert (judged.cells[ahead_of_it] == FREE).all()


def test_ground_up_to_the_cells_border_has_no_gaps_where_the_next_row_lies_beyond() -> None:
    judged = Judged(pose=Pose.of_camera(0.1, pitch=0.1), grid_size=8.0)
    ahead_of_it = (np.abs(judged.y) < 0.5) & (judged.x > 1.2)
    assert (judged.cells[ahead_of_it] == FREE).all()


def test_a_ramp_is_free_and_a_bank_is_not() -> None:
    ramp, bank = (Judged(Ramp(3.5, 0, 3.0, 20.0, height)) for height in (0.5, 2.5))
    on_it = (np.abs(ramp.y) < 1) & (ramp.x > 3.6) & (ramp.x < 6.2)
    assert (ramp.cells[on_it] == FREE).all()
    assert not (bank.cells[on_it] == FREE).any()


def test_the_way_under_a_low_bar_is_blocked_and_under_a_high_one_free() -> None:
    high, low = bar(4.5, 0, 2.1), bar(4.5, 0, 1.2)
    pose = Pose.of_camera(1.3)
    judged = Judged(low, pose=pose)
    under = low.distance(judged.x, judged.y) < 1e-6
    assert not (judged.cells[under] == FREE).any()
    judged = Judged(high, pose=pose)
    assert (judged.cells[high.distance(judged.x, judged.y) < 1e-6] == FREE).all()


def test_ground_that_may_not_be_driven_on_is_blocked_however_flat() -> None:
    judged = Judged(Box(5.0, 0, 2.0, 2.0, 0.01, label=VERGE))
    assert judged.at(5.0, 0) == BLOCKED
    assert judged.at(3.0, 0) == FREE


def test_what_nobody_sees_is_unseen_and_never_free() -> None:
    judged = Judged(Box(4.0, 0))
    assert judged.at(-3.0, 0) == OUT
    assert judged.at(6.5, 0) == OUT  # behind the box


def test_a_beam_ends_at_a_box_and_makes_no_claim_beside_the_view() -> None:
    ranges = Judged(Box(4.5, 0)).ranges()
    assert ahead(ranges) == pytest.approx(4.0, abs=1.5 * CELL)
    assert ahead(ranges, 20) == np.inf
    assert np.isnan(ahead(ranges, 180))
    assert np.isnan(ahead(ranges, 60))


def test_without_depth_nothing_is_claimed() -> None:
    judged = Judged()
    cloud, place = judged.cloud, judged.place
    points = cloud.look_at_depth(CAMERA, judged.scene.pose, np.zeros_like(judged.scene.depth),
                                 judged.scene.labels)
    judged.cells = cloud.cells([points], place)
    assert (judged.cells == OUT).all()
    assert np.isnan(judged.ranges()).all()
    assert np.isnan(cloud.ground_z)


def test_unlabelled_ground_is_unknown_and_ends_a_beam() -> None:
    judged = Judged()
    labels = judged.scene.labels.copy()
    hits = judged.scene.hits
    labels[(np.abs(hits[..., 0] - 5) < 0.5) & (hits[..., 2] < 0.1)] = 255
    points = judged.cloud.look_at_depth(CAMERA, judged.scene.pose, judged.scene.depth, labels)
    judged.cells = judged.cloud.cells([points], judged.place)
    assert judged.at(5.0, 0.0) == UNKNOWN
    assert ahead(judged.ranges()) == pytest.approx(4.5, abs=1.5 * CELL)


def test_what_stands_is_an_obstacle_where_no_pixel_has_a_label() -> None:
    """As of a lens that is covered with dirt: depth does without."""
    judged = Judged(Box(5, 0))
    labels = np.full_like(judged.scene.labels, 255)
    points = judged.cloud.look_at_depth(CAMERA, judged.scene.pose, judged.scene.depth, labels)
    judged.cells = judged.cloud.cells([points], judged.place)
    assert judged.at(4.5, 0.0) == BLOCKED
    assert judged.at(3.5, 0.0) == UNKNOWN
    assert not (judged.cells == FREE).any()
    assert not np.isinf(judged.ranges()).any()


def test_ground_far_from_where_the_robot_stands_is_not_free() -> None:
    """As when millimetres are taken for something else, or the camera's pose is wrong."""
    judged = Judged()
    points = judged.cloud.look_at_depth(
        CAMERA, judged.scene.pose, judged.scene.depth / 3, judged.scene.labels)
    cells = judged.cloud.cells([points], judged.place)
    assert not (cells == FREE).any()
    assert judged.cloud.ground_z == pytest.approx(1.3 * 2 / 3, abs=0.05)


def points_at(*xyzc: tuple[float, float, float, int]) -> LabelledPoints:
    x, y, z, codes = np.array(xyzc, np.float32).T[:, None]
    codes = codes.astype(np.uint8)
    return LabelledPoints(x, y, z, codes, codes, np.zeros(3))


def test_points_of_several_sensors_are_judged_together() -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    ground = points_at(*((x / 20, 0.05, 0.0, FREE) for x in range(80)))
    thing = points_at((2.05, 0.05, 0.5, UNKNOWN), (2.05, 0.05, 0.6, UNKNOWN))
    cells = cloud.cells([ground, thing], cloud.place())
    assert cells[100, 120] == BLOCKED
    assert cells[100, 118] == FREE


def test_ground_that_one_sensor_knows_is_free_though_another_does_not_know_it() -> None:
    """But what stands, or lies deep, is seen by any, and one sensor's doubt is a doubt."""
    cloud = LabelCloud(TRAVERSABILITY)
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    for other, code in (((2.05, 0.05, 0.0, UNKNOWN), FREE), ((2.05, 0.05, -0.3, UNKNOWN), UNKNOWN),
                        ((2.05, 0.05, 0.0, OBSTACLE), BLOCKED)):
        for seen in ([points_at(*ground), points_at(other)], [points_at(other),
                                                              points_at(*ground)]):
            assert cloud.cells(seen, cloud.place())[100, 120] == code
    doubt = points_at(*ground, (2.05, 0.05, 0.0, UNKNOWN))
    for seen in ([doubt], [doubt, points_at((3.0, 0.05, 0.0, FREE))]):
        assert cloud.cells(seen, cloud.place())[100, 120] == UNKNOWN


def test_one_point_in_the_air_makes_a_cell_unknown_and_two_block_it() -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    for count, code in ((1, UNKNOWN), (2, BLOCKED)):
        whim = [(2.05, 0.05, 0.5, FREE)] * count
        assert cloud.cells([points_at(*ground, *whim)], cloud.place())[100, 120] == code


def test_what_no_pixel_looks_at_contradicts_nothing_but_by_what_stands() -> None:
    """As behind a LiDAR's camera: what was free there is so until it is too old."""
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    for heights, code, value in (
            ((0.0, 0.02), BESIDE, 0), ((0.0, 0.5), UNKNOWN, -1), ((0.0, -0.3), UNKNOWN, -1),
            ((0.5, 0.6), BLOCKED, 100)):
        cloud = LabelCloud(TRAVERSABILITY, CloudConfig(grid_decay_s=2.0))
        place = cloud.place()
        for i in range(4):
            grid = cloud.grid(cloud.cells([points_at(*ground)], place), place, 1 + i / 10)
        assert grid.values[100, 120] == 0
        seen = points_at(*ground[:30], *((2.05, 0.05, z, UNKNOWN) for z in heights))
        beside = np.arange(seen.x.size)[None] >= 30
        cells = cloud.cells([replace(seen, beside=beside)], place)
        assert cells[100, 120] == code
        assert cloud.grid(cells, place, 1.5).values[100, 120] == value
        assert cloud.cells([seen], place)[100, 120] == (UNKNOWN if code == BESIDE else code)


@pytest.mark.parametrize(('z', 'code'), [(0.0, BESIDE), (0.1, BESIDE), (0.6, UNKNOWN),
                                         (-0.4, UNKNOWN)])
def test_what_one_ring_meets_far_from_ground_is_level_with_the_robot_or_not_known(z, code) -> None:
    """A person who comes to where no pixel looks is met at one height, by several points."""
    cloud = LabelCloud(TRAVERSABILITY)
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    seen = points_at(*ground, *((-5.05, 0.05, z, UNKNOWN) for _ in range(3)))
    beside = np.arange(seen.x.size)[None] >= len(ground)
    assert cloud.cells([replace(seen, beside=beside)], cloud.place())[100, 49] == code


def test_an_obstacle_of_a_class_needs_no_height() -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    cells = cloud.cells([points_at(*ground, (2.05, 0.05, 0.02, OBSTACLE))], cloud.place())
    assert cells[100, 120] == BLOCKED


def test_cells_turn_with_the_robot_in_a_frame_that_stays() -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    place = cloud.place(x=5.0, y=-3.0, yaw=np.pi / 2)
    cells = cloud.cells([points_at(*((x / 20, 0.02, 0.0, FREE) for x in range(80)))], place)
    rows, columns = np.nonzero(cells == FREE)
    assert set(columns + place.corner[0]) == {49}  # 0.02 m to the left of 5 m is 4.98 m
    assert rows.min() + place.corner[1] == -30
    assert rows.max() + place.corner[1] == pytest.approx(9, abs=1)


@pytest.mark.parametrize('yaw', [0.0, 0.7, -2.5])
def test_no_cell_of_a_turned_grid_is_without_its_points(yaw) -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    place = cloud.place(x=5.03, y=-3.02, yaw=yaw)
    x, y = (plane.reshape(1, -1) for plane in place.middles())
    codes = np.full(x.shape, FREE, np.uint8)
    points = LabelledPoints(x, y, np.zeros_like(x), codes, codes, np.zeros(3))
    assert (cloud.cells([points], place) == FREE).all()
    beside = LabelledPoints(x + 30, y, np.zeros_like(x), codes, codes, np.zeros(3))
    assert (cloud.cells([beside], place) == OUT).all()


@pytest.mark.parametrize(('z', 'code', 'expected'), [
    ([0.0, 0.14], FREE, FREE),       # flat
    ([0.0, 0.25], FREE, UNKNOWN),    # one point stands: it may be a whim
    ([0.0, 0.0], UNKNOWN, UNKNOWN),  # one is not known
    ([0.0, 0.0], BLOCKED, BLOCKED)])
def test_a_cell_with_anything_but_flat_free_ground_is_judged_by_all_its_points(
        z, code, expected) -> None:
    cloud = LabelCloud(TRAVERSABILITY)
    ground = [(x / 20, 0.05, 0.0, FREE) for x in range(80)]
    here = [(2.05, 0.05, z[0], FREE), (2.05, 0.05, z[1], code)]
    assert cloud.cells([points_at(*ground, *here)], cloud.place())[100, 120] == expected


def test_what_is_hidden_now_is_forgotten() -> None:
    cloud = LabelCloud(TRAVERSABILITY, CloudConfig(grid_decay_s=5.0))
    place, cells = cloud.place(), np.full((200, 200), FREE, np.uint8)
    for stamp_s in (1.0, 1.1, 1.2):
        cloud.grid(cells, place, stamp_s)
    unseen = np.full((200, 200), OUT, np.uint8)
    in_view = np.zeros((200, 200), bool)
    in_view[100] = True
    values = cloud.grid(unseen, place, 1.3, in_view).values
    assert (values[100] == -1).all()
    assert (values[99] == 0).all()


@pytest.mark.parametrize('given', [
    {'obstacle_height': 0.0}, {'obstacle_height': 3.0}, {'max_step': 0.0}, {'max_slope': 1.6}])
def test_heights_that_cannot_be_are_refused(given) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        HeightsConfig(**given)


def test_ranges_and_grids_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match='min_range'):
        CloudConfig(min_range=5, max_range=4)
    with pytest.raises(ConfigError, match='cells a side'):
        CloudConfig(grid_size=1000, grid_resolution=0.1)
    with pytest.raises(ConfigError, match='2 cells a side: make it 4'):
        CloudConfig(grid_size=0.2, grid_resolution=0.1)  # no scan fits in it
    with pytest.raises(ConfigError, match=r'max_range is 0\.2 m and a cell'):
        CloudConfig(max_range=0.2, grid_resolution=0.2)
