# SPDX-License-Identifier: Apache-2.0
"""What the package logs without ROS is in the ROS log, once, while a node lives."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from lednet_ros.nodes.shared.library_log import LibraryLog

LOG = logging.getLogger('lednet_ros')
MODULE = logging.getLogger('lednet_ros.segmentation.backends.engine_cache')
SEVERITIES = ('debug', 'info', 'warning', 'error', 'fatal')


class Heard:
    """Stands for a ROS logger."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        for name in SEVERITIES:
            setattr(self, name, lambda text, name=name: self.lines.append((name, text)))


@pytest.fixture
def heard() -> Iterator[Heard]:
    before = LOG.level, LOG.propagate
    heard = Heard()
    log = LibraryLog(heard)
    yield heard
    log.close()
    assert (LOG.level, LOG.propagate) == before
    assert log not in LOG.handlers


def test_each_severity_arrives_as_itself(heard) -> None:
    for name in SEVERITIES:
        getattr(MODULE, name)('%s: a road', name)
    assert heard.lines == [(name, f'{name}: a road') for name in SEVERITIES]


def test_nothing_is_said_again_by_a_handler_of_python_s_root(heard) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger().addHandler(handler)
    try:
        MODULE.error('no room')
        logging.getLogger('another').error('none of ours')
    finally:
        logging.getLogger().removeHandler(handler)
    assert heard.lines == [('error', 'no room')]
    assert written.getvalue() == 'none of ours\n'


def test_of_two_nodes_the_newest_says_it(heard) -> None:
    newer = Heard()
    log = LibraryLog(newer)
    MODULE.info('for one')
    log.close()
    MODULE.info('for the other')
    assert (newer.lines, heard.lines) == ([('info', 'for one')], [('info', 'for the other')])


def test_the_older_may_go_first() -> None:
    before = LOG.level, LOG.propagate
    older, newer = LibraryLog(Heard()), LibraryLog(heard := Heard())
    older.close()
    MODULE.debug('still here')
    newer.close()
    assert heard.lines == [('debug', 'still here')]
    assert (LOG.level, LOG.propagate) == before


def test_a_traceback_is_kept_and_a_record_that_cannot_be_formatted_ends_nothing(
    heard, monkeypatch
) -> None:
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    try:
        raise ValueError('no room')
    except ValueError:
        MODULE.debug('building failed', exc_info=True)
    MODULE.info('%d', 'no number')
    [(name, text)] = heard.lines
    assert (name, text.splitlines()[0], text.splitlines()[-1]) == (
        'debug', 'building failed', 'ValueError: no room')


def test_a_node_hands_on_what_its_log_level_lets_through_until_it_is_destroyed(
    graph: Any, capfd
) -> None:
    rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from rclpy.logging import LoggingSeverity, set_logger_level

    from lednet_ros.nodes.segment.segment_node import SegmentNode
    from lednet_ros.nodes.shared.ros_start import init
    init([])
    node = SegmentNode()
    try:
        MODULE.info('building the engine')
        MODULE.debug('unheard')
        set_logger_level('segment', LoggingSeverity.DEBUG)
        MODULE.debug('in detail')
    finally:
        set_logger_level('segment', LoggingSeverity.UNSET)
        node.destroy_node()
        rclpy.try_shutdown()
    assert not any(isinstance(handler, LibraryLog) for handler in LOG.handlers)
    said = capfd.readouterr().err
    assert said.count('[segment]: building the engine') == 1
    assert '[INFO]' in said
    assert 'unheard' not in said
    assert said.count('[segment]: in detail') == 1
