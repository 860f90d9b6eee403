# SPDX-License-Identifier: Apache-2.0
"""The ground node over real DDS: labels and camera_info come from this process."""
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import fake_tf
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_graph import WITHIN_S
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.model.labels import builtin_label_set
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.launch_arguments import ground_remappings

NODE = 'lednet_ros.nodes.ground.ground_node'
HEIGHT, WIDTH, FOCAL = 120, 160, 100.0
OUTPUTS = {'points': PointCloud2, 'grid': OccupancyGrid, 'free_space': LaserScan}
NAMES = builtin_label_set('camvid').names
SKY, ROAD, CAR = (NAMES.index(name) for name in ('sky', 'road', 'car'))
POSE = {'camera.height': 1.0, 'pose_source': 'parameters', 'diagnostics.period_s': 0.2}
# A level camera 1 m above the ground sees it FOCAL / (v - 60) m away in row v.
FOOT = 80  # the first row of road before the car: 5 m away


def street(foot: int = FOOT) -> np.ndarray:
    """Road under a sky, and a car that stands in the middle."""
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[61:] = ROAD
    labels[40:foot, 60:100] = CAR
    return labels


def make_info(stamp: int, **more) -> CameraInfo:
    k = [FOCAL, 0.0, 80.0, 0.0, FOCAL, 60.0, 0.0, 0.0, 1.0]
    fields = {'width': WIDTH, 'height': HEIGHT, 'distortion_model': 'plumb_bob', 'd': [0.0] * 5,
              'k': k, 'r': np.eye(3).ravel(), 'p': [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]}
    info = CameraInfo(**{**fields, **more}, header=Header(frame_id='eye'))
    info.header.stamp.sec = stamp
    return info


def image(pixels: np.ndarray, stamp: int, encoding: str = 'mono8') -> Image:
    header = Header(frame_id='eye')
    header.stamp.sec = stamp
    return encode_image(pixels, encoding, header)


class Rig:
    """The node, and what it hears and says."""

    def __init__(self, graph, parameters=None, outputs=tuple(OUTPUTS), **more) -> None:
        self.graph = graph
        self.node = graph.start(more.pop('command', NODE), {**POSE, **(parameters or {})}, **more)
        self.diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
        self.labels = graph.publisher('label', Image)
        self.infos = graph.publisher('camera_info', CameraInfo)
        self.inboxes = {o: graph.subscribe(f'/ground/{o}', OUTPUTS[o]) for o in outputs}
        graph.wait_for_output(self.node, 'ready: ')
        self.stamp = 0
        if outputs:
            self.labels.wait_matched()
            self.infos.wait_matched()

    def send(self, labels=None, **info) -> int:
        """Send a frame; give its stamp."""
        self.stamp += 1
        self.infos.publish(make_info(self.stamp, **info))
        self.labels.publish(image(street() if labels is None else labels, self.stamp))
        return self.stamp

    def exchange(self, output: str, labels=None, **info):
        """Send frames until one's answer comes; best effort may lose the first."""
        inbox = self.inboxes[output]
        until_s = time.monotonic() + WITHIN_S
        while time.monotonic() < until_s:
            first = self.stamp + 1
            self.send(labels, **info)
            try:
                return inbox.wait_for(lambda m, first=first: m.header.stamp.sec >= first, 1.0)
            except AssertionError:
                assert self.node.returncode is None, self.node.describe()
        raise AssertionError(f'no answer on {output}; {self.status()}')

    def status(self, wanted=None) -> dict[str, str]:
        """Give the newest report, or wait for one whose message holds some words."""
        def view(array):
            return next((s for s in array.status if s.name == 'ground: view'), None)

        if wanted is None:
            reports = [view(a) for a in self.diagnostics.wait(1) if view(a)]
            status = reports[-1]
        else:
            seen = len(self.diagnostics.messages)
            status = view(self.diagnostics.wait_for(
                lambda a: view(a) is not None and wanted in view(a).message
                and self.diagnostics.messages.index(a) >= seen - 1))
        return {'level': int.from_bytes(status.level, 'little'), 'message': status.message,
                **{v.key: v.value for v in status.values}}

    @contextmanager
    def feeding(self, send: Callable[[], object]) -> Iterator[None]:
        """Send over and over at a camera's pace: best effort may lose some, a busy node all."""
        stop = threading.Event()

        def feed() -> None:
            while not stop.wait(0.1):
                send()

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            yield
        finally:
            stop.set()
            feeder.join()

    def change(self, name: str, value) -> bool:
        response = self.graph.call(
            SetParameters, '/ground/set_parameters', SetParameters.Request(
                parameters=[Parameter(name, value=value).to_parameter_msg()]))
        return response.results[0].successful


