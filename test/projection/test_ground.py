# SPDX-License-Identifier: Apache-2.0
"""What small label images come to, by hand: a level camera, 1 m up, rows of known range."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scene import BOX, LABELS, ROAD, SKY, TRAVERSABILITY, VERGE, WALL

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.labels import UNLABELLED
from lednet_ros.projection import Camera, Ground, GroundConfig, NoGround, Pose
from lednet_ros.projection.points import packed_colors

HEIGHT, WIDTH, FOCAL = 120, 160, 100.0
CAMERA = Camera(FOCAL, FOCAL, 80.0, 60.0, HEIGHT, WIDTH)
LEVEL = Pose.of_camera(1.0)


def range_at(row: float) -> float:
    """How far away the ground is that a row shows, in the image's middle."""
    return FOCAL / (row - 60)


def street(**stands: tuple[int, int]) -> np.ndarray:
    """Road under sky, and things in the middle columns from a row to a row."""
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[61:] = ROAD
    for name, (top, foot) in stands.items():
        labels[top:foot, 60:100] = LABELS.names.index(name)
    return labels


def look(labels, pose=LEVEL, camera=CAMERA, confidence=None, min_confidence=0.0, **config):
    ground = Ground(TRAVERSABILITY, GroundConfig(**config))
    ground.set_camera(camera, pose)
    ground.look(labels, confidence, min_confidence)
    return ground


def points_of(ground: Ground, shape=(HEIGHT, WIDTH)) -> np.ndarray:
    points = np.empty((*shape, 4), np.float32)
    ground.points(points)
    return points


def ahead(ground: Ground) -> list[int]:
    """The grid's cells before the robot, from its middle to its end."""
    return ground.grid(0.0).values[100, 100:].tolist()


def beam(ground: Ground, degrees: float = 0.0) -> float:
    scan, ranges = ground.free_space()
    return float(ranges[round((np.radians(degrees) - scan.angle_min) / scan.angle_increment)
                        % scan.beams])


def test_an_obstacle_stands_at_its_foot_with_all_its_pixels() -> None:
    ground = look(street(box=(30, 80)))
    points = points_of(ground)
    foot = range_at(79.5)
    assert points[32:79, 64:96, 0] == pytest.approx(foot, abs=0.1)
    assert (points[32:79, 64:96, 2] == 0).all()
    assert np.diff(points[50, 64:96, 1]).max() < 0  # leftmost first, each in its direction
    assert beam(ground) == pytest.approx(foot, abs=0.07)
    cells = ahead(ground)
    assert cells[50:53].count(100) >= 1
    assert set(cells[53:]) == {-1}


def test_one_that_another_hides_the_foot_of_is_nowhere() -> None:
    ground = look(street(wall=(30, 70), box=(65, 80)))
    points = points_of(ground)
    assert np.isnan(points[30:64, 64:96, :3]).all()
    assert np.isfinite(points[66:80, 64:96, :3]).all()
    assert (np.array(ahead(ground)[55:]) == -1).all()  # neither the wall nor free ground


def test_ground_that_is_seen_over_an_obstacle_is_seen() -> None:
    """The wall's foot is in view behind the low box: rows 70 and up are road again."""
    ground = look(street(wall=(30, 68), box=(73, 80)))
    points = points_of(ground)
    assert points[40:68, 64:96, 0] == pytest.approx(range_at(67.5), rel=0.06)
    assert beam(ground) == pytest.approx(range_at(79.5), abs=0.07)  # but the beam has ended
    cells = ahead(ground)
    assert set(cells[54:70]) == {-1}  # hidden by the box
    assert 0 in cells[80:95]


def test_a_foot_below_the_image_counts_as_the_nearest_ground_in_view() -> None:
    ground = look(street(box=(30, HEIGHT)))
    nearest = range_at(HEIGHT - 0.5)
    points = points_of(ground)
    assert points[32:118, 64:96, 0] == pytest.approx(nearest, abs=0.07)
    assert beam(ground) == pytest.approx(nearest, abs=0.1)
    cells = ahead(ground)
    assert 100 in cells[15:18]
    assert set(cells[18:]) == {-1}


