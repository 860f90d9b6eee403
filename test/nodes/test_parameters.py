# SPDX-License-Identifier: Apache-2.0
"""Parameters as any client sees them, by plain calls of a node's services' own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes import image_source_node
from lednet_ros.nodes.cloud import cloud_node
from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.segment import segment_node
from lednet_ros.nodes.shared.parameters import Param, Parameters, Rule, tell_unread, value_of
from lednet_ros.nodes.shared.ros_start import make_node

TABLES = {'segment': segment_node.PARAMETERS, 'ground': ground_node.PARAMETERS,
          'semantic_cloud': cloud_node.PARAMETERS, 'image_source': image_source_node.PARAMETERS}


@contextmanager
def started(name: str, *given: str) -> Iterator[Node]:
    """Make a node with the parameters of a table, given as on a command line: NAME:=VALUE."""
    words = [word for parameter in given for word in ('-p', parameter)]
    context = rclpy.Context()
    rclpy.init(args=['--ros-args', *words], context=context)
    node = None
    try:
        node = make_node(lambda: rclpy.create_node(
            name, context=context, start_parameter_services=False))
        Parameters(node, TABLES[name])
        yield node
    finally:
        if node is not None:
            node.destroy_node()
        context.try_shutdown()


@pytest.fixture(params=TABLES)
def node(request) -> Iterator[Node]:
    with started(request.param) as node:
        yield node


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
    Parameters(again, rows)
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


@pytest.mark.parametrize('name', ['segment', 'ground', 'semantic_cloud'])
def test_an_empty_list_of_cameras_is_one_camera(name) -> None:
    """ROS takes an empty list for no value at all, and would raise over asking for it."""
    with started(name, 'cameras:=[]') as node:
        assert node.get_parameter('cameras').value == ['']


def test_no_parameter_can_be_deleted(node) -> None:
    for row in TABLES[node.get_name()]:
        refused = node.set_parameters([Parameter(row.name, value=None)])[0]
        assert not refused.successful
        assert value_of(node, row) == row.default


@pytest.mark.parametrize('given', ['max_range:=[]', 'points.stride:=[]', 'robot_frame:=[]'])
def test_nothing_else_may_be_without_a_value(given) -> None:
    with pytest.raises(ConfigError, match=rf'{given[:-4]} is without a value: give one'), (
            started('ground', given)):
        pass


@pytest.mark.parametrize(('name', 'given', 'words'), [
    ('ground', 'robot_frame:=""', 'robot_frame is empty: give a frame'),
    ('ground', 'robot_frame:=/base_link', "robot_frame is '/base_link': a frame begins with no"),
    ('ground', 'grid.frame:=/odom', "grid.frame is '/odom': a frame begins"),
    ('semantic_cloud', 'output_frame:=""', 'output_frame is empty: give a frame'),
    ('semantic_cloud', 'fixed_frame:=/odom', "fixed_frame is '/odom': a frame begins"),
    ('image_source', 'frame_id:=/eye', "frame_id is '/eye': a frame begins"),
    ('ground', 'use_sim_time:=1', "'use_sim_time' to '1' of type 'INTEGER', expecting type"),
])
def test_a_value_that_cannot_be_is_refused_as_the_node_starts(name, given, words) -> None:
    with pytest.raises(ConfigError) as caught, started(name, given):
        pass
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_name_that_no_parameter_has_is_told() -> None:
    """ROS takes it without a word, and the node goes on with its default."""
    said: list[str] = []
    with started('ground', 'max_rnage:=3.0', 'backend:=torch', 'grid.size:=8.0') as node:
        node.get_logger = lambda: SimpleNamespace(  # type: ignore[method-assign]
            warning=said.append, info=said.append)
        tell_unread(node)
    assert said == ['max_rnage is no parameter of this node: did you mean max_range?',
                    'backend: no parameter of this node: left alone']


def test_parameters_that_have_to_fit_together_are_judged_together() -> None:
    """One by one each may be, and all at once only what fits."""
    rows = [Param('low', 1.0, 'The lower.', live=True),
            Param('high', 2.0, 'The higher.', live=True)]

    def check(low: float, high: float) -> None:
        if low >= high:
            raise ConfigError(f'low is {low:g} and high {high:g}: give low < high')

    with started('segment', 'low:=5.0') as node:
        parameters = Parameters(node, rows)
        parameters.add([], [Rule(('low', 'high'), check)])  # as it is started they may be

        def change(**values: float) -> str:
            result = node.set_parameters_atomically([
                Parameter(name, value=value) for name, value in values.items()])
            return str(result.reason)

        assert change(high=4.0) == 'low is 5 and high 4: give low < high'
        assert change(min_confidence=0.5) == '', 'what has no part in it'
        assert change(high=6.0) == ''
        assert change(low=6.0) == 'low is 6 and high 6: give low < high'
        assert change(low=8.0, high=9.0) == ''
        assert [parameters(name) for name in ('low', 'high')] == [8.0, 9.0]
        assert not node.set_parameters([Parameter('low', value=10)])[0].successful
        assert node.describe_parameter('low').type == ParameterType.PARAMETER_DOUBLE