def points_of(cloud: PointCloud2) -> np.ndarray:
    return np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 4)


def test_points_are_organised_and_lie_on_the_ground_before_the_camera(graph) -> None:
    rig = Rig(graph, outputs=('points',))
    cloud = rig.exchange('points')
    assert (cloud.height, cloud.width, cloud.point_step) == (HEIGHT, WIDTH, 16)
    assert cloud.row_step == 16 * WIDTH
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [
        ('x', 0, 7), ('y', 4, 7), ('z', 8, 7), ('rgb', 12, 7)]
    assert cloud.header.frame_id == 'base_link'
    points = points_of(cloud)
    assert points[70, 20, :3] == pytest.approx([10.0, 6.0, 0.0], abs=1e-4)  # left is +y
    assert np.isnan(points[:66, :60, :3]).all()      # sky, and farther than 20 m
    assert np.isfinite(points[68:, :60, :3]).all()
    # The whole car, its roof above the horizon too, stands where its foot is.
    car = points[42:FOOT - 1, 63:97, 0]
    assert np.abs(car - FOCAL / (FOOT - 0.5 - 60)).max() < 0.1
    assert points[0, 0, 3:].view(np.uint32) == 0x808080  # CamVid's sky
    assert points[100, 0, 3:].view(np.uint32) == 0x804080


def test_grid_has_the_car_before_unknown_ground_and_free_ground_before_it(graph) -> None:
    rig = Rig(graph, outputs=('grid',))
    grid = rig.exchange('grid')
    assert grid.header.frame_id == 'base_link'
    assert (grid.info.width, grid.info.height) == (200, 200)
    assert grid.info.resolution == pytest.approx(0.1)
    assert (grid.info.origin.position.x, grid.info.origin.position.y) == (-10.0, -10.0)
    assert grid.info.origin.orientation.w == 1.0
    ahead = np.array(grid.data).reshape(200, 200)[100, 100:]
    assert (ahead[:16] == -1).all()   # too near to be seen
    assert (ahead[19:50] == 0).all()
    assert (ahead[50:53] == 100).any()
    assert (ahead[53:] == -1).all()   # behind the car
    assert (np.array(grid.data).reshape(200, 200)[:, :100] == -1).all()  # behind the robot


def test_scan_measures_the_free_ground(graph) -> None:
    rig = Rig(graph, outputs=('free_space',))
    scan = rig.exchange('free_space')
    assert scan.header.frame_id == 'base_link'
    ranges = np.array(scan.ranges)
    assert len(ranges) == round((scan.angle_max - scan.angle_min) / scan.angle_increment) + 1
    assert scan.range_min < 2
    assert scan.range_max == 20.0

    def beam(degrees: float) -> float:
        return float(ranges[round((np.radians(degrees) - scan.angle_min)
                                  / scan.angle_increment) % len(ranges)])

    assert beam(0) == pytest.approx(FOCAL / (FOOT - 0.5 - 60), abs=0.1)
    assert beam(30) == np.inf
    assert np.isnan(beam(60))
    assert np.isnan(beam(180))


