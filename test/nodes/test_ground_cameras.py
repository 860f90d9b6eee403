# SPDX-License-Identifier: Apache-2.0
"""The ground node with several cameras, in this process: what it takes in, what goes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.ground.ground_node import GroundNode
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.ros_start import init

HEIGHT, WIDTH, FOCAL = 120, 160, 100.0
NAMES = builtin_label_set('camvid').names
SKY, ROAD, CAR = (NAMES.index(name) for name in ('sky', 'road', 'car'))
PARAMETERS = {'cameras': '[front,left]', 'pose_source': 'parameters', 'camera.front.height': '1.0',
              'camera.left.height': '1.0', 'camera.left.yaw': '1.5708', 'max_range': '8.0'}


class Rig:
    """The node, and what it published last, by output."""

    def __init__(self, **parameters: str) -> None:
        init(['--ros-args', *(word for name, value in (PARAMETERS | parameters).items()
                              for word in ('-p', f'{name}:={value}'))])
        self.node = GroundNode()
        self.node.start()
        self.out: dict[str, list[Any]] = {name: [] for name in self.node._outputs}
        self.node._outputs = {name: SimpleNamespace(  # type: ignore[misc]
            publish=lambda message, name=name: self.out[name].append(copy.deepcopy(message)),
            get_subscription_count=lambda: 1) for name in self.out}
        self.node._watch()

    def send(self, name: str, stamp_s: float, labels: np.ndarray | None = None, **info) -> None:
        camera = next(c for c in self.node._cameras if c.name == name)
        header = Header(frame_id=f'{name}_eye')
        header.stamp.sec, header.stamp.nanosec = divmod(round(stamp_s * 1e9), 10**9)
        k = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]
        self.node._on_input(camera, 'camera_info', CameraInfo(**{
            'header': header, 'width': WIDTH, 'height': HEIGHT, 'distortion_model': 'plumb_bob',
            'd': [0.0] * 5, 'k': k, **info}))
        self.node._on_input(camera, 'label', encode_image(
            road() if labels is None else labels, 'mono8', header))

    def grid(self) -> np.ndarray:
        grid = self.out['grid'][-1]
        return np.array(grid.data).reshape(grid.info.height, grid.info.width)

    def status(self) -> tuple[str, dict[str, str]]:
        """Let it report; return the view's message and values."""
        reports: list[dict[str, Any]] = []
        self.node._diagnostics = SimpleNamespace(publish=reports.append)  # type: ignore[assignment]
        self.node._report()
        status = reports[0]['view']
        return status.message, {key: str(value) for key, value in status.values.items()}


@pytest.fixture
def start(monkeypatch) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    monkeypatch.setattr(ground_node, 'GATHER_S', 1e9)  # this machine may be busy

    def start_one(**parameters: str) -> Rig:
        rigs.append(Rig(**parameters))
        return rigs[-1]

    yield start_one
    for rig in rigs:
        rig.node.destroy_node()
    rclpy.try_shutdown()


def road(car: bool = False) -> np.ndarray:
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[61:] = ROAD
    if car:
        labels[40:80, 60:100] = CAR  # 5 m away
    return labels


AHEAD, ASIDE = np.s_[98:103, 130:170], np.s_[130:170, 98:103]  # free ground, 3 to 7 m away


def test_frames_of_all_cameras_go_out_as_one_cloud_one_grid_and_one_scan(start) -> None:
    rig = start()
    rig.send('left', 1.02)  # which cannot know of the other one
    rig.send('front', 1.1, road(car=True))
    assert [len(messages) for messages in rig.out.values()] == [1, 1, 1]
    rig.send('left', 1.12)
    assert [len(messages) for messages in rig.out.values()] == [2, 2, 2]
    cells = rig.grid()
    assert (cells[ASIDE] == 0).all()
    assert (cells[98:103, 148:153] == 100).any()
    assert not (cells[98:103, 153:175] == 0).any()
    cloud, scan = rig.out['points'][-1], rig.out['free_space'][-1]
    assert (cloud.height, cloud.width) == (1, 2 * HEIGHT * WIDTH)
    points = np.frombuffer(cloud.data, np.float32).reshape(2, HEIGHT, WIDTH, 4)
    assert points[0, 70, 80, 0] == pytest.approx(5.1, abs=0.2)  # the front's, to the car's foot
    assert points[1, 100, 80, :2] == pytest.approx((0.0, 2.5), abs=0.01)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    ahead, aside = (scan.ranges[int(np.abs(angles - a).argmin())] for a in (0.0, np.pi / 2))
    assert ahead == pytest.approx(5.0, abs=0.2)
    assert aside == np.inf
    assert {m.header.stamp.nanosec for m in (cloud, scan, rig.out['grid'][-1])} == {120_000_000}
    message, values = rig.status()
    assert message.endswith('projecting') or 'nobody publishes' in message
    assert values['left/size'] == '160x120'
    assert (values['received'], values['projected']) == ('3', '3')


