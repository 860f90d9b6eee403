# SPDX-License-Identifier: Apache-2.0
"""What the ground and the cloud node with several cameras do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from camera_rigs import ALONE, CloudRig, GroundRig, starting
from rclpy.parameter import Parameter
from test_cloud_node import HEIGHT, WIDTH

from lednet_ros.nodes.shared import camera_rounds
from lednet_ros.projection import Pose


@pytest.fixture(params=[GroundRig, CloudRig], ids=lambda kind: kind.name)
def start(request, monkeypatch) -> Iterator[Callable[..., Any]]:
    with starting(request.param, monkeypatch) as start:
        yield start


@pytest.mark.parametrize('frame', ['', 'base_link'], ids=['each alone', 'remembering'])
def test_what_a_camera_that_died_looked_at_becomes_unknown(start, frame) -> None:
    rig = start(**({'grid.frame': frame} if frame else {}))
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 1.0 + i * 0.1)
    rig.send('front', 1.35)
    assert rig.is_free(rig.aside)
    assert rig.is_free(rig.ahead)
    for i in range(4, 10):
        rig.send('front', 1.0 + i * 0.1)
    assert (rig.grid()[rig.aside] == -1).all()
    assert rig.is_free(rig.ahead)
    scan = rig.out['free_space'][-1]
    assert np.isnan(scan.ranges[round((np.pi / 2 - scan.angle_min) / scan.angle_increment)])
    cloud = rig.out['points'][-1]
    assert cloud.height * cloud.width == HEIGHT * WIDTH
    assert 'left: the newest label image is 0.6 s older' in rig.node._remark
    for i in range(3):
        rig.send('left', 1.95 + i * 0.1)
        rig.send('front', 2.0 + i * 0.1)
    assert rig.is_free(rig.aside)  # it is back
    assert rig.node._remark == ''


def test_a_frame_waits_for_the_others_and_not_for_ever(start, monkeypatch) -> None:
    rig = start()
    rig.send('left', 1.0)
    rig.send('front', 1.1)
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0]
    rig.send('front', 1.2)  # until its own next one is here
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0, 100_000_000]
    monkeypatch.setattr(camera_rounds, 'GATHER_S', 0.0)
    rig.node._work()        # or for so long
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0, 100_000_000, 200_000_000]
    assert rig.node._rounds.outcomes()['projected'] == 3


def test_a_grid_remembers_though_cameras_take_turns_with_older_stamps(start, monkeypatch) -> None:
    rig = start(**{'grid.frame': 'base_link'})
    monkeypatch.setattr(camera_rounds, 'GATHER_S', 0.0)  # each frame goes out alone
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 0.95 + i * 0.1)
    assert len(rig.out['grid']) == 8
    for place in (rig.ahead, rig.aside):
        assert rig.is_free(place)


def test_a_camera_whose_frames_are_bad_takes_no_part_and_is_named(start) -> None:
    rig = start()
    for stamp_s in (1.0, 1.1):
        rig.send_bad('left', stamp_s)
        rig.send('front', stamp_s)
    assert rig.is_free(rig.ahead)
    assert not (rig.grid()[rig.aside] == 0).any()
    assert rig.node._cameras[1].problem.startswith(f'left: {rig.said_of_bad}')
    status = rig.status()
    assert status.message.startswith('not of all cameras: ')
    assert [str(status.values[key]) for key in ('rejected', 'projected')] == ['2', '2']


def test_when_a_camera_s_time_jumps_back_all_begin_again(start) -> None:
    rig = start()
    for name, stamp_s in (('left', 100.0), ('front', 100.1), ('left', 1.0), ('front', 1.1),
                          ('left', 1.2)):
        rig.send(name, stamp_s)
    assert rig.is_free(rig.aside)
    assert rig.is_free(rig.ahead)
    assert rig.out['grid'][-1].header.stamp.sec == 1


def test_with_a_stride_each_so_many_th_row_and_column_goes_out(start) -> None:
    rig = start(**ALONE)
    rig.send('', 1.0)
    rig.node.set_parameters([Parameter('points.stride', value=3)])
    rig.send('', 1.1)
    whole, some = rig.out['points']
    assert (some.height, some.width, some.row_step) == (40, 54, 54 * some.point_step)
    pixels, thinned = (np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, -1)
                       for cloud in (whole, some))
    assert np.array_equal(pixels[::3, ::3], thinned)


def test_a_grid_that_remembers_in_the_robots_own_frame_is_warned_of(start, capfd) -> None:
    """What was free ahead would still be free there after the robot has turned."""
    own = {'grid.frame': 'base_link'}
    for given, is_odd in ((own, True), ({}, False), ({**own, 'grid.decay_s': '0.0'}, False)):
        rig = start(**given)
        assert ('which moves with the robot' in capfd.readouterr().err) == is_odd
        rig.node.destroy_node()
        rclpy.try_shutdown()


@pytest.mark.parametrize('is_rigid', [False, True])
def test_a_grid_in_a_frame_that_is_fixed_to_the_robot_is_warned_of(start, capfd, is_rigid) -> None:
    """By static transforms, as base_footprint is."""
    rig = start(**ALONE, **{'grid.frame': 'base_link'})
    still = Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    rig.node._transforms = SimpleNamespace(
        pose=lambda frame, in_frame, stamp, remedy: (
            still if in_frame == 'foot' else Pose.of_camera(1.0)),
        is_rigid=lambda frame, in_frame: is_rigid and (frame, in_frame) == ('base_link', 'foot'))
    given = rig.node._parameter
    rig.node._parameter = lambda name: 'foot' if name == 'grid.frame' else given(name)
    capfd.readouterr()
    for stamp_s in (1.0, 1.1):
        rig.send('', stamp_s)
    assert len(rig.out['grid']) == 2
    assert capfd.readouterr().err.count('grid.frame is foot, which moves with') == is_rigid


def test_a_camera_is_not_to_be_left_without_a_height_where_parameters_give_its_pose(start) -> None:
    rig = start()
    [refused] = rig.node.set_parameters([Parameter('camera.left.height', value=0.0)])
    assert refused.reason == (
        "the camera's pose is not known: camera.left.height is 0: give it and what else is not "
        '0, or let pose_source be tf')
    [unread] = rig.node.set_parameters([Parameter('camera.height', value=0.0)])
    assert unread.successful


def test_the_first_frame_of_another_camera_empties_no_grid(start) -> None:
    rig = start(**{'grid.frame': 'base_link'})
    for stamp_s in (1.0, 1.1, 1.2):  # which together are enough for free ground
        rig.send('front', stamp_s)
    rig.send('left', 1.25)
    rig.send('front', 1.3)
    assert rig.is_free(rig.ahead)


def test_listeners_that_come_and_go_leave_no_trace_with_the_node(start) -> None:
    """rclpy's groups keep one of each subscription that they ever had."""
    rig = start()
    before = len(rig.node.default_callback_group.entities)
    for _ in range(3):
        rig.node._rounds.listen((), rig.node._on_input)
        rig.node._watch()
    assert len(rig.node.default_callback_group.entities) == before