def test_only_what_is_listened_to_is_made_and_nothing_is_received_unheard(graph) -> None:
    rig = Rig(graph, outputs=())
    idle = rig.status('idle: nobody listens')
    assert idle['level'] == 0
    assert graph.node.count_subscribers('/label') == 0
    assert graph.node.count_subscribers('/camera_info') == 0
    for output in OUTPUTS:
        rig.inboxes = {output: graph.subscribe(f'/ground/{output}', OUTPUTS[output])}
        rig.labels.wait_matched()
        rig.infos.wait_matched()
        rig.exchange(output)
        assert rig.status('projecting')['outputs'] == output
        graph.node.destroy_subscription(rig.inboxes[output]._subscription)
        graph.wait_until(lambda: graph.node.count_subscribers('/label') == 0, WITHIN_S,
                         'not let be')


def test_the_pose_changes_live(graph) -> None:
    rig = Rig(graph, {'robot_frame': 'base_footprint'}, outputs=('points',))
    assert points_of(rig.exchange('points'))[100, 80, 0] == pytest.approx(2.5, abs=1e-4)
    assert rig.change('camera.height', 2.0)
    assert rig.change('camera.x', 0.5)
    cloud = rig.exchange('points')
    assert points_of(cloud)[100, 80, 0] == pytest.approx(5.5, abs=1e-4)
    assert cloud.header.frame_id == 'base_footprint'
    assert rig.change('camera.pitch', 0.2)
    tilted = points_of(rig.exchange('points'))[100, 80, 0]
    assert tilted == pytest.approx(0.5 + 2 / np.tan(0.2 + np.arctan(0.4)), abs=1e-3)
    assert not rig.change('camera.height', -1.0)


@pytest.mark.parametrize(('parameters', 'frame', 'words'), [
    ({}, {'width': 161}, 'camera_info: it is for images of 161x120, these are 160x120'),
    ({}, {'k': np.zeros(9)}, 'camera_info: its K says that the camera is not calibrated'),
    ({}, {'k': [np.nan] * 9}, 'camera_info: it holds NaN or infinity'),
    ({'rectified': True}, {'p': np.zeros(12)}, 'camera_info: its P is singular'),
    ({}, {'distortion_model': 'kannala', 'd': [0.1] * 4}, "distortion model is 'kannala'"),
    ({'camera.height': 0.0}, {}, "the camera's pose is not known: camera.height is 0"),
    ({'camera.pitch': -1.2}, {}, 'the camera looks at the sky: no ground within 20 m'),
], ids=['another size', 'uncalibrated', 'NaN', 'singular P', 'model', 'no height', 'sky'])
def test_what_does_not_hold_is_named_and_nothing_goes_out(graph, parameters, frame, words) -> None:
    rig = Rig(graph, parameters)
    with rig.feeding(lambda: rig.send(**frame)):
        status = rig.status(words)
    assert status['level'] == 1
    assert status['message'].startswith('nothing goes out: ')
    assert int(status['rejected']) > 0
    assert not any(inbox.messages for inbox in rig.inboxes.values())
    if not parameters:  # and the next good frame goes out
        rig.exchange('grid')
        assert rig.status('projecting')['level'] == 0


def test_bad_label_images_are_named(graph) -> None:
    rig = Rig(graph)
    info = make_info(1)
    for bad, words in ((image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1, 'rgb8'),
                        "label: encoding 'rgb8': publish mono8"),
                       (image(street(), 1), 'the numbers do not fit together')):
        if 'numbers' in words:
            bad.step = 7

        def send(bad: Image = bad) -> None:
            rig.stamp += 1
            bad.header.stamp.sec = info.header.stamp.sec = rig.stamp
            rig.infos.publish(info)
            rig.labels.publish(bad)

        with rig.feeding(send):
            assert rig.status(words)['level'] == 1
    assert not any(inbox.messages for inbox in rig.inboxes.values())


def test_a_missing_camera_info_and_one_of_other_stamps_are_named(graph) -> None:
    rig = Rig(graph, {'diagnostics.stale_after_s': 1.0})

    def send(info_after_s: int) -> None:
        rig.stamp += 1
        rig.labels.publish(image(street(), rig.stamp))
        if info_after_s:
            rig.infos.publish(make_info(info_after_s + rig.stamp))

    with rig.feeding(lambda: send(0)):
        rig.status('/camera_info has a publisher but nothing came for')
    with rig.feeding(lambda: send(1000)):
        assert rig.status('come with different stamps')['level'] == 1
        graph.wait_until(lambda: int(rig.status()['dropped_unmatched']) > 0, WITHIN_S,
                         'none is counted')
    assert not any(inbox.messages for inbox in rig.inboxes.values())


