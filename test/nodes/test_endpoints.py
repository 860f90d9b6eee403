# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from sensor_msgs.msg import CompressedImage, Image

from lednet_ros.nodes.shared.endpoints import type_name, wrong_publisher, wrong_subscriber

RAW, PACKED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def endpoint(type_: str) -> SimpleNamespace:
    return SimpleNamespace(topic_type=type_, node_namespace='/', node_name='driver')


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
