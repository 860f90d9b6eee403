# SPDX-License-Identifier: Apache-2.0
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
