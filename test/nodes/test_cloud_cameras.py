# SPDX-License-Identifier: Apache-2.0
"""The cloud node with several cameras, in this process: what it takes in, what goes out."""

from __future__ import annotations

import array
import copy
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, PointCloud2
from test_cloud_node import (
    CAR,
    FOCAL,
    HEIGHT,
    SKY,
    WIDTH,
    depth_image,
    header,
    organised,
    street,
)

from lednet_ros.nodes.cloud import cloud_node
from lednet_ros.nodes.cloud.cloud_node import CloudNode
from lednet_ros.nodes.cloud.messages import CloudMessage
from lednet_ros.nodes.cloud.poses import Poses
from lednet_ros.nodes.cloud.projector import Frame, Projector
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.ros_start import init
from lednet_ros.projection import Pose, Traversability
from lednet_ros.projection.cloud import CloudConfig

PARAMETERS = {'cameras': '[front,left]', 'pose_source': 'parameters', 'camera.front.height': '1.0',
              'camera.left.height': '1.0', 'camera.left.yaw': '1.5708', 'max_range': '8.0',
              'stale_after_s': '0.5'}
AHEAD, ASIDE = np.s_[97:103, 125:145], np.s_[125:145, 97:103]  # free ground, 2.5 to 4.5 m away


class Rig:
    """The node, and what it has published, by output."""

    def __init__(self, **parameters: str) -> None:
        init(['--ros-args', *(word for name, value in (PARAMETERS | parameters).items()
                              for word in ('-p', f'{name}:={value}'))])
        self.node = CloudNode()
        self.node.start()
        self.out: dict[str, list[Any]] = {name: [] for name in self.node._outputs}
        self.node._outputs = {name: SimpleNamespace(  # type: ignore[misc]
            publish=lambda message, name=name: self.out[name].append(copy.deepcopy(message)),
            get_subscription_count=lambda: 1) for name in self.out}
        self.node._watch()

    def send(self, name: str, stamp_s: float, depth: np.ndarray | None = None,
             labels: np.ndarray | None = None) -> None:
        camera = next(c for c in self.node._cameras if c.name == name)
        at = header(stamp_s, f'{name}_eye')
        seen, as_it_is = street()
        k = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]
        for input_, message in (
                ('camera_info', CameraInfo(header=at, width=WIDTH, height=HEIGHT, k=k,
                                           distortion_model='plumb_bob', d=[0.0] * 5)),
                ('depth', depth_image(as_it_is if depth is None else depth, at)),
                ('label', encode_image(seen if labels is None else labels, 'mono8', at))):
            message.header = at
            self.node._on_input(camera, input_, message)

    def grid(self) -> np.ndarray:
        grid = self.out['grid'][-1]
        return np.array(grid.data).reshape(grid.info.height, grid.info.width)


@pytest.fixture
def start(monkeypatch) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []
    monkeypatch.setattr(cloud_node, 'GATHER_S', 1e9)  # this machine may be busy

    def start_one(**parameters: str) -> Rig:
        rigs.append(Rig(**parameters))
        return rigs[-1]

    yield start_one
    for rig in rigs:
        rig.node.destroy_node()
    rclpy.try_shutdown()


def test_frames_of_all_cameras_go_out_as_one_cloud_one_grid_and_one_scan(start) -> None:
    rig = start()
    rig.send('left', 1.0)  # which cannot know of the other one
    rig.send('front', 1.1)
    assert [len(messages) for messages in rig.out.values()] == [1, 1, 1]
    rig.send('left', 1.2)
    assert [len(messages) for messages in rig.out.values()] == [2, 2, 2]
    cells = rig.grid()
    for place, car in ((AHEAD, np.s_[97:103, 148:153]), (ASIDE, np.s_[148:153, 97:103])):
        assert (cells[place] == 0).mean() > 0.9
        assert (cells[car] == 100).any()
    cloud, scan = rig.out['points'][-1], rig.out['free_space'][-1]
    assert (cloud.height, cloud.width) == (1, 2 * HEIGHT * WIDTH)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    for bearing in (0.0, np.pi / 2):
        assert scan.ranges[int(np.abs(angles - bearing).argmin())] == pytest.approx(5.0, abs=0.3)
    assert np.isnan(scan.ranges[int(np.abs(angles + np.pi / 2).argmin())])
    assert {m.header.stamp.nanosec for m in (cloud, scan, rig.out['grid'][-1])} == {200_000_000}


