# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ros_graph import Graph


@pytest.fixture(scope='session', autouse=True)
def _engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled programs of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def graph(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Graph]:
    """A ROS graph of the test's own (see ros_graph.py); skipped where rclpy is absent."""
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from ros_graph import ENVIRONMENT, Graph

    from lednet_ros.node.middleware import large_image_environment

    # Fast DDS reads the profile once a process, so it is there from the first test on.
    for name, value in {**ENVIRONMENT, **large_image_environment(os.environ)}.items():
        monkeypatch.setenv(name, value)
    graph = Graph(tmp_path_factory.mktemp('graph'))
    yield graph
    graph.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what a failed test's processes wrote."""
    outcome = yield
    report = outcome.get_result()
    graph: Any = getattr(item, 'funcargs', {}).get('graph')
    if report.failed and graph is not None:
        for process in graph.processes:
            report.sections.append((str(process.log), process.describe(lines=200)))
