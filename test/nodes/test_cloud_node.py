# SPDX-License-Identifier: Apache-2.0
"""The cloud node over real DDS: labels, camera_info, depth and points come from this process."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_graph import WITHIN_S
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.model.labels import builtin_label_set
from lednet_ros.nodes.cloud.messages import CloudMessage
from lednet_ros.nodes.shared.image_messages import encode_image

NODE = 'lednet_ros.nodes.cloud.cloud_node'
HEIGHT, WIDTH, FOCAL = 120, 160, 100.0
OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}
NAMES = builtin_label_set('camvid').names
SKY, ROAD, CAR = (NAMES.index(name) for name in ('sky', 'road', 'car'))
POSE = {'camera.height': 1.0, 'pose_source': 'parameters', 'diagnostics.period_s': 0.2}
FOOT = 80  # a level camera 1 m above the ground sees it FOCAL / (v - 60) m away in row v: 5 m


def street() -> tuple[np.ndarray, np.ndarray]:
    """Road under a sky and a car in the middle: labels, and depth in m."""
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[61:] = ROAD
    labels[40:FOOT, 60:100] = CAR
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[61:] = (FOCAL / np.arange(1, 60))[:, None]
    depth[40:FOOT, 60:100] = 5.0
    return labels, depth


def header(stamp: float, frame: str = 'eye') -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec, result.stamp.nanosec = int(stamp), round(stamp % 1 * 1e9)
    return result


def depth_image(depth: np.ndarray, at: Header) -> Image:
    pixels = np.ascontiguousarray(depth)
    message = encode_image(pixels.view(np.uint8).reshape(len(pixels), -1), 'mono8', at)
    message.encoding = '16UC1' if depth.dtype == np.uint16 else '32FC1'
    message.width = depth.shape[1]
    return message


class Rig:
    """The node, and what it hears and says."""

    def __init__(self, graph, parameters=None, outputs=tuple(OUTPUTS), start='ready: ') -> None:
        self.graph = graph
        self.node = graph.start(NODE, {**POSE, **(parameters or {})})
        self.diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
        self.source = (parameters or {}).get('source', 'depth')
        self.publishers = {name: graph.publisher(name, type_) for name, type_ in (
            ('label', Image), ('camera_info', CameraInfo),
            (self.source, Image if self.source == 'depth' else PointCloud2))}
        self.inboxes = {o: graph.subscribe(f'/semantic_cloud/{o}', OUTPUTS[o]) for o in outputs}
        if start:
            graph.wait_for_output(self.node, start)
        self.stamp = 0.0
        if outputs and start == 'ready: ':
            self.wait_matched()

    def wait_matched(self) -> None:
        for publisher in self.publishers.values():
            publisher.wait_matched()

    def send(self, other=None, labels=None, late=0.0, frame='eye') -> None:
        """Send a frame: labels, CameraInfo, and depth or a cloud, `late` by so many s."""
        self.stamp += 1
        at = header(self.stamp)
        k = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]
        self.publishers['camera_info'].publish(CameraInfo(
            header=at, width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5, k=k,
            r=np.eye(3).ravel(), p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]))
        if other is None:
            other = depth_image(street()[1], at)
        other.header = header(self.stamp + late, frame)
        self.publishers[self.source].publish(other)
        self.publishers['label'].publish(
            encode_image(street()[0] if labels is None else labels, 'mono8', at))

    def exchange(self, output: str, **frame):
        """Send frames until one's answer comes; best effort may lose the first."""
        until_s = time.monotonic() + WITHIN_S
        while time.monotonic() < until_s:
            first = self.stamp + 1
            self.send(**frame)
            try:
                return self.inboxes[output].wait_for(
                    lambda m, first=first: m.header.stamp.sec >= first, 1.0)
            except AssertionError:
                assert self.node.returncode is None, self.node.describe()
        raise AssertionError(f'no answer on {output}; {self.status()}')

    def status(self, words: str = '') -> dict[str, str]:
        """Return a report whose message holds some words; wait for it."""
        found = self.diagnostics.wait_for(lambda a: any(
            s.name == 'semantic_cloud: view' and words in s.message for s in a.status))
        status = next(s for s in found.status if s.name == 'semantic_cloud: view')
        return {'level': int.from_bytes(status.level, 'little'), 'message': status.message,
                **{v.key: v.value for v in status.values}}

    def refused(self, words: str, **frame) -> dict[str, str]:
        """Send frames until a report gives these words; nothing may have gone out."""
        until_s = time.monotonic() + WITHIN_S
        while time.monotonic() < until_s:
            self.send(**frame)
            try:
                self.diagnostics.wait_for(lambda a: any(words in s.message for s in a.status), 1.0)
                break
            except AssertionError:
                assert self.node.returncode is None, self.node.describe()
        report = self.status(words)
        assert report['level'] == 1
        assert not any(inbox.messages for inbox in self.inboxes.values())
        return report


def points_of(cloud: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, 20)
    return data[..., :12].copy().view(np.float32), data[..., 16]


