# SPDX-License-Identifier: Apache-2.0
"""A camera's topics in this process, beside a graph that does not fit, and its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from ros_graph import WITHIN_S
from sensor_msgs.msg import CompressedImage, Image
from test_segment_node import make_image

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.shared.camera_names import camera_names
from lednet_ros.nodes.shared.diagnostics import DiagnosticsPublisher
from lednet_ros.nodes.shared.status import OK, Status

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def make_camera(graph) -> Iterator[Callable[..., Camera]]:
    """Make a camera of a node in this process, which subscribes to its images."""
    nodes: list[Any] = []

    def make(*arguments: str, name: str = '', transport: str = 'raw') -> Camera:
        if not nodes:
            rclpy.init(args=['--ros-args', *arguments],
                       signal_handler_options=SignalHandlerOptions.NO)
            nodes.append(rclpy.create_node('segment'))
        camera = Camera(nodes[0], name, transport)
        camera.open()
        camera.listen(lambda message: None)
        return camera

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.mark.parametrize(('publishes', 'words'), [
    ('/cam/compressed', '/cam/compressed carries sensor_msgs/msg/CompressedImage, and not sensor_'
     'msgs/msg/Image: give image:=/cam image_transport:=compressed'),
    ('/cam/compressed/compressed', 'nobody publishes /cam/compressed, but /cam/compressed/compress'
     'ed is published: give image_transport:=compressed'),
], ids=['the packed topic', 'only the packed one'])
def test_a_compressed_topic_taken_for_a_raw_one_is_named(
    graph, make_camera, publishes, words
) -> None:
    """The first question of each camera's users."""
    camera = make_camera('-r', 'image:=/cam/compressed')
    assert camera.endpoint_problem() == ''
    graph.publisher(publishes, CompressedImage)
    graph.wait_until(lambda: camera.endpoint_problem() == words, WITHIN_S, 'not named')


def test_a_camera_s_qos_that_cannot_match_is_named(graph, make_camera) -> None:
    camera = make_camera('-p', 'qos_overrides./image.subscription.reliability:=reliable')
    graph.publisher('image', Image, BEST_EFFORT)
    graph.wait_until(lambda: camera.endpoint_problem() == (
        '/test publishes /image with a QoS that cannot match (best effort is published, '
        'reliable asked for): change qos_overrides./image.subscription'), WITHIN_S,
        camera.endpoint_problem)


def test_a_listener_s_qos_that_cannot_match_is_named(graph, make_camera) -> None:
    camera = make_camera()
    graph.subscribe('/segment/label', Image, LATCHED)
    graph.wait_until(lambda: camera.endpoint_problem().startswith(
        '/test listens to /segment/label with a QoS that cannot match (volatile is '
        'published, transient local asked for): change its QoS, or qos_overrides./segment/label.'
        'publisher'), WITHIN_S, camera.endpoint_problem)


def test_two_cameras_may_change_places(graph, make_camera) -> None:
    """A name that is remapped already and remapped again would be back where it was."""
    swapped = [word for rule in (
        'front/image:=/rear/image', 'rear/image:=/front/image', 'front/camera_info:=/rear/info',
        '/rear/info:=/nobody', '~/front/label:=/labels', '/labels:=/nobody')
        for word in ('-r', rule)]
    front, rear = (make_camera(*swapped, name=name) for name in ('front', 'rear'))
    front.listen_to_info()
    assert front._image.topic_name == front.topic == '/rear/image'
    assert rear._image.topic_name == rear.topic == '/front/image'
    assert front._info.topic_name == front.info_topic == '/rear/info'
    assert front._outputs._publishers['label'].topic_name == '/labels'
    graph.publisher('/rear/image', CompressedImage)
    graph.wait_until(lambda: '/rear/image carries' in front.endpoint_problem(), WITHIN_S, (
        front.endpoint_problem))
    assert rear.endpoint_problem() == ''


def test_a_packed_topic_s_own_name_may_be_remapped(graph, make_camera) -> None:
    camera = make_camera('-r', 'image/compressed:=/cam/jpeg', transport='compressed')
    assert camera._image.topic_name == camera.topic == '/cam/jpeg'


def test_in_a_namespace_reports_say_so(graph, make_camera) -> None:
    camera = make_camera('-r', '__ns:=/front')
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    publisher = DiagnosticsPublisher(camera._node)
    graph.wait_until(lambda: publisher._publisher.get_subscription_count() > 0, WITHIN_S, 'alone')
    publisher.publish({'engine': Status(OK, 'fine', {})})
    assert [status.name for status in inbox.wait()[0].status] == ['front/segment: engine']


class Log(list[str]):
    """Stands for a logger."""

    def error(self, text: str) -> None:
        self.append(text)

    warning = error


@pytest.fixture
def camera() -> Camera:
    """A camera of a node whose clock shows 100 s."""
    log = Log()
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=100 * 10**9))
    node: Any = SimpleNamespace(resolve_topic_name=lambda name: f'/{name}', log=log,
                                get_logger=lambda: log, get_clock=lambda: clock)
    return Camera(node, '', 'raw')


def test_bad_images_are_named_and_logged_once_and_the_next_good_one_passes(camera) -> None:
    depth = make_image()
    depth.encoding = '32FC1'
    short = make_image()
    short.data = short.data[:100]
    for bad, words in ((Image(), 'size 0x0'), (short, 'data has 100 bytes'),
                       (depth, "encoding '32FC1'")):
        assert camera.receive(bad, 0.0) is None
        assert words in camera.stats.counts.last_rejection
    assert camera.stats.counts.rejected == 3
    said = [line for line in camera._node.log if 'rejected an image on /image' in line]
    assert len(said) == 1
    good = camera.receive(make_image(stamp=(99, 500_000_000)), 0.0)
    assert good is not None
    assert good.header.stamp.sec == 99
    assert good.transport_ms == 500.0
    assert good.received_s <= good.decoded_s
    assert (camera.stats.counts.size, camera.stats.counts.encoding) == ('64x48', 'bgr8')


def test_an_image_whose_stamp_tells_no_age_passes_without_one(camera) -> None:
    good = camera.receive(make_image(stamp=(2000, 0)), 0.0)
    assert good is not None
    assert good.transport_ms is None
    assert camera.stats.counts.odd_stamps == 1
    assert 'in the future' in camera._node.log[0]


@pytest.mark.parametrize(('names', 'words'), [
    (['front', 'left eye'], "camera 'left eye' is no ROS name"),
    (['front', 'front'], "camera 'front' is named twice"),
])
def test_names_that_cannot_be_are_refused(names, words) -> None:
    with pytest.raises(ConfigError, match=words):
        camera_names(names)


def test_one_camera_needs_no_name() -> None:
    assert camera_names(['']) == camera_names([]) == ['']
    assert camera_names(['front', 'rear/left']) == ['front', 'rear/left']