def test_inputs_that_stop_are_named(graph) -> None:
    rig = Rig(graph, {'diagnostics.stale_after_s': 1.0})
    rig.exchange('grid')
    stopped = rig.status('/label has a publisher but nothing came for')
    assert stopped['level'] == 1
    graph.node.destroy_publisher(rig.labels._publisher)
    assert rig.status('nobody publishes /label')['level'] == 1


def test_unlabelled_and_unsure_pixels_are_never_free(graph) -> None:
    rig = Rig(graph)
    for output in OUTPUTS:
        rig.exchange(output, np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert (np.array(rig.inboxes['grid'].messages[-1].data) == -1).all()
    assert np.isnan(points_of(rig.inboxes['points'].messages[-1])[..., :3]).all()
    assert np.isnan(rig.inboxes['free_space'].messages[-1].ranges).all()
    assert 'all of it is unlabelled' in rig.status('unlabelled')['message']


def test_low_confidence_is_unknown_and_a_missing_one_stops_all(graph) -> None:
    rig = Rig(graph, {'min_confidence': 0.5, 'diagnostics.stale_after_s': 1.0},
              outputs=('free_space',))
    with rig.feeding(rig.send):
        rig.status('nobody publishes /confidence')
    assert not rig.inboxes['free_space'].messages
    confidences = graph.publisher('confidence', Image)
    confidences.wait_matched()
    confidence = np.full((HEIGHT, WIDTH), 200, np.uint8)
    confidence[90:95] = 100  # from 3.3 m on
    with rig.feeding(lambda: confidences.publish(image(confidence, rig.send()))):
        scan = rig.inboxes['free_space'].wait(1)[0]
    ahead = scan.ranges[round(-scan.angle_min / scan.angle_increment)]
    assert ahead == pytest.approx(FOCAL / (94.5 - 60), abs=0.1)


def test_a_grid_in_its_own_frame_remembers_for_a_while(graph) -> None:
    """The robot's frame as the one that stays: a camera on a mast."""
    rig = Rig(graph, {'grid.frame': 'base_link', 'grid.decay_s': 10.0}, outputs=('grid',))
    rig.exchange('grid')
    unknown = np.full((HEIGHT, WIDTH), 255, np.uint8)
    unknown[-1, 0] = ROAD

    def cells(message) -> np.ndarray:
        return np.array(message.data)

    kept = cells(rig.exchange('grid', unknown))
    assert (kept == 100).any()
    assert not (kept == 0).any()  # it looks there, and does not know
    rig.stamp += 20
    assert (cells(rig.exchange('grid', unknown)) != 100).all()


def test_poses_come_from_tf_where_it_is_installed(graph) -> None:
    rig = Rig(graph, {'pose_source': 'auto', 'camera.height': 9.0, 'grid.frame': 'odom',
                      'tf_timeout_s': 0.0},
              command=fake_tf.command('missing', 40))
    graph.wait_for_output(rig.node, 'camera pose from TF')
    with rig.feeding(rig.send):
        status = rig.status('no TF')
    assert status['message'].startswith("no grid goes out: no TF from 'odom' to 'base_link'")
    assert 'pose_source' not in status['message']
    assert points_of(rig.exchange('points'))[100, 80, 0] == pytest.approx(3.0, abs=1e-4)
    rig.exchange('grid')
    grid = rig.exchange('grid')  # ground is free with its second sighting
    assert grid.header.frame_id == 'odom'
    assert (grid.info.origin.position.x, grid.info.origin.position.y) == pytest.approx((20, -17))
    # The robot, at (30, -7), looks along y: so it sees the car there.
    column = np.array(grid.data).reshape(200, 200)[100:, 100]
    assert (column[24:55] == 0).all()
    assert (column[55:58] == 100).any()


@pytest.mark.parametrize(('timeout_s', 'comes'), [(10.0, True), (0.0, False)])
def test_a_label_waits_for_the_transform_of_its_stamp(graph, timeout_s, comes) -> None:
    """Odometry comes ten times a second, labels a few ms after their images."""
    rig = Rig(graph, {'pose_source': 'tf', 'grid.frame': 'odom', 'tf_timeout_s': timeout_s},
              outputs=('grid',), command=fake_tf.command('late', 30))
    if comes:
        grid = rig.exchange('grid')
        assert grid.header.stamp.sec == 1 or rig.inboxes['grid'].messages[0].header.stamp.sec < 4
        assert rig.status('projecting')['dropped_no_tf'] == '0'
        return
    with rig.feeding(rig.send):
        graph.wait_until(lambda: int(rig.status()['dropped_no_tf']) > 2, WITHIN_S, 'none gave up')
    assert rig.status()['rejected'] == '0'
    assert "no TF from 'odom' to 'base_link': Lookup would require" in rig.status()['message']


def test_when_time_jumps_back_the_transforms_of_before_are_forgotten(graph) -> None:
    """Else a bag that is played again has all its transforms refused as old."""
    rig = Rig(graph, {'pose_source': 'tf', 'use_sim_time': True}, outputs=(),
              command=fake_tf.command('late', 30))
    clock = graph.publisher('/clock', Clock)
    clock.wait_matched()
    for second in (100, 160, 100):
        assert 'cleared' not in rig.node.output
        now = Clock()
        now.clock.sec = second
        graph.wait_until(lambda now=now: clock.publish(now) is None and any(
            a.header.stamp.sec == now.clock.sec for a in rig.diagnostics.messages[-3:]),
            WITHIN_S, 'the node does not follow /clock')
    graph.wait_for_output(rig.node, 'cleared')


def test_without_tf_a_grid_that_would_need_it_is_refused(graph) -> None:
    node = graph.start(NODE, {**POSE, 'grid.frame': 'odom'})
    assert node.wait() == 1
    assert "ground: grid.frame is 'odom' but there is no TF" in node.output


def test_a_wrong_traversability_is_refused_in_one_line(graph) -> None:
    node = graph.start(NODE, {**POSE, 'traversability': '/no/such.yaml'})
    assert node.wait() == 1
    assert 'ground: traversability' in node.output
    assert 'Traceback' not in node.output


def test_it_loads_no_torch(graph) -> None:
    """A planner's computer need not have it."""
    node = graph.start(fake_tf.command('no torch'), POSE)
    graph.wait_for_output(node, 'ready: ')


def test_the_labels_of_two_cameras_of_the_segmentation_node_make_one_grid(graph) -> None:
    cameras = ['front', 'left']
    segment = graph.start('lednet_ros.nodes.segment.segment_node', {
        'cameras': cameras, 'input_height': 64, 'input_width': 96, 'output_size': '80x60'})
    ground = graph.start(NODE, {
        'cameras': cameras, 'pose_source': 'parameters', 'camera.left.yaw': 1.57,
        **{f'camera.{name}.height': 1.0 for name in cameras}}, remaps=dict(
            ground_remappings(cameras)))
    for node in (segment, ground):
        graph.wait_for_output(node, 'ready: ')
    clouds = graph.subscribe('/ground/points', PointCloud2)
    images, infos = ([graph.publisher(f'{name}/{topic}', type_) for name in cameras]
                     for topic, type_ in (('image', Image), ('camera_info', CameraInfo)))
    for outlet in (*images, *infos):
        outlet.wait_matched()
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for stamp in range(1, 200):
        for name, image_outlet, info_outlet in zip(cameras, images, infos, strict=True):
            info = make_info(stamp)
            info.header.frame_id = name
            info_outlet.publish(info)
            image_outlet.publish(encode_image(picture, 'bgr8', info.header))
        try:
            cloud = clouds.wait_for(lambda cloud: cloud.width == 2 * 80 * 60, 0.3)
            break
        except AssertionError:
            assert ground.returncode is None, ground.describe()
    assert cloud.height == 1
