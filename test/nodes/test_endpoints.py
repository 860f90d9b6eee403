# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from lednet_ros.nodes.shared.endpoints import (
    type_name,
    unmatched_listener,
    unmatched_publisher,
    wrong_publisher,
    wrong_subscriber,
)

RAW, PACKED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


RELIABLE = QoSProfile(depth=1)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def endpoint(type_: str, qos: QoSProfile = RELIABLE) -> SimpleNamespace:
    return SimpleNamespace(
        topic_type=type_, node_namespace='/', node_name='driver', qos_profile=qos)


def test_types_are_called_as_the_graph_calls_them() -> None:
    assert [type_name(Image), type_name(CompressedImage)] == [RAW, PACKED]


@pytest.mark.parametrize(('topic', 'wanted', 'there', 'words'), [
    ('/cam/image_raw/compressed', RAW, PACKED,
     'carries sensor_msgs/msg/CompressedImage, and not sensor_msgs/msg/Image: give '
     'image:=/cam/image_raw image_transport:=compressed'),
    ('/cam/jpeg', RAW, PACKED, 'have it published on /cam/jpeg/compressed, and give '
     'image:=/cam/jpeg image_transport:=compressed'),
    ('/cam/compressed', PACKED, RAW, 'give image:=/cam/compressed image_transport:=raw'),
    ('/points', RAW, 'sensor_msgs/msg/PointCloud2', 'carries sensor_msgs/msg/PointCloud2, and not '
     'sensor_msgs/msg/Image: give image:= a topic of that type')])
def test_another_type_is_named_with_what_to_give_instead(topic, wanted, there, words) -> None:
    said = wrong_publisher(topic, wanted, 'image', [endpoint(wanted), endpoint(there)])
    assert said.startswith(f'{topic} carries ')
    assert words in said
    assert wrong_publisher(topic, wanted, 'image', [endpoint(wanted)]) == ''


def test_a_listener_of_another_type_is_named() -> None:
    said = wrong_subscriber('/segment/label', RAW, [endpoint(RAW), endpoint(PACKED)])
    assert said == (f'/driver listens to /segment/label as {PACKED}, but it carries {RAW}: change '
                    'its type or its topic')
    assert wrong_subscriber('/segment/label', RAW, [endpoint(RAW)]) == ''


def test_a_publisher_with_a_qos_that_cannot_match_is_named() -> None:
    said = unmatched_publisher('/label', RELIABLE, [endpoint(RAW), endpoint(RAW, BEST_EFFORT)])
    assert said == ('/driver publishes /label with a QoS that cannot match (best effort is '
                    'published, reliable asked for): change qos_overrides./label.subscription')
    fits = [endpoint(RAW), endpoint(RAW, LATCHED)]
    assert unmatched_publisher('/label', BEST_EFFORT, fits) == ''


@pytest.mark.parametrize(('listener', 'words'), [
    (endpoint(RAW, LATCHED), '/driver listens to /ground/grid with a QoS that cannot match '
     '(volatile is published, transient local asked for): change its QoS, or qos_overrides.'
     '/ground/grid.publisher'),
    (endpoint(PACKED), f'/driver listens to /ground/grid as {PACKED}, but it carries {RAW}'),
    (endpoint(RAW, BEST_EFFORT), '')], ids=['latched', 'type', 'fits'])
def test_a_listener_that_hears_nothing_is_named(listener, words) -> None:
    """To the output it is nobody: a map server's way to listen to a grid, for one."""
    node = SimpleNamespace(get_subscriptions_info_by_topic=lambda name: [listener],
                           resolve_topic_name=lambda name: f'/ground/{name[2:]}')
    said = unmatched_listener(
        node, {'~/grid': Image}, {'~/grid': SimpleNamespace(qos_profile=RELIABLE)})
    assert said.startswith(words)
    assert bool(said) == bool(words)