@pytest.mark.parametrize('frame', ['', 'base_link'], ids=['each alone', 'remembering'])
def test_what_a_camera_that_died_looked_at_becomes_unknown(start, frame) -> None:
    rig = start(**{'stale_after_s': '0.5', **({'grid.frame': frame} if frame else {})})
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 1.0 + i * 0.1)
    rig.send('front', 1.35)
    assert (rig.grid()[ASIDE] == 0).all()
    assert (rig.grid()[AHEAD] == 0).all()
    for i in range(4, 10):
        rig.send('front', 1.0 + i * 0.1)
    assert (rig.grid()[ASIDE] == -1).all()
    assert (rig.grid()[AHEAD] == 0).all()
    scan = rig.out['free_space'][-1]
    assert np.isnan(scan.ranges[round((np.pi / 2 - scan.angle_min) / scan.angle_increment)])
    cloud = rig.out['points'][-1]
    assert cloud.height * cloud.width == HEIGHT * WIDTH
    assert 'left: the newest label image is 0.6 s older' in rig.node._remark
    for i in range(3):
        rig.send('left', 1.95 + i * 0.1)
        rig.send('front', 2.0 + i * 0.1)
    assert (rig.grid()[ASIDE] == 0).all()  # it is back
    assert rig.node._remark == ''


def test_a_frame_waits_for_the_others_and_not_for_ever(start, monkeypatch) -> None:
    rig = start()
    rig.send('left', 1.0)
    rig.send('front', 1.1)
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0]
    rig.send('front', 1.2)  # until its own next one is here
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0, 100_000_000]
    monkeypatch.setattr(ground_node, 'GATHER_S', 0.0)
    rig.node._work()        # or for so long
    assert [m.header.stamp.nanosec for m in rig.out['grid']] == [0, 100_000_000, 200_000_000]
    assert rig.node._outcomes()['projected'] == 3


def test_a_grid_remembers_though_cameras_take_turns_with_older_stamps(start, monkeypatch) -> None:
    monkeypatch.setattr(ground_node, 'GATHER_S', 0.0)  # each frame goes out alone
    rig = start(**{'grid.frame': 'base_link'})
    for i in range(4):
        rig.send('front', 1.0 + i * 0.1)
        rig.send('left', 0.95 + i * 0.1)
    assert len(rig.out['grid']) == 8
    for place in (AHEAD, ASIDE):
        assert (rig.grid()[place] == 0).all()


def test_a_camera_whose_frames_are_bad_takes_no_part_and_is_named(start) -> None:
    rig = start()
    for stamp_s in (1.0, 1.1):
        rig.send('left', stamp_s, width=WIDTH + 1)
        rig.send('front', stamp_s)
    assert (rig.grid()[AHEAD] == 0).all()
    assert not (rig.grid()[ASIDE] == 0).any()
    assert rig.node._cameras[1].problem.startswith(
        'left: camera_info: it is for images of 161x120')
    message, values = rig.status()
    assert message.startswith('not of all cameras: ')
    assert (values['rejected'], values['projected']) == ('2', '2')


def test_when_a_camera_s_time_jumps_back_all_begin_again(start) -> None:
    rig = start()
    for name, stamp_s in (('left', 100.0), ('front', 100.1), ('left', 1.0), ('front', 1.1),
                          ('left', 1.2)):
        rig.send(name, stamp_s)
    assert (rig.grid()[ASIDE] == 0).all()
    assert (rig.grid()[AHEAD] == 0).all()
    assert rig.out['grid'][-1].header.stamp.sec == 1


def test_each_camera_has_its_pose_by_parameters_of_its_name(start) -> None:
    rig = start()
    assert rig.node.get_parameter('camera.left.yaw').value == 1.5708
    assert rig.node.describe_parameter('camera.front.pitch').description.startswith('Pitch')
    with pytest.raises(ConfigError, match="camera 'left' is named twice"):
        camera_names(['left', 'front', 'left'])


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
    assert rig.status()[0].startswith('/map listens to /ground/points as std_msgs/msg/String')


def test_labels_without_a_stamp_are_warned_of(start) -> None:
    """TF gives its newest pose for a stamp of zero, and a grid that remembers forgets all."""
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.send('', 0.0)
    assert rig.node._remark.startswith("the label images' stamps are zero: ")
    rig.send('', 1.0)
    assert rig.node._remark == ''


def test_labels_that_came_before_confidence_was_asked_for_are_not_taken_for_certain(start) -> None:
    """As those that wait for TF while min_confidence is set."""
    rig = start(cameras="['']", **{'camera.height': '1.0'})
    rig.node.set_parameters([Parameter('min_confidence', value=0.8)])
    rig.node._inputs = lambda: ['label', 'camera_info']  # as it was when they came
    rig.send('', 1.0)
    assert not rig.out['grid']
    assert rig.node._cameras[0].problem == (
        'confidence: none came with this label image, and min_confidence is 0.8')
