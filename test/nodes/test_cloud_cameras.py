# SPDX-License-Identifier: Apache-2.0
"""The cloud node with several cameras, in this process: what it takes in, what goes out."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from camera_rigs import ALONE, CloudRig, K, starting
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, PointCloud2
from test_cloud_node import CAR, HEIGHT, SKY, WIDTH, depth_image, header, organised, street

from lednet_ros.nodes.cloud.messages import CloudMessage
from lednet_ros.nodes.cloud.projector import Frame, Projector
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.poses import Poses
from lednet_ros.projection import Pose, Traversability
from lednet_ros.projection.cloud import CloudConfig


@pytest.fixture
def start(monkeypatch) -> Iterator[Callable[..., CloudRig]]:
    with starting(CloudRig, monkeypatch) as start:
        yield start


def test_frames_of_all_cameras_go_out_as_one_cloud_one_grid_and_one_scan(start) -> None:
    rig = start()
    rig.send('left', 1.0)  # which cannot know of the other one
    rig.send('front', 1.1)
    assert [len(messages) for messages in rig.out.values()] == [1, 1, 1]
    rig.send('left', 1.2)
    assert [len(messages) for messages in rig.out.values()] == [2, 2, 2]
    cells = rig.grid()
    for place, car in ((rig.ahead, np.s_[97:103, 148:153]), (rig.aside, np.s_[148:153, 97:103])):
        assert rig.is_free(place)
        assert (cells[car] == 100).any()
    cloud, scan = rig.out['points'][-1], rig.out['free_space'][-1]
    assert (cloud.height, cloud.width) == (1, 2 * HEIGHT * WIDTH)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    for bearing in (0.0, np.pi / 2):
        assert scan.ranges[int(np.abs(angles - bearing).argmin())] == pytest.approx(5.0, abs=0.3)
    assert np.isnan(scan.ranges[int(np.abs(angles + np.pi / 2).argmin())])
    assert {m.header.stamp.nanosec for m in (cloud, scan, rig.out['grid'][-1])} == {200_000_000}


def said(rig: CloudRig) -> tuple[int, str]:
    status = rig.status()
    return status.level[0], status.message


def test_what_was_wrong_before_it_was_deactivated_is_said_no_more(start, monkeypatch) -> None:
    """Nor how long ago something came: nothing could, meanwhile."""
    rig = start(**ALONE)
    rig.send_bad('', 1.0)
    assert 'of another shape' in rig.status().message
    rig.node.on_deactivate(None)
    assert said(rig) == (0, 'inactive')
    later_s = time.monotonic() + 3600
    monkeypatch.setattr(time, 'monotonic', lambda: later_s)
    rig.node.on_activate(None)
    rig.node._watch()
    assert said(rig) == (0, 'waiting for the first label image')


def test_labels_of_another_meaning_are_refused_whenever_that_was_told(start) -> None:
    """label_info is latched: it comes once, maybe before the node is configured."""
    rig = start(autostart='false', **ALONE)
    rig.node._on_label_info(SimpleNamespace(class_map=[
        SimpleNamespace(class_id=0, class_name='cat')]))
    rig.node.on_configure(None)
    rig.node._outputs._publishers = {'points': SimpleNamespace(  # type: ignore[misc]
        publish=rig.out.setdefault('points', []).append, get_subscription_count=lambda: 1)}
    rig.node.on_activate(None)
    rig.node._watch()
    rig.send('', 1.0)
    assert not rig.out['points']
    assert "label_info calls class 0 'cat'" in rig.node._cameras[0].problem


def test_where_an_output_cannot_be_opened_none_stays_open(start) -> None:
    """Else each attempt would leave some behind."""
    rig = start(autostart='false', **ALONE, **{
        'qos_overrides./semantic_cloud/free_space.publisher.depth': '-1'})
    before = len(list(rig.node.publishers))
    for _ in range(2):
        rig.node.on_configure(None)
        assert 'depth is -1' in rig.node._problem
    assert len(list(rig.node.publishers)) == before


def test_what_was_seen_by_another_pose_is_forgotten_as_that_is_given(start) -> None:
    rig = start(**ALONE, **{'grid.frame': 'base_link'})
    for i in range(4):
        rig.send('', 1.0 + i * 0.1)
    assert rig.is_free(rig.ahead)
    rig.node.set_parameters([Parameter('camera.yaw', value=1.5708)])
    rig.send('', 1.4)
    assert not (rig.grid()[rig.ahead] == 0).any()


def test_a_change_that_would_have_each_frame_rejected_is_refused(start) -> None:
    rig = start(**ALONE)
    [refused] = rig.node.set_parameters([Parameter('max_clearance', value=0.1)])
    assert refused.reason == ('obstacle_height is 0.2 m and max_clearance 0.1 m: give 0 < '
                              'obstacle_height < max_clearance')
    rig.send('', 1.0)
    assert rig.is_free(rig.ahead)


MIDDLE = Pose.of_camera(1.0)
STILL = Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


def seen_by(projector: Projector, robot: Pose | None, other: Any = None, **sensor: Any) -> Frame:
    """Return the street as it is seen when the robot is there, by depth or another source."""
    labels, depth = street()
    at = header(1.0)
    source = {'depth': depth_image(depth, at)} if other is None else {'points': other}
    return projector.look(
        {'label': encode_image(labels, 'mono8', at), **source, 'camera_info': CameraInfo(
            header=at, width=WIDTH, height=HEIGHT, k=K, distortion_model='plumb_bob',
            d=[0.0] * 5)},
        Poses(**{'camera': MIDDLE, 'sensor': MIDDLE, 'robot': robot, **sensor}), False, 0.0, True)


def test_a_camera_s_older_frame_lies_where_the_robot_was_then() -> None:
    """Two cameras look one way, one of them half a second and two metres ago, and turned."""
    traversability = Traversability.load('camvid')
    then = Pose.from_quaternion((0.0, 0.0, np.sin(0.1), np.cos(0.1)), (-2.0, 0.0, 0.0))
    now = STILL

    def occupied(*robots: Pose) -> set[tuple[int, int]]:
        projectors = [Projector(traversability, CloudConfig(), 'base_link', 'odom')
                      for _ in robots]
        frames = [seen_by(projector, robot) for projector, robot in zip(
            projectors, robots, strict=True)]
        grid = projectors[0].make_grid(frames, frames[-1].stamp)
        cells = np.array(grid.data).reshape(grid.info.height, grid.info.width)
        rows, columns = np.nonzero(cells == 100)
        left, bottom = grid.info.origin.position.x, grid.info.origin.position.y
        return {(round(10 * left) + c, round(10 * bottom) + r)
                for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}

    alone = occupied(then)
    both = occupied(then, now)
    near = {(x + i, y + j) for x, y in both for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert len(alone & near) > 0.9 * len(alone)


def test_an_organised_cloud_of_another_image_is_painted_and_not_read_as_depth() -> None:
    """As one of a depth camera beside, brought into the camera's frame by TF."""
    projector = Projector(Traversability.load('camvid'), CloudConfig(), 'base_link', '')
    frame = seen_by(projector, None, organised())
    assert frame.points.shape == (HEIGHT, WIDTH)
    other = organised()
    points = np.frombuffer(other.data, np.float32).reshape(HEIGHT, WIDTH, -1).copy()
    points[..., :3] = points[:, ::-1, :3]  # its columns go the other way
    other.data = array.array('B', points.tobytes())
    frame = seen_by(projector, None, other)
    assert frame.points.shape == (1, HEIGHT * WIDTH), 'as a LiDAR'
    car = frame.points.labels == CAR
    assert car.sum() > 100
    assert np.allclose(frame.points.x[car], 5.0, atol=0.1)
    assert np.abs(frame.points.y[car]).max() < 1.1


