# SPDX-License-Identifier: Apache-2.0
"""lednet_top: the segmentation nodes of this graph, live in a terminal or as lines of JSON."""

from __future__ import annotations

import argparse
import json
import queue
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lednet_ros.common.command import command, positive
from lednet_ros.monitor.diagnostics_reader import (
    QUANTILES,
    NodeReport,
    StatusReport,
    dropped_words,
    node_name,
    read_reports,
    stage_quantiles,
)
from lednet_ros.nodes.segment.diagnostics import OUTCOMES
from lednet_ros.nodes.shared.latency import STAGES, TOTAL

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray

    from lednet_ros.monitor.graph_listener import Arrival

SILENT_S = 5.0  # after which a node's last report is shown as old
WAITING = ('waiting for a segmentation node on /diagnostics: is one running, and '
           'ROS_DOMAIN_ID the same?')
_STYLES = {'OK': 'green', 'WARN': 'yellow', 'ERROR': 'bold red', 'STALE': 'magenta'}
_CAMERA_COLUMNS = (  # of 80 characters together
    ('state', 'state'), ('received_hz', 'in Hz'), ('segmented_hz', 'out Hz'),
    *((outcome, outcome) for outcome in OUTCOMES),
    ('size', 'size'))
_ENGINE_KEYS = ('input', 'checkpoint', 'labels', 'self_check_agreement', 'memory_mb',
                'gpu_used_mb', 'gpu_temperature_c')


def show(report: NodeReport, age_s: float) -> ConsoleRenderable:
    """Draw one node's report."""
    facts = (f'{key} {report.engine.values[key]}' for key in _ENGINE_KEYS
             if report.engine.values.get(key))
    parts: list[ConsoleRenderable] = [
        _line('engine', report.engine), _line('latency', report.latency),
        Text('  '.join(facts), style='dim'), _stages(report.latency), _cameras(report),
        *(line for name, camera in report.cameras.items()
          for line in (_line(name, camera), *(
              Text(f'{"":16}{words}', style='dim') for words in dropped_words(camera.values))))]
    old = f', silent for {age_s:.0f} s' if age_s > SILENT_S else ''
    # Names come from outside: a plain str would be read as rich's markup.
    return Panel(Group(*parts), title=Text(f'{report.node}{old}'),
                 border_style='red' if old else '')


def _line(name: str, status: StatusReport) -> Text:
    level = f'{status.level:6}', _STYLES[status.level]
    return Text.assemble(f'{name:8} ', level, status.message)


def _stages(latency: StatusReport) -> Table:
    table = Table('ms', *QUANTILES, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = 'right'
    for stage in (*STAGES, TOTAL):
        quantiles = stage_quantiles(latency.values, stage)
        if quantiles:
            table.add_row(stage, *(f'{quantiles[q]:.1f}' if q in quantiles else ''
                                   for q in QUANTILES))
    return table


def _cameras(report: NodeReport) -> Table:
    table = Table('camera', *(title for _, title in _CAMERA_COLUMNS), box=None, pad_edge=False)
    for name, camera in report.cameras.items():
        table.add_row(Text(name), *(Text(camera.values.get(key, ''), _STYLES[camera.level])
                                    for key, _ in _CAMERA_COLUMNS))
    return table


class Board:
    """The newest report of each node."""

    def __init__(self, node: str) -> None:
        self._only = node
        self._reports: dict[str, tuple[NodeReport, float]] = {}

    def take(self, array: DiagnosticArray, now_s: float) -> list[NodeReport]:
        """Note what an array holds; give what is new."""
        new = [r for r in read_reports(array) if self._only in ('', r.node)]
        self._reports.update({report.node: (report, now_s) for report in new})
        return new

    def draw(self, now_s: float) -> ConsoleRenderable:
        """Draw all nodes; times are monotonic."""
        if not self._reports:
            return Text(WAITING, style='yellow')
        return Group(*(show(report, now_s - at_s) for report, at_s in self._reports.values()))


@command('lednet_top')
def main(argv: Sequence[str] | None = None) -> int:
    """Watch until Ctrl-C; the process's exit code."""
    parser = argparse.ArgumentParser(
        prog='lednet_top',
        description='Show the segmentation nodes of this graph as they report on /diagnostics.')
    parser.add_argument('--node', type=node_name, default='',
                        help='only this node: segment, bot/segment')
    parser.add_argument('--json', action='store_true', help='one line of JSON a report')
    parser.add_argument('--once', action='store_true',
                        help='end after the first report; exit code 1 if none comes in time')
    parser.add_argument('--within', type=positive, default=10.0, metavar='S',
                        help='how long --once waits (default: %(default)s)')
    options = parser.parse_args(argv)
    try:
        return _watch(options)
    except KeyboardInterrupt:
        return 0


def _watch(options: argparse.Namespace) -> int:
    from diagnostic_msgs.msg import DiagnosticArray

    from lednet_ros.monitor.graph_listener import listening
    board = Board(options.node)
    with listening('lednet_top') as listener:
        arrivals = listener.arrivals
        listener.listen_to('/diagnostics', DiagnosticArray)
        # In a pipe or a file nothing can be drawn over: there it would show nothing till its end.
        if options.json or options.once or not sys.stdout.isatty():
            return _write(board, arrivals, options)
        with Live(board.draw(0.0), auto_refresh=False, screen=True) as live:
            while True:
                with suppress(queue.Empty):
                    board.take(arrivals.get(timeout=0.5).message, time.monotonic())
                live.update(board.draw(time.monotonic()), refresh=True)


def _write(board: Board, arrivals: queue.Queue[Arrival], options: argparse.Namespace) -> int:
    """Write reports as they come, or the first and no more."""
    began_s = time.monotonic()
    waits = not options.once  # and has not said so yet
    while True:
        new: list[NodeReport] = []
        with suppress(queue.Empty):
            new = board.take(arrivals.get(timeout=0.2).message, time.monotonic())
        if options.json:
            for report in new:
                print(json.dumps(report.to_dict()), flush=True)
        elif new:
            Console().print(board.draw(time.monotonic()))
        if options.once and new:
            return 0
        waits = waits and not new
        if waits and time.monotonic() > began_s + SILENT_S:
            waits = False
            print(f'lednet_top: {WAITING}', file=sys.stderr, flush=True)
        if options.once and time.monotonic() > began_s + options.within:
            print('lednet_top: no segmentation node reported on /diagnostics: start one, or set '
                  'ROS_DOMAIN_ID as it has it', file=sys.stderr)
            return 1


if __name__ == '__main__':
    sys.exit(main())