def test_unlabelled_ground_before_the_robot_is_no_bar_but_unknown() -> None:
    labels = street()
    labels[100:] = UNLABELLED  # nothing like it above: the frame is not letterboxed
    ground = look(labels)
    assert beam(ground) == pytest.approx(range_at(HEIGHT - 0.5), abs=0.1)
    assert set(ahead(ground)[:24]) == {-1}
    labels[:10] = UNLABELLED  # bars would be equally wide
    assert beam(look(labels)) == pytest.approx(range_at(HEIGHT - 0.5), abs=0.1)
    labels[:20] = UNLABELLED  # as these are
    assert beam(look(labels)) == np.inf


def test_rows_that_are_only_unsure_are_no_bars() -> None:
    confidence = np.full((HEIGHT, WIDTH), 200, np.uint8)
    confidence[:20] = confidence[100:] = 50
    unsure = look(street(), confidence=confidence, min_confidence=0.5)
    assert beam(unsure) == pytest.approx(range_at(HEIGHT - 0.5), abs=0.1)


@pytest.mark.parametrize('label', [UNLABELLED, 77, SKY], ids=['255', 'no class', 'sky'])
def test_unknown_pixels_are_neither_free_nor_anywhere(label) -> None:
    labels = street()
    labels[75:80, 60:100] = label
    ground = look(labels)
    assert np.isnan(points_of(ground)[75:80, 60:100, :3]).all()
    assert beam(ground) == pytest.approx(range_at(79.5), abs=0.07)
    cells = ahead(ground)
    assert set(cells[52:64]) == {-1}
    assert 100 not in cells
    assert set(cells[20:48]) == set(cells[75:90]) == {0}


def test_an_obstacle_over_unknown_pixels_may_stand_where_those_begin() -> None:
    labels = street(box=(30, 80))
    labels[76:82, 60:100] = UNLABELLED
    ground = look(labels)
    begins = range_at(81.5)
    assert points_of(ground)[32:75, 64:96, 0] == pytest.approx(begins, abs=0.07)
    assert 100 in ahead(ground)[45:48]


def test_pixels_of_low_confidence_are_unknown() -> None:
    confidence = np.full((HEIGHT, WIDTH), 200, np.uint8)
    confidence[75:80, 60:100] = 127
    unsure = look(street(), confidence=confidence, min_confidence=0.5)
    assert beam(unsure) == pytest.approx(range_at(79.5), abs=0.07)
    assert beam(look(street(), confidence=confidence, min_confidence=0.498)) == np.inf


def test_confidence_weighs_in_a_grid_that_remembers() -> None:
    confidence = np.full((HEIGHT, WIDTH), 250, np.uint8)
    confidence[:, 85:] = 100       # the right, from the car's right side on
    confidence[70:80, 60:70] = 30  # the foot of its left
    ground = Ground(TRAVERSABILITY, GroundConfig(grid_decay_s=10.0, grid_weighs=True))
    ground.set_camera(CAMERA, LEVEL)
    for stamp_s in (0.0, 0.1):
        ground.look(street(box=(30, 80)), confidence)
        values = ground.grid(stamp_s).values
    near = values[:, 100 + 25]  # cells at 2.5 m, the car behind them; from the right to the left
    assert set(near[92:99].tolist()) == {-1}
    assert set(near[101:108].tolist()) == {0}
    foot = values[:, 100 + round(range_at(79.5) * 10) - 1:100 + round(range_at(79.5) * 10) + 2]
    assert (foot[99:102] == 100).any()  # its middle, sure
    assert not (foot[106:109] == 100).any()
    assert ((foot[90:97] == 100).any(1)).all()  # less sure, twice


def test_ground_that_may_not_be_driven_on_is_occupied_where_it_lies_and_hides_nothing() -> None:
    labels = street()
    labels[75:80] = VERGE
    ground = look(labels)
    assert points_of(ground)[77, 80, 0] == pytest.approx(range_at(77), abs=1e-4)
    cells = ahead(ground)
    assert set(cells[53:63]) == {100}
    assert set(cells[70:90]) == {0}
    assert beam(ground) == pytest.approx(range_at(79.5), abs=0.07)