def lidar_scan(things: Any = ()) -> PointCloud2:
    """Return flat ground all around the robot as a LiDAR sees it, and single points besides."""
    rings = np.concatenate([radius * np.stack([np.cos(a), np.sin(a), np.zeros_like(a)], -1)
                            for radius in np.arange(1.5, 8, 0.1)
                            for a in [np.linspace(0, 2 * np.pi, int(radius * 125))]])
    scan = CloudMessage(1, len(rings) + len(things))
    scan.points[0, :, :3] = np.concatenate([rings, np.reshape(things, (-1, 3))])
    scan.message.header = header(1.0, 'base_link')
    return scan.message


def test_two_cameras_label_one_lidars_scan() -> None:
    """Each point goes out once, and what one camera does not see is no doubt of the other's."""
    scan = lidar_scan([[3.0, 3.0, 0.5]])  # a whim, that two cameras see
    projectors = [Projector(Traversability.load('camvid'), CloudConfig(), 'base_link', '')
                  for _ in range(2)]
    frames = [seen_by(projector, STILL, scan, sensor=STILL, camera=Pose.of_camera(1.0, yaw=yaw))
              for projector, yaw in zip(projectors, (0.3, 1.27), strict=True)]

    def cells(*some: Frame) -> np.ndarray:
        grid = projectors[0].make_grid(some, some[-1].stamp)
        return np.array(grid.data).reshape(grid.info.height, grid.info.width)

    alone, both = [cells(frame) for frame in frames], cells(*frames)
    assert ((alone[0] == 0) & (alone[1] != 0)).sum() > 500
    assert (((alone[0] == 0) | (alone[1] == 0)) <= (both == 0)).mean() > 0.999
    assert both[130, 130] != 100, 'a point that is one is not two'
    cloud = projectors[0].make_points(frames)
    assert cloud.width == scan.width
    labels = np.frombuffer(cloud.data, np.uint8).reshape(cloud.width, -1)[:, 16]
    seen = [frame.points.labels[0] != 255 for frame in frames]
    assert np.array_equal(labels != 255, seen[0] | seen[1])


