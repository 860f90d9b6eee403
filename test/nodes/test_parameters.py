# SPDX-License-Identifier: Apache-2.0
"""Parameters as any client sees them, by plain calls of a node's services' own functions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter

from lednet_ros.nodes import image_source_node
from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.segment import segment_node
from lednet_ros.nodes.shared.parameters import declare, value_of

TABLES = {'segment': segment_node.PARAMETERS, 'ground': ground_node.PARAMETERS,
          'image_source': image_source_node.PARAMETERS}


@pytest.fixture(params=TABLES)
def node(request) -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(request.param, context=context, start_parameter_services=False)
    declare(node, TABLES[request.param])
    yield node
    node.destroy_node()
    context.try_shutdown()


def test_each_has_a_value_so_that_asking_for_all_at_once_is_answered(node) -> None:
    """Else `ros2 param dump` writes an empty file, and rqt and Foxglove show nothing."""
    rows = TABLES[node.get_name()]
    found = node.get_parameters([row.name for row in rows])
    assert all(parameter.type_ != Parameter.Type.NOT_SET for parameter in found)
    assert [value_of(node, row) for row in rows] == [row.default for row in rows]


def test_what_is_read_back_is_what_can_be_set_again(node) -> None:
    rows = TABLES[node.get_name()]
    dumped = [node.get_parameter(row.name).to_parameter_msg() for row in rows]
    context = rclpy.Context()
    rclpy.init(context=context)
    again = rclpy.create_node('again', context=context, start_parameter_services=False,
                              parameter_overrides=[Parameter.from_parameter_msg(message)
                                                   for message in dumped])
    declare(again, rows)
    assert [value_of(again, row) for row in rows] == [row.default for row in rows]
    again.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize('tried', ['abc', True, 10**9, 1, [1.0], None], ids=str)
def test_a_number_is_described_as_one_whatever_was_tried(node, tried) -> None:
    floats = [row for row in TABLES[node.get_name()] if isinstance(row.default, float)]
    assert floats
    for row in floats:
        node.set_parameters([Parameter(row.name, value=tried)])
        assert node.describe_parameter(row.name).type == ParameterType.PARAMETER_DOUBLE
        assert isinstance(value_of(node, row), float)