def test_the_bars_beside_a_letterboxed_frame_are_beside_the_picture() -> None:
    labels = street()
    labels[:20] = labels[100:] = UNLABELLED
    labels[:, :19] = labels[:, -20:] = UNLABELLED
    ground = look(labels)
    assert beam(ground) == np.inf  # not ended by the bar
    assert set(ahead(ground)[:24]) == {-1}
    assert np.isnan(points_of(ground)[100:, :, :3]).all()
    full = look(np.full((HEIGHT, WIDTH), UNLABELLED, np.uint8))
    assert np.isnan(full.free_space()[1]).all()
    assert (full.grid(0.0).values == -1).all()


def test_what_is_too_near_or_too_far_is_left_out() -> None:
    ground = look(street(box=(30, HEIGHT)), min_range=3.0, max_range=8.0)
    points = points_of(ground)
    near, far = int(60 + FOCAL / 3.0) + 1, int(60 + FOCAL / 8.0)
    assert np.isnan(points[near:, 60:100, :3]).all()
    assert np.isnan(points[61:far, :40, :3]).all()
    assert beam(ground) == pytest.approx(3.0, abs=0.1)  # a box in view, begun who knows where
    assert beam(look(street(), min_range=3.0, max_range=8.0)) == np.inf


def test_a_view_that_ends_before_max_range_says_nothing_of_what_is_beyond() -> None:
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    ground = look(labels, Pose.of_camera(1.0, pitch=0.7))  # sees 0.6 to 6 m or so
    scan, ranges = ground.free_space()
    assert not np.isfinite(ranges).any()
    assert not np.isposinf(ranges).any()
    assert scan.range_min < 1.0
    labels[30:60, 60:100] = BOX
    assert np.isfinite(beam(look(labels, Pose.of_camera(1.0, pitch=0.7))))


def test_a_beam_that_comes_into_view_from_the_side_says_nothing() -> None:
    ahead_of_axle = Pose.of_camera(1.0, x=2.0)
    ground = look(street(), ahead_of_axle)
    assert beam(ground) == np.inf
    edge = np.degrees(np.arctan(80 / FOCAL))
    assert np.isnan(beam(ground, edge - 4))  # in view from 10 m on
    assert beam(look(street()), edge - 4) == np.inf


def test_a_drone_that_looks_down_sees_around_the_point_below_it() -> None:
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[58:62, 98:102] = BOX  # to the right of the middle
    down = Pose.of_camera(10.0, pitch=np.pi / 2)
    ground = look(labels, down, grid_size=20.0)
    points = points_of(ground)
    assert points[60, 80, :3] == pytest.approx([0, 0, 0], abs=1e-5)
    assert points[0, 80, :2] == pytest.approx([6, 0], abs=1e-5)  # the image's top is ahead
    assert points[60, 100, :2] == pytest.approx([0, -1.8], abs=0.1)  # its near edge
    values = ground.grid(0.0).values
    assert values[100, 100] == 0
    occupied = np.argwhere(values == 100)
    assert len(occupied)
    assert np.abs(occupied - (100 - 18, 100)).max() <= 4
    # Higher up, all of it is larger.
    ground.set_camera(CAMERA, Pose.of_camera(20.0, pitch=np.pi / 2))
    ground.look(labels)
    assert points_of(ground)[0, 80, 0] == pytest.approx(12, abs=1e-4)


