# SPDX-License-Identifier: Apache-2.0
"""Who else is on a node's topics, with a type or a QoS that cannot match, in words."""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def type_name(type_: type) -> str:
    """Return a message class's name as the graph has it: 'sensor_msgs/msg/Image'."""
    package, _, rest = type_.__module__.partition('.')
    return f'{package}/{rest.split(".")[0]}/{type_.__name__}'


def wrong_publisher(
    topic: str, wanted: str, argument: str, publishers: Iterable[TopicEndpointInfo]
) -> str:
    """
    Name a publisher of another type on an input, and what to give instead; '' if none is.

    `argument` is how the input is called in the launch file and in remaps.
    """
    for other in publishers:
        if other.topic_type == wanted:
            continue
        said = f'{topic} carries {other.topic_type}, and not {wanted}'
        if (wanted, other.topic_type) == (IMAGE, COMPRESSED):
            base = topic.removesuffix('/compressed')
            if base != topic:
                return f'{said}: give {argument}:={base} image_transport:=compressed'
            return (f'{said}: have it published on {topic}/compressed, and give '
                    f'{argument}:={topic} image_transport:=compressed')
        if (wanted, other.topic_type) == (COMPRESSED, IMAGE):
            base = topic.removesuffix('/compressed')
            return f'{said}: give {argument}:={topic} image_transport:=raw' + (
                f', or a driver that publishes JPEGs there for {argument}:={base}')
        return f'{said}: give {argument}:= a topic of that type'
    return ''


def wrong_subscriber(
    topic: str, ours: str, subscribers: Iterable[TopicEndpointInfo]
) -> str:
    """Name a subscriber that takes an output for another type; '' if none does."""
    for other in subscribers:
        if other.topic_type != ours:
            return (f'{name_of(other)} listens to {topic} as {other.topic_type}, but it carries '
                    f'{ours}: change its type or its topic')
    return ''


def qos_mismatch(offered: QoSProfile, asked: QoSProfile) -> str:
    """Judge by the policies people set; rclpy logs the rest (deadline, liveliness)."""
    if (offered.reliability == ReliabilityPolicy.BEST_EFFORT
            and asked.reliability == ReliabilityPolicy.RELIABLE):
        return 'best effort is published, reliable asked for'
    if (offered.durability == DurabilityPolicy.VOLATILE
            and asked.durability == DurabilityPolicy.TRANSIENT_LOCAL):
        return 'volatile is published, transient local asked for'
    return ''


def name_of(endpoint: TopicEndpointInfo) -> str:
    """Return an endpoint's node with its namespace: '/front/camera'."""
    return f'{endpoint.node_namespace}/{endpoint.node_name}'.replace('//', '/')
