# SPDX-License-Identifier: Apache-2.0
"""
A topic's QoS as users change it: qos_overrides, judged when a node starts or is configured.

Such as `qos_overrides./image.subscription.reliability`; a wrong one is not to be found out when
the first listener comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from lednet_ros.common.errors import ConfigError, first_line

OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
               QoSPolicyKind.DURABILITY)
PREFIX = 'qos_overrides'
IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Of all that comes with a camera's image, unless users change it: only the newest counts."""


def subscription_qos(node: Node, type_: type, topic: str, default: QoSProfile) -> QoSProfile:
    """
    Return the QoS for a subscription, without making one. Raise ConfigError.

    One made and undone at once, while others discover this node, can stay for ever in what they
    take for its subscriptions: Fast DDS loses that it is gone.
    """
    found: list[QoSProfile] = []

    def refuse(qos: QoSProfile) -> SetParametersResult:
        found.append(qos)
        return SetParametersResult(successful=False, reason='it was to be read only')

    # By the name as it was asked for: one that is remapped already would be once more.
    with _named(node, topic, 'subscription'):
        with suppress(InvalidQosOverridesError):
            node.create_subscription(
                type_, topic, lambda message: None, copy(default),  # rclpy changes it
                qos_overriding_options=QoSOverridingOptions(OVERRIDABLE, callback=refuse))
        [qos] = found
        _judge(qos)
    return qos


def make_publisher(
    node: Node, type_: type, topic: str, default: QoSProfile, **more: Any
) -> Publisher:
    """Make a publisher whose QoS users may change. Raise ConfigError."""
    def judge(qos: QoSProfile) -> SetParametersResult:
        _judge(qos)
        return SetParametersResult(successful=True)

    with _named(node, topic, 'publisher'):
        return node.create_publisher(
            type_, topic, copy(default), qos_overriding_options=QoSOverridingOptions(
                OVERRIDABLE, callback=judge), **more)


def unread_overrides(node: Node) -> str:
    """Return a line that names the overrides which none of the node's topics has read, or ''."""
    names = [name for name in _overrides(node) if not node.has_parameter(name)]
    return (f'{", ".join(names)}: of no topic that this node has now: left alone (a topic goes by '
            'its full name, remapped)' if names else '')


def overrides_of(node: Node) -> dict[str, Parameter]:
    """Return the parameters that a node was started with, whether it declares them or not."""
    # rclpy gives no other way to those that nobody has declared.
    overrides: dict[str, Parameter] = getattr(node, '_parameter_overrides', {})
    return overrides


def is_override(name: str) -> bool:
    """Whether a parameter is one of a topic's QoS."""
    return name.partition('.')[0] == PREFIX


def _overrides(node: Node) -> list[str]:
    return [name for name in overrides_of(node) if is_override(name)]


@contextmanager
def _named(node: Node, asked: str, end: str) -> Iterator[None]:
    """Make an error of rclpy's one line that names the topic."""
    try:
        topic = node.resolve_topic_name(asked)
    except RuntimeError as error:  # it is too long
        raise ConfigError(f'{asked}: {first_line(error).partition(", at /")[0]}: give another '
                          'name') from error
    policies = [policy.name.lower() for policy in OVERRIDABLE]
    place = f'{PREFIX}.{topic}.{end}'
    for name in _overrides(node):
        is_ours = name in (f'{PREFIX}.{topic}', place) or name.startswith(f'{place}.')
        if is_ours and name not in [f'{place}.{policy}' for policy in policies]:
            raise ConfigError(f'{topic}: {name} is no policy that can be changed: give '
                              f'{place}.<{"|".join(policies)}>')
    try:
        yield
    except (ParameterException, InvalidQosOverridesError, RuntimeError, TypeError,
            ValueError) as error:
        raise ConfigError(f'{topic}: cannot be opened: {first_line(error)}: correct its '
                          f'{PREFIX}') from error


def _judge(qos: QoSProfile) -> None:
    """Raise ValueError over what rclpy leaves to the middleware, or to whoever opens the topic."""
    if not 0 <= qos.depth < 2**31:
        raise ValueError(f'depth is {qos.depth}')
    for policy in (qos.history, qos.reliability, qos.durability):
        if policy.name == 'UNKNOWN':  # a name that can be given, for what is read from the graph
            raise ValueError(f'{type(policy).__name__} is unknown')
