# SPDX-License-Identifier: Apache-2.0
"""Who else is on a node's topics, with a type or a QoS that cannot match, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rclpy.node import Node
from rclpy.publisher import Publisher
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


def unmatched_publisher(
    topic: str, asked: QoSProfile, publishers: Iterable[TopicEndpointInfo]
) -> str:
    """Name a publisher whose QoS an input that asks for another cannot match; '' if none is."""
    for other in publishers:
        if why := qos_mismatch(other.qos_profile, asked):
            return (f'{name_of(other)} publishes {topic} with a QoS that cannot match ({why}): '
                    f'change qos_overrides.{topic}.subscription')
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


def unmatched_listener(
    node: Node, outputs: Mapping[str, type], publishers: Mapping[str, Publisher]
) -> str:
    """
    Name a subscriber of an output with another type, or a QoS that cannot match; '': none.

    To the output it is nobody. `outputs` are their types by name as they were asked for.
    """
    for name, publisher in publishers.items():
        subscribers = node.get_subscriptions_info_by_topic(name)
        topic = node.resolve_topic_name(name)
        if problem := wrong_subscriber(topic, type_name(outputs[name]), subscribers):
            return problem
        for other in subscribers:
            if why := qos_mismatch(publisher.qos_profile, other.qos_profile):
                return (f'{name_of(other)} listens to {topic} with a QoS that cannot match '
                        f'({why}): change its QoS, or qos_overrides.{topic}.publisher')
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
