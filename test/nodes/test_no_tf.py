# SPDX-License-Identifier: Apache-2.0
"""Where poses come from if tf2_ros is not installed."""

from __future__ import annotations

import pytest

rclpy_node = pytest.importorskip('rclpy.node', reason='needs ROS 2 (rclpy)')

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared import tf


def test_they_come_from_parameters_unless_tf_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf, 'Buffer', None)
    node = object.__new__(rclpy_node.Node)
    assert tf.find_transforms(node, 'auto') is None
    assert tf.find_transforms(node, 'parameters') is None
    with pytest.raises(ConfigError, match='tf2_ros is not installed: install it, or choose'):
        tf.find_transforms(node, 'tf')
