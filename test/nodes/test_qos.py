# SPDX-License-Identifier: Apache-2.0
"""qos_overrides are judged as a node starts, whatever is wrong with them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.ground.ground_node import GroundNode
from lednet_ros.nodes.image_source_node import ImageSourceNode
from lednet_ros.nodes.segment.camera_io import Camera
from lednet_ros.nodes.shared.qos import make_publisher, subscription_qos, unread_overrides

DEFAULT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def make_node(graph) -> Iterator[Callable[..., Node]]:
    """Make a node with parameters that are not declared yet."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    nodes = []

    def make(**overrides: Any) -> Node:
        nodes.append(Node('judge', namespace='/robot', parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in overrides.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def both_ends(node: Node, topic: str) -> list[tuple[str, Callable[[], QoSProfile]]]:
    return [('subscription', lambda: subscription_qos(node, Image, topic, DEFAULT)),
            ('publisher', lambda: make_publisher(node, Image, topic, DEFAULT).qos_profile)]


@pytest.mark.parametrize('end', ['subscription', 'publisher'])
def test_what_is_overridden_holds_and_only_there(make_node, end) -> None:
    place = f'qos_overrides./robot/image.{end}'
    node = make_node(**{f'{place}.history': 'keep_all', f'{place}.depth': 7,
                        f'{place}.reliability': 'reliable',
                        f'{place}.durability': 'transient_local'})
    qos = dict(both_ends(node, 'image'))[end]()
    assert (qos.history, qos.depth, qos.reliability, qos.durability) == (
        HistoryPolicy.KEEP_ALL, 7, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
    assert unread_overrides(node) == ''
    other = dict(both_ends(node, 'other'))[end]()
    assert (other.depth, other.reliability) == (1, ReliabilityPolicy.BEST_EFFORT)
    assert node.get_subscriptions_info_by_topic('/robot/image') == []


@pytest.mark.parametrize('end', ['subscription', 'publisher'])
@pytest.mark.parametrize(('policy', 'value', 'words'), [
    ('reliability', 'rubbish', '`reliability`: `rubbish`'), ('reliability', '', '`reliability`'),
    ('reliability', 'unknown', 'unknown'), ('reliability', 7, "'7' of type 'INTEGER'"),
    ('durability', 'for ever', '`durability`: `for ever`'), ('durability', 'unknown', 'unknown'),
    ('durability', True, "of type 'BOOL'"), ('durability', ['volatile'], "'STRING_ARRAY'"),
    ('history', 'all', '`history`: `all`'), ('history', 1.5, "of type 'DOUBLE'"),
    ('depth', -1, 'depth is -1'), ('depth', 2**31, 'depth is 2147483648'),
    ('depth', '10', "'10' of type 'STRING'"), ('depth', 1.0, "of type 'DOUBLE'"),
    ('depth', True, "of type 'BOOL'"), ('depth', [1], "'INTEGER_ARRAY'"),
    ('deadline', 10, 'is no policy that can be changed: give '),
    ('relibility', 'reliable', 'relibility is no policy'), ('', 'reliable', 'is no policy'),
])
def test_what_makes_no_sense_is_one_line_that_names_the_topic(
    make_node, end, policy, value, words
) -> None:
    node = make_node(**{f'qos_overrides./robot/image.{end}{"." * bool(policy)}{policy}': value})
    open_ = dict(both_ends(node, 'image'))
    with pytest.raises(ConfigError) as caught:
        open_.pop(end)()
    assert str(caught.value).startswith('/robot/image: ')
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)
    [other] = open_.values()
    other()  # it is none of its business


@pytest.mark.parametrize('end', ['subscription', 'publisher'])
def test_a_topic_is_remapped_once_and_a_name_that_cannot_be_is_one_line(graph, end) -> None:
    rclpy.init(args=['--ros-args', '-r', 'image:=/a', '-r', '/a:=/b', '-p',
                     f'qos_overrides./a.{end}.depth:=7'],
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node('judge')
        assert dict(both_ends(node, 'image'))[end]().depth == 7
        with pytest.raises(ConfigError, match=r'topic length should not exceed .*: give another'):
            dict(both_ends(node, 'x' * 300))[end]()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def test_overrides_that_no_topic_reads_are_named(make_node) -> None:
    node = make_node(**{'qos_overrides./image.subscription.depth': 3})
    subscription_qos(node, Image, 'image', DEFAULT)
    assert unread_overrides(node).startswith(
        'qos_overrides./image.subscription.depth: of no topic that this node has now: left alone')


@pytest.fixture
def half_made() -> Iterator[None]:
    """Else nodes that could not be made stay in the graph, for other tests to find."""
    yield
    gc.collect()


@pytest.mark.usefixtures('graph', 'half_made')
@pytest.mark.parametrize(('make', 'end'), [
    *((lambda: GroundNode(), f'/{name}.subscription')
      for name in ('label', 'camera_info', 'confidence')),
    *((lambda: GroundNode(), f'/ground/{name}.publisher')
      for name in ('points', 'grid', 'free_space')),
    *((lambda: ImageSourceNode(threading.Event()), f'/{name}.publisher')
      for name in ('image', 'camera_info')),
    *((lambda: Camera(LifecycleNode('segment'), '', 'raw').open(), f'/{name}.subscription')
      for name in ('image', 'camera_info')),
    *((lambda: Camera(LifecycleNode('segment'), 'a', 'compressed').open(), f'/{name}.subscription')
      for name in ('a/image/compressed', 'a/camera_info')),
    *((lambda: Camera(LifecycleNode('segment'), '', 'raw').open(), f'/segment/{name}.publisher')
      for name in ('label', 'color', 'overlay', 'confidence', 'camera_info')),
])
def test_each_topic_of_each_node_is_judged_as_it_starts(make, end) -> None:
    rclpy.init(args=['--ros-args', '-p', f'qos_overrides.{end}.reliability:=rubbish'],
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        with pytest.raises(ConfigError) as caught:
            make()
    finally:
        rclpy.try_shutdown()
    assert f'{end.rpartition(".")[0]}: cannot be opened: ' in str(caught.value)
