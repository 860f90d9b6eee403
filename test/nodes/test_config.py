# SPDX-License-Identifier: Apache-2.0
"""config/ says what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from lednet_ros.nodes import image_source_node
from lednet_ros.nodes.cloud import parameters as cloud
from lednet_ros.nodes.ground import parameters as ground
from lednet_ros.nodes.segment.parameters import PARAMETERS
from lednet_ros.nodes.shared.dds_profile import config_file
from lednet_ros.nodes.shared.parameters import Param

WRITE_DOCS = Path(__file__).parents[2] / 'tools' / 'write_docs.py'
TABLES = (*PARAMETERS, *cloud.PARAMETERS, *ground.PARAMETERS, *image_source_node.PARAMETERS)

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


@pytest.mark.parametrize(('file', 'nodes', 'rows'), [
    ('segment.yaml', '/**', PARAMETERS), ('ground.yaml', '/**/ground', ground.PARAMETERS),
    ('cloud.yaml', '/**/semantic_cloud', cloud.PARAMETERS)])
def test_a_template_holds_each_parameter_with_its_default(file, nodes, rows) -> None:
    expected = {row.name: row.default for row in rows}
    found = parameters_of(file, nodes)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()}  # 1 is no float to ROS
    assert list(found) == list(expected)


def test_what_is_made_of_the_tables_is_up_to_date() -> None:
    """tools/write_docs.py writes config/*.yaml and docs/parameters.md."""
    done = subprocess.run([sys.executable, str(WRITE_DOCS), '--check'], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('row', TABLES, ids=lambda row: row.name)
def test_a_description_is_a_sentence(row: Param) -> None:
    """It is what `ros2 param describe` says."""
    assert row.description[0].isupper()
    assert row.description.endswith('.')


def test_demo_yaml_sets_only_what_exists() -> None:
    known = {row.name for row in PARAMETERS}
    assert parameters_of('demo.yaml').keys() <= known


def test_segment_rviz_shows_the_topics_that_exist() -> None:
    config = yaml.safe_load(config_file('segment.rviz').read_text(encoding='utf-8'))
    topics = [display['Topic']['Value'] for display in config['Visualization Manager']['Displays']]
    assert topics == ['/image', '/segment/overlay', '/segment/label', '/segment/confidence',
                      '/ground/grid', '/ground/points', '/ground/free_space',
                      '/semantic_cloud/grid', '/semantic_cloud/points',
                      '/semantic_cloud/free_space']


@pytest.mark.parametrize('report', [
    'segment: engine', 'segment: latency', 'segment: camera front', 'ground: view',
    'ground: latency', 'semantic_cloud: view', 'semantic_cloud: latency'])
def test_the_aggregator_sorts_each_report_once_and_misses_only_segment_node(report) -> None:
    """An empty analyzer without num_items: 0 is stale, and makes an error of its group."""
    content = yaml.safe_load(config_file('diagnostics.yaml').read_text(encoding='utf-8'))
    analyzers = content['/**']['ros__parameters']['segmentation']['analyzers'].values()
    [analyzer] = [analyzer for analyzer in analyzers
                  if report.startswith(tuple(analyzer['startswith']))]
    assert report.startswith('segment') or analyzer['num_items'] == 0