def test_a_listener_that_hears_nothing_is_in_the_report(start) -> None:
    rig = start()
    for output in rig.node._outputs._publishers.values():
        output.get_subscription_count = lambda: 0
    rig.node.get_subscriptions_info_by_topic = lambda name: [SimpleNamespace(
        topic_type='std_msgs/msg/String', node_namespace='/', node_name='map')]
    assert rig.status().message.startswith(
        f'/map listens to /{rig.name}/points as std_msgs/msg/String')


def test_labels_without_a_stamp_are_warned_of(start) -> None:
    """TF gives its newest pose for a stamp of zero, and a grid that remembers forgets all."""
    rig = start(**ALONE)
    rig.send('', 0.0)
    assert rig.node._remark.startswith("the label images' stamps are zero: ")
    rig.send('', 1.0)
    assert rig.node._remark == ''


def test_labels_that_came_before_confidence_was_asked_for_are_not_taken_for_certain(
    start, monkeypatch
) -> None:
    """As those that wait for TF while min_confidence is set."""
    rig = start(**ALONE)
    rig.node.set_parameters([Parameter('min_confidence', value=0.8)])
    monkeypatch.setattr(rig.node, rig.asked_for, lambda: ['label', 'camera_info'])  # as before
    rig.send('', 1.0)
    assert not rig.out['grid']
    assert rig.node._cameras[0].problem == (
        'confidence: none came with this label image, and min_confidence is 0.8')