@pytest.mark.parametrize('frame', ['', 'base_link'], ids=['each alone', 'remembering'])
def test_what_a_camera_that_died_looked_at_becomes_unknown(start, frame) -> None:
    rig = start(**({'grid.frame': frame} if frame else {}))
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 1.0 + i * 0.1)
    rig.send('front', 1.35)
    assert (rig.grid()[ASIDE] == 0).mean() > 0.9
    for i in range(4, 10):
        rig.send('front', 1.0 + i * 0.1)
    assert not (rig.grid()[ASIDE] == 0).any()
    assert (rig.grid()[AHEAD] == 0).mean() > 0.9
    assert rig.out['points'][-1].width * rig.out['points'][-1].height == HEIGHT * WIDTH
    assert 'left: the newest label image is 0.6 s older' in rig.node._remark
    for i in range(3):
        rig.send('left', 1.95 + i * 0.1)
        rig.send('front', 2.0 + i * 0.1)
    assert (rig.grid()[ASIDE] == 0).mean() > 0.9  # it is back


def test_a_grid_remembers_though_cameras_take_turns_with_older_stamps(start, monkeypatch) -> None:
    monkeypatch.setattr(cloud_node, 'GATHER_S', 0.0)  # each frame goes out alone
    rig = start(**{'grid.frame': 'base_link'})
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 0.95 + i * 0.1)
    assert len(rig.out['grid']) == 8
    for place in (AHEAD, ASIDE):
        assert (rig.grid()[place] == 0).mean() > 0.9


