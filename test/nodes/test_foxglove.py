# SPDX-License-Identifier: Apache-2.0
"""config/foxglove_layout.json is a layout of Foxglove's that shows what the nodes publish."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from lednet_ros.nodes.ground import ground_node
from lednet_ros.nodes.segment import outputs
from lednet_ros.nodes.shared.dds_profile import config_file
from lednet_ros.nodes.shared.latency import Quantiles
from lednet_ros.nodes.shared.status import latency_values

LAYOUT: dict[str, Any] = json.loads(config_file('foxglove_layout.json').read_text('utf-8'))
PANELS = LAYOUT['configById']
TOPICS = {f'/segment/{name}' for name in outputs.OUTPUTS} | {
    f'/{node}/{name}' for node in ('ground', 'semantic_cloud') for name in ground_node.OUTPUTS}


def leaves(layout: Any) -> Iterator[str]:
    """Give the panels of a tree of splits, each checked."""
    if isinstance(layout, str):
        yield layout
        return
    assert layout.keys() == {'direction', 'first', 'second', 'splitPercentage'}
    assert layout['direction'] in ('row', 'column')
    assert 0 < layout['splitPercentage'] < 100
    yield from leaves(layout['first'])
    yield from leaves(layout['second'])


def test_each_panel_has_a_place_and_a_configuration() -> None:
    assert LAYOUT.keys() == {
        'configById', 'globalVariables', 'userNodes', 'playbackConfig', 'layout'}
    shown = list(leaves(LAYOUT['layout']))
    assert sorted(shown) == sorted(PANELS)
    assert {panel.partition('!')[0] for panel in shown} == {
        'Image', '3D', 'DiagnosticSummary', 'Plot'}


def test_the_topics_shown_are_ours() -> None:
    image = PANELS['Image!overlay']['imageMode']
    assert {image['imageTopic'], image['calibrationTopic']} <= TOPICS
    in_space = PANELS['3D!ground']['topics']
    assert set(in_space) <= TOPICS
    for topic, settings in in_space.items():
        assert ('colorField' in settings) == topic.endswith('/points')  # rgb, which ours have
    assert PANELS['DiagnosticSummary!nodes']['topicToRender'] == '/diagnostics'


def test_the_latencies_that_are_plotted_are_reported() -> None:
    reported = latency_values({'total': Quantiles(1.0, 2.0, 3.0, 4.0)})
    for path in PANELS['Plot!latency']['paths']:
        found = re.fullmatch(r'/diagnostics\.status\[:\]\{name=="(segment|ground): latency"\}'
                             r'\.values\[:\]\{key=="(\w+)"\}\.value', path['value'])
        assert found
        assert found[2] in reported