def test_a_grid_of_a_lidar_remembers_what_its_cameras_see_in_turn() -> None:
    """Each sees a part of the scan, which says nothing against what the other has seen."""
    traversability, config = Traversability.load('camvid'), CloudConfig(grid_decay_s=2.0)
    projectors = [Projector(traversability, config, 'base_link', 'odom') for _ in range(2)]
    for i in range(6):
        frame = seen_by(projectors[i % 2], STILL, lidar_scan(), sensor=STILL,
                        camera=Pose.of_camera(1.0, yaw=(0.0, np.pi / 2)[i % 2]))
        stamp = header(1.0 + i / 10).stamp
        grid = projectors[0].make_grid([frame], stamp, may_repeat=True)
    cells = np.array(grid.data).reshape(grid.info.height, grid.info.width)
    for place in (np.s_[97:103, 130:145], np.s_[130:145, 97:103]):
        assert (cells[place] == 0).mean() > 0.9


@pytest.mark.parametrize('label', [SKY, 200], ids=['sky', 'no class'])
def test_labels_that_say_nothing_of_the_way_are_warned_of(start, label) -> None:
    rig = start(**ALONE)
    rig.send('', 1.0, labels=np.full((HEIGHT, WIDTH), label, np.uint8))
    assert rig.node._remark.startswith('the labels say nothing of what depth sees')
    assert not (rig.grid() == 0).any()


@pytest.mark.parametrize(('times', 'side'), [(2.0, '1.00 m below'), (0.5, '0.50 m above')])
def test_depth_in_units_that_might_be_is_warned_of_as_none_is_free(start, times, side) -> None:
    rig = start(**ALONE)
    rig.send('', 1.0, street()[1] * np.float32(times))
    assert not (rig.grid() == 0).any()
    assert f'the nearest that is seen lies {side} where the robot stands' in rig.node._remark
    rig.send('', 1.1)
    assert rig.node._remark == ''


def test_a_scan_in_millimetres_is_one_without_depth() -> None:
    projector = Projector(Traversability.load('camvid'), CloudConfig(), 'base_link', '')
    scan = lidar_scan()
    frame = seen_by(projector, STILL, scan, sensor=STILL)
    assert not frame.remark
    points = np.frombuffer(scan.data, np.float32).reshape(scan.width, -1).copy()
    points[:, :3] *= 1000
    scan.data = array.array('B', points.tobytes())
    frame = seen_by(projector, STILL, scan, sensor=STILL)
    assert frame.remark.startswith('there is no depth within min_range and max_range')