def test_a_cloud_a_grid_and_a_scan_come_of_labels_and_depth(graph) -> None:
    rig = Rig(graph)
    cloud = rig.exchange('points')
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert cloud.header.frame_id == 'base_link'
    points, labels = points_of(cloud)
    assert np.array_equal(labels, street()[0])
    assert points[100, 30] == pytest.approx([2.5, 1.25, 0.0], abs=0.01)
    assert points[60, 80] == pytest.approx([5.0, 0.0, 1.0], abs=0.01)
    assert np.isnan(points[10, 10]).all()
    grid = rig.inboxes['grid'].wait_for(lambda m: m.header == cloud.header)
    cells = np.array(grid.data).reshape(200, 200)
    assert cells[100, 130] == 0      # road, 3 m ahead
    assert cells[100, 150] == 100    # the car
    assert cells[100, 160] == -1     # behind it
    scan = rig.inboxes['free_space'].wait_for(lambda m: m.header == cloud.header)
    assert scan.ranges[len(scan.ranges) // 2] == pytest.approx(5.0, abs=0.2)
    assert np.isnan(scan.ranges[0])
    report = rig.status('projecting')
    assert report['level'] == 0
    assert float(report['ground_height_m']) == pytest.approx(0.0, abs=0.05)


def test_millimetres_of_half_the_size_a_little_later_will_do(graph) -> None:
    rig = Rig(graph, outputs=('points',))
    half = (street()[1][1::2, 1::2] * 1000).astype(np.uint16)
    cloud = rig.exchange('points', other=depth_image(half, header(0)), late=0.03)
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert cloud.header.stamp.nanosec == 0  # the labels'
    assert points_of(cloud)[0][60, 80, 0] == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(('words', 'frame'), [
    ("depth is in frame 'depth_eye' and label in 'eye'", {'frame': 'depth_eye'}),
    ('of another shape', {'other': np.ones((100, 160), np.float32)}),
    ('look like millimetres', {'other': street()[1] * 1000}),
    ('no millimetres', {'other': street()[1].astype(np.uint16)}),
    ('the nearest ground', {'other': street()[1] * 10}),
    ('200 ms apart', {'late': 0.2}),
], ids=['frame', 'shape', 'millimetres', 'metres', 'centimetres', 'stamps'])
def test_a_wrong_input_is_named_and_nothing_goes_out(graph, words, frame) -> None:
    rig = Rig(graph)
    if 'other' in frame:
        frame = {'other': depth_image(frame['other'], header(0))}
    report = rig.refused(words, **frame)
    assert report['projected'] == '0'


def test_without_a_pose_nothing_goes_out(graph) -> None:
    Rig(graph, {'camera.height': 0.0}).refused("the camera's pose is not known")


def cloud_message(points: np.ndarray) -> PointCloud2:
    message = CloudMessage(1, len(points))
    message.points[..., :3] = points
    return message.message


def test_a_lidars_points_are_painted_and_all_stay(graph) -> None:
    rig = Rig(graph, {'source': 'points', 'label_border': 0})
    ground = [(x, y, 0.0) for x in np.arange(2.5, 4.5, 0.05) for y in np.arange(-0.5, 0.5, 0.05)]
    points = np.array([*ground, (5.0, 0.0, 1.0), (-3.0, 0.0, 0.0)], np.float32)
    cloud = rig.exchange('points', other=cloud_message(points), frame='base_link')
    assert (cloud.height, cloud.width) == (1, len(points))
    found, labels = points_of(cloud)
    assert found[0] == pytest.approx(points)
    assert set(labels[0, :-2]) == {ROAD}
    assert labels[0, -2:].tolist() == [CAR, 255]
    grid = rig.inboxes['grid'].wait_for(lambda m: m.header == cloud.header)
    cells = np.array(grid.data).reshape(200, 200)
    assert cells[100, 130] == 0
    assert cells[100, 150] == 100
    assert cells[100, 70] == -1


def test_a_cloud_without_tf_in_another_frame_is_refused(graph) -> None:
    rig = Rig(graph, {'source': 'points'})
    rig.refused("points are in frame 'lidar' and there is no TF",
                other=cloud_message(np.ones((4, 3))), frame='lidar')


def organised() -> PointCloud2:
    """Return the street's cloud as its camera sees it."""
    message = CloudMessage(HEIGHT, WIDTH)
    message.message.header.frame_id = 'eye'
    rows, columns = np.indices((HEIGHT, WIDTH))
    depth = np.where(street()[1] > 0, street()[1], np.nan)
    message.points[..., :3] = np.stack([(columns - 80) / FOCAL * depth,
                                        (rows - 60) / FOCAL * depth, depth], -1)
    return message.message


def test_an_organised_cloud_of_the_camera_is_taken_pixel_by_pixel(graph) -> None:
    rig = Rig(graph, {'source': 'points'}, outputs=('points',))
    cloud = rig.exchange('points', other=organised())
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert points_of(cloud)[0][60, 80] == pytest.approx([5.0, 0.0, 1.0], abs=0.01)


def change_state(graph, transition: int) -> bool:
    return graph.change_state('/semantic_cloud', transition)


def test_a_lifecycle_manager_takes_it_up_and_down_and_up_again(graph) -> None:
    rig = Rig(graph, {'autostart': False}, outputs=('points',), start='')
    assert rig.status('inactive')['level'] == 0
    for _ in range(2):
        assert change_state(graph, Transition.TRANSITION_CONFIGURE)
        assert change_state(graph, Transition.TRANSITION_ACTIVATE)
        rig.wait_matched()
        rig.exchange('points')
        assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
        graph.wait_until(lambda: graph.node.count_subscribers('/depth') == 0, WITHIN_S,
                         'it still listens')
        assert change_state(graph, Transition.TRANSITION_CLEANUP)
        assert graph.node.count_publishers('/semantic_cloud/points') == 0


def test_a_setting_that_cannot_be_is_said_and_can_be_mended(graph) -> None:
    rig = Rig(graph, {'max_clearance': 0.1}, outputs=(), start='not configured: ')
    assert rig.status('obstacle_height is 0.2 m and max_clearance 0.1 m')['level'] == 1
    answer = graph.call(SetParameters, '/semantic_cloud/set_parameters', SetParameters.Request(
        parameters=[Parameter('max_clearance', value=1.5).to_parameter_msg()]))
    assert answer.results[0].successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