def test_a_camera_whose_frames_are_bad_takes_no_part_and_is_named(start) -> None:
    rig = start()
    for stamp_s in (1.0, 1.1):
        rig.send('left', stamp_s, np.full((HEIGHT // 2, WIDTH - 3), 5.0, np.float32))
        rig.send('front', stamp_s)
    assert (rig.grid()[AHEAD] == 0).mean() > 0.9
    assert not (rig.grid()[ASIDE] == 0).any()
    assert rig.node._cameras[1].problem.startswith('left: ')
    assert rig.node._outcomes()['rejected'] == 2


def test_with_a_stride_each_so_many_th_row_and_column_goes_out(start) -> None:
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 1.0)
    rig.node.set_parameters([Parameter('points.stride', value=3)])
    rig.send('', 1.1)
    whole, some = rig.out['points']
    assert (some.height, some.width, some.row_step) == (40, 54, 54 * some.point_step)
    pixels, thinned = (np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, -1)
                       for cloud in (whole, some))
    assert np.array_equal(pixels[::3, ::3], thinned)


def report(rig: Rig) -> tuple[int, str]:
    """Return the level and the message of what the node says of its view."""
    found: list[Any] = []
    rig.node._diagnostics = SimpleNamespace(publish=found.append)  # type: ignore[assignment]
    rig.node._report()
    return found[0]['view'].level[0], found[0]['view'].message


def test_what_was_wrong_before_it_was_deactivated_is_said_no_more(start, monkeypatch) -> None:
    """Nor how long ago something came: nothing could, meanwhile."""
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 1.0, np.full((HEIGHT // 2, WIDTH - 3), 5.0, np.float32))
    assert 'of another shape' in report(rig)[1]
    rig.node.on_deactivate(None)
    assert report(rig) == (0, 'inactive')
    later_s = time.monotonic() + 3600
    monkeypatch.setattr(time, 'monotonic', lambda: later_s)
    rig.node.on_activate(None)
    rig.node._watch()
    level, message = report(rig)
    assert (level, message) == (0, 'waiting for the first label image')


def test_labels_of_another_meaning_are_refused_whenever_that_was_told(start) -> None:
    """label_info is latched: it comes once, maybe before the node is configured."""
    rig = start(cameras="['']", autostart='false', **{'camera.height': '1.0'})
    rig.node._on_label_info(SimpleNamespace(class_map=[
        SimpleNamespace(class_id=0, class_name='cat')]))
    rig.node.on_configure(None)
    rig.node._outputs = {'points': SimpleNamespace(  # type: ignore[misc]
        publish=rig.out.setdefault('points', []).append, get_subscription_count=lambda: 1)}
    rig.node.on_activate(None)
    rig.node._watch()
    rig.send('', 1.0)
    assert not rig.out['points']
    assert "label_info calls class 0 'cat'" in rig.node._cameras[0].problem


def test_where_an_output_cannot_be_opened_none_stays_open(start) -> None:
    """Else each attempt would leave some behind."""
    rig = start(cameras="['']", autostart='false', **{
        'qos_overrides./semantic_cloud/free_space.publisher.depth': '-1'})
    before = len(list(rig.node.publishers))
    for _ in range(2):
        rig.node.on_configure(None)
        assert 'depth is -1' in rig.node._problem
    assert len(list(rig.node.publishers)) == before


def test_a_grid_that_remembers_in_the_robots_own_frame_is_warned_of(start, capfd) -> None:
    """What was free ahead would still be free there after the robot has turned."""
    own = {'grid.frame': 'base_link'}
    for given, is_odd in ((own, True), ({}, False), ({**own, 'grid.decay_s': '0.0'}, False)):
        rig = start(**given)
        assert ('which moves with the robot' in capfd.readouterr().err) == is_odd
        rig.node.destroy_node()
        rclpy.try_shutdown()


def test_a_listener_that_hears_nothing_is_in_the_report(start) -> None:
    rig = start()
    for output in rig.node._outputs.values():
        output.get_subscription_count = lambda: 0
    rig.node.get_subscriptions_info_by_topic = lambda name: [SimpleNamespace(
        topic_type='std_msgs/msg/String', node_namespace='/', node_name='map')]
    assert report(rig)[1].startswith('/map listens to /semantic_cloud/points as ')


def test_labels_without_a_stamp_are_warned_of(start) -> None:
    """TF gives its newest pose for a stamp of zero, and a grid that remembers forgets all."""
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 0.0)
    assert rig.node._remark.startswith("the label images' stamps are zero: ")
    rig.send('', 1.0)
    assert rig.node._remark == ''


def test_what_was_seen_by_another_pose_is_forgotten_as_that_is_given(start) -> None:
    rig = start(cameras="['']", **{'camera.height': '1.0', 'grid.frame': 'base_link'})
    for i in range(4):
        rig.send('', 1.0 + i * 0.1)
    assert (rig.grid()[AHEAD] == 0).mean() > 0.9
    rig.node.set_parameters([Parameter('camera.yaw', value=1.5708)])
    rig.send('', 1.4)
    assert not (rig.grid()[AHEAD] == 0).any()


def test_labels_that_came_before_confidence_was_asked_for_are_not_taken_for_certain(start) -> None:
    """As those that wait for TF while min_confidence is set."""
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.node.set_parameters([Parameter('min_confidence', value=0.8)])
    rig.node._of_camera = lambda: ['label', 'camera_info']  # as it was when they came
    rig.send('', 1.0)
    assert not rig.out['grid']
    assert rig.node._cameras[0].problem == (
        'confidence: none came with this label image, and min_confidence is 0.8')


MIDDLE = Pose.of_camera(1.0)
STILL = Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


def seen_by(projector: Projector, robot: Pose | None, other: Any = None, **sensor: Any) -> Frame:
    """Return the street as it is seen when the robot is there, by depth or another source."""
    labels, depth = street()
    at = header(1.0)
    k = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]
    source = {'depth': depth_image(depth, at)} if other is None else {'points': other}
    return projector.look(
        {'label': encode_image(labels, 'mono8', at), **source, 'camera_info': CameraInfo(
            header=at, width=WIDTH, height=HEIGHT, k=k, distortion_model='plumb_bob',
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
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 1.0, labels=np.full((HEIGHT, WIDTH), label, np.uint8))
    assert rig.node._remark.startswith('the labels say nothing of what depth sees')
    assert not (rig.grid() == 0).any()


@pytest.mark.parametrize(('times', 'side'), [(2.0, '1.00 m below'), (0.5, '0.50 m above')])
def test_depth_in_units_that_might_be_is_warned_of_as_none_is_free(start, times, side) -> None:
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 1.0, street()[1] * np.float32(times))
    assert not (rig.grid() == 0).any()
    assert f'the nearest that is seen lies {side} where the robot stands' in rig.node._remark
    rig.send('', 1.1)
    assert rig.node._remark == ''