@pytest.mark.parametrize(('pose', 'words'), [
    (Pose.of_camera(1.0, pitch=-1.3), 'looks at the sky: no ground within 20 m'),
    (Pose.of_camera(1.0, pitch=-0.53), r'looks at the sky: .*the nearest is \d+ m away'),
    (Pose.of_camera(0.0), 'height above the ground is 0 m'),
    (Pose.of_camera(-1.0), 'height above the ground is -1 m'),
    (Pose.of_camera(np.nan), 'NaN or infinity'),
    (Pose.from_quaternion((0, 0, 0, 0), (0, 0, 1)), 'NaN or infinity'),
], ids=['sky', 'nearly', 'on the ground', 'below', 'NaN', 'no rotation'])
def test_a_pose_without_ground_is_refused_naming_why(pose, words) -> None:
    ground = Ground(TRAVERSABILITY)
    with pytest.raises(NoGround, match=words):
        ground.set_camera(CAMERA, pose)


def test_all_ground_in_view_nearer_than_min_range_is_refused() -> None:
    with pytest.raises(NoGround, match='nearer than min_range'):
        Ground(TRAVERSABILITY, GroundConfig(min_range=9.0)).set_camera(
            CAMERA, Pose.of_camera(1.0, pitch=1.0))


def test_a_changed_pose_and_camera_hold_for_the_next_frame() -> None:
    ground = look(street())
    assert points_of(ground)[100, 80, 0] == pytest.approx(2.5)
    ground.set_camera(CAMERA, Pose.of_camera(2.0, x=1.0))
    ground.look(street())
    assert points_of(ground)[100, 80, 0] == pytest.approx(6.0)
    half = Camera(FOCAL / 2, FOCAL / 2, 39.75, 29.75, HEIGHT // 2, WIDTH // 2)
    ground.set_camera(half, Pose.of_camera(2.0, x=1.0))
    ground.look(street()[::2, ::2])
    points = points_of(ground, (HEIGHT // 2, WIDTH // 2))
    assert points[50, 40, 0] == pytest.approx(1 + 2 * 50 / 20.25)


def test_nothing_that_stays_is_made_again() -> None:
    ground = look(street())

    def made(frame: np.ndarray) -> list[object]:
        view = ground.set_camera(CAMERA, Pose.of_camera(1.0))
        ground.look(frame)
        points_of(ground)
        scan, _ = ground.free_space()
        ours = ground._cameras['']
        return [view, scan, ground.grid(0.0).values, ours.codes, ours._points, ours._contacts,
                ours._sampled]

    for first, second in zip(made(street()), made(street(box=(30, 80))), strict=True):
        assert first is second


def test_next_to_nothing_is_allocated_for_a_frame_after_the_first() -> None:
    camera = Camera(4 * FOCAL, 4 * FOCAL, 320.0, 240.0, 480, 640)
    ground = Ground(TRAVERSABILITY)
    points = np.empty((480, 640, 4), np.float32)
    labels = street(box=(30, 80)).repeat(4, 0).repeat(4, 1)
    confidence = np.full_like(labels, 200)

    def frame(stamp_s: float) -> None:
        ground.set_camera(camera, Pose.of_camera(1.0))
        ground.look(labels, confidence, 0.5)
        ground.points(points)
        ground.grid(stamp_s)
        ground.free_space()

    frame(0.0)
    tracemalloc.start()
    try:
        frame(0.1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < labels.nbytes / 2  # of which there are a dozen, and points has 16


def test_only_what_is_asked_for_is_set_up() -> None:
    ground = look(street())
    ground.free_space()
    assert ground._cameras['']._contacts is None
    ground.grid(0.0)
    assert ground._cameras['']._points is None


def test_colours_are_those_of_the_classes() -> None:
    colors = packed_colors(LABELS).view(np.uint32)
    assert colors[WALL] == 40 << 16 | 120 << 8 | 120
    assert colors[UNLABELLED] == 0


@pytest.mark.parametrize(('change', 'words'), [
    ({'min_range': 20.0}, 'give 0 <= min_range < max_range'),
    ({'grid_resolution': 0.001}, 'cells a side: make it 2 to 2000'),
    ({'grid_size': 0.1}, 'has 0 cells a side'),
    ({'grid_size': 500.0, 'grid_resolution': 1.0}, 'too large to look at closely: make it 200 m'),
], ids=['ranges', 'too many cells', 'none', 'too large'])
def test_a_config_that_makes_no_sense_is_refused(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        GroundConfig(**change)
