# SPDX-License-Identifier: Apache-2.0
import os
import time

import numpy as np
import pytest

from lednet_ros.projection import Pose

AHEAD, RIGHT, DOWN = np.eye(3)[[2, 0, 1]]  # of an optical frame


def test_a_level_camera_looks_along_x_with_z_up() -> None:
    pose = Pose.of_camera(1.2, x=0.3, y=-0.1)
    assert pose.origin.tolist() == [0.3, -0.1, 1.2]
    assert pose.rotation @ AHEAD == pytest.approx([1, 0, 0])
    assert pose.rotation @ RIGHT == pytest.approx([0, -1, 0])
    assert pose.rotation @ DOWN == pytest.approx([0, 0, -1])


def test_pitch_looks_down_yaw_left_and_roll_sinks_the_right_side() -> None:
    assert (Pose.of_camera(1, pitch=0.1).rotation @ AHEAD)[2] == pytest.approx(-np.sin(0.1))
    assert (Pose.of_camera(1, yaw=0.1).rotation @ AHEAD)[1] == pytest.approx(np.sin(0.1))
    assert (Pose.of_camera(1, roll=0.1).rotation @ RIGHT)[2] == pytest.approx(-np.sin(0.1))


def test_a_quaternion_says_the_same_as_angles() -> None:
    # The optical frame of a level camera, as URDFs have it: rpy = (-pi/2, 0, -pi/2).
    level = Pose.from_quaternion((-0.5, 0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
    assert level.rotation == pytest.approx(Pose.of_camera(1.0).rotation)
    turned = Pose.from_quaternion((0, 0, 2 * np.sin(0.15), 2 * np.cos(0.15)), (1, 2, 0))
    assert turned.yaw == pytest.approx(0.3)
    assert np.isnan(Pose.from_quaternion((0, 0, 0, 0), (0, 0, 0)).rotation).all()


def test_equal_poses_are_equal() -> None:
    assert Pose.of_camera(1.0, pitch=0.1) == Pose.of_camera(1.0, pitch=0.1)
    assert Pose.of_camera(1.0, pitch=0.1) != Pose.of_camera(1.0, pitch=0.1001)


def test_points_go_to_the_other_frame_and_back() -> None:
    pose = Pose.of_camera(1.2, roll=0.2, pitch=0.3, yaw=-1.0, x=0.3, y=-0.1)
    points = np.random.default_rng(0).uniform(-20, 20, (3, 50)).astype(np.float32)
    there = pose.points(points)
    assert there.dtype == np.float32
    assert there == pytest.approx(pose.rotation @ points + pose.origin[:, None], abs=1e-5)
    assert pose.points_back(there) == pytest.approx(points, abs=1e-5)
    assert np.isnan(pose.points(np.full((3, 1), np.nan, np.float32))).all()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core: there is no other thread')
def test_no_other_thread_waits_busily_after_points_went_to_another_frame() -> None:
    """As OpenBLAS's do, for some 20 ms of CPU time after each large product."""
    pose, points = Pose.of_camera(1.0), np.ones((3, 131_072), np.float32)
    time.sleep(0.1)  # those of the tests before have come to rest
    others_s = time.process_time() - time.thread_time()
    for _ in range(5):
        pose.points(points)
        time.sleep(0.03)
    assert time.process_time() - time.thread_time() - others_s < 0.02
