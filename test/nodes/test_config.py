# SPDX-License-Identifier: Apache-2.0
"""config/ says what the code says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.segment.segment_node import PARAMETERS
from lednet_ros.nodes.shared.dds_profile import config_file
from lednet_ros.nodes.shared.parameters import Param

ROWS = [pytest.param(file, row, id=f'{file} {row.name}')
        for file, rows in (('segment.yaml', PARAMETERS), ('ground.yaml', ground_node.PARAMETERS))
        for row in rows]


def parameters_of(name: str, nodes: str = '/**') -> dict[str, Any]:
    """Read a parameter file; nested names joined by dots."""
    content = yaml.safe_load(config_file(name).read_text(encoding='utf-8'))
    assert list(content) == [nodes]

    def flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
        leaves = {}
        for key, value in tree.items():
            leaves.update(flat(value, f'{prefix}{key}.') if isinstance(value, dict)
                          else {prefix + key: value})
        return leaves

    return flat(content[nodes]['ros__parameters'])


def limits(row: Param) -> str:
    """Give the words that a comment ends with."""
    words = [f'{row.between[0]:g} to {row.between[1]:g}'] if row.between else []
    words += ['live'] if row.live else []
    text = f': {", ".join(row.choices)}' if row.choices else ''
    return text + (f' ({"; ".join(words)})' if words else '')


@pytest.mark.parametrize(('file', 'nodes', 'rows'), [
    ('segment.yaml', '/**', PARAMETERS), ('ground.yaml', '/**/ground', ground_node.PARAMETERS)])
def test_a_template_holds_each_parameter_with_its_default(file, nodes, rows) -> None:
    expected = {row.name: row.default for row in rows}
    found = parameters_of(file, nodes)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()}  # 1 is no float to ROS
    assert list(found) == list(expected)


@pytest.mark.parametrize(('file', 'row'), ROWS)
def test_a_template_describes_each_parameter(file: str, row: Param) -> None:
    text = config_file(file).read_text(encoding='utf-8')
    lines = [line.strip() for line in text.splitlines()]
    assert f'# {row.description}{limits(row)}' in lines
    assert re.search(rf'^ *(# )?{row.name.rsplit(".", 1)[-1]}:', text, re.MULTILINE)


def test_demo_yaml_sets_only_what_exists() -> None:
    known = {row.name for row in PARAMETERS}
    assert parameters_of('demo.yaml').keys() <= known


def test_segment_rviz_shows_the_topics_that_exist() -> None:
    config = yaml.safe_load(config_file('segment.rviz').read_text(encoding='utf-8'))
    topics = [display['Topic']['Value'] for display in config['Visualization Manager']['Displays']]
    assert topics == ['/image', '/segment/overlay', '/segment/label', '/segment/confidence',
                      '/ground/grid', '/ground/points', '/ground/free_space']
