# SPDX-License-Identifier: Apache-2.0
"""
The console scripts. Each loads its command when it is called, not before.

So a library that is not installed, or a middleware that ends the process as rclpy is imported, is
one line and no traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from lednet_ros.common.command import command
from lednet_ros.nodes.shared.ros_start import check_middleware


def _script(name: str, module: str, is_node: bool = False) -> Callable[..., int]:
    @command(name)
    def run(argv: Sequence[str] | None = None) -> int:
        if is_node:
            check_middleware()
        code: int = import_module(module).main(argv)
        return code

    return run


segment_node = _script('segment_node', 'lednet_ros.nodes.segment.segment_node', is_node=True)
ground_node = _script('ground_node', 'lednet_ros.nodes.ground.ground_node', is_node=True)
semantic_cloud_node = _script(
    'semantic_cloud_node', 'lednet_ros.nodes.cloud.cloud_node', is_node=True)
image_source_node = _script(
    'image_source_node', 'lednet_ros.nodes.image_source_node', is_node=True)
lednet_demo = _script('lednet_demo', 'lednet_ros.demo.demo')
lednet_benchmark = _script('lednet_benchmark', 'lednet_ros.cli.benchmark')
lednet_segment = _script('lednet_segment', 'lednet_ros.cli.segment')
lednet_top = _script('lednet_top', 'lednet_ros.monitor.top')
lednet_latency_report = _script('lednet_latency_report', 'lednet_ros.monitor.latency_report')
lednet_train = _script('lednet_train', 'lednet_ros.cli.train')
lednet_evaluate = _script('lednet_evaluate', 'lednet_ros.cli.evaluate')
lednet_compile = _script('lednet_compile', 'lednet_ros.cli.compile')
lednet_doctor = _script('lednet_doctor', 'lednet_ros.cli.doctor')
lednet_export = _script('lednet_export', 'lednet_ros.cli.export')
lednet_select = _script('lednet_select', 'lednet_ros.cli.select')
lednet_import = _script('lednet_import', 'lednet_ros.cli.import_labels')
