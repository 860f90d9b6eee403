# SPDX-License-Identifier: Apache-2.0
"""
lednet_latency_report: how old labels were, where the time went and what was dropped, drawn.

From a bag that holds /diagnostics and label images, or from the running graph.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import os
import queue
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lednet_ros.bags.files import is_bag, without_rosbags
from lednet_ros.common.atomic_file import require_place, whole_file
from lednet_ros.common.command import command, positive, say
from lednet_ros.common.errors import ConfigError, printable
from lednet_ros.common.figure import make_figure, require_matplotlib
from lednet_ros.common.paths import expanded
from lednet_ros.common.progress_bar import progress_bar
from lednet_ros.monitor.diagnostics_reader import (
    NodeReport,
    node_name,
    read_reports,
    stage_quantiles,
)
from lednet_ros.nodes.segment.diagnostics import CAUSES, OUTCOMES
from lednet_ros.nodes.shared.latency import STAGES, TOTAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = ('#8da0cb', '#e5c494', '#b3b3b3', '#a6d854', '#fc8d62', '#e78ac3', '#ffd92f', '#66c2a5')
_DROPPED_COLORS = ('#fc8d62', '#8da0cb', '#e78ac3', '#b3b3b3')
DIAGNOSTICS = '/diagnostics'
TITLE_WIDTH = 100  # letters, of two lines that may be long
PAGES = ('.html', '.htm')


@dataclass
class Record:
    """What was seen of one segmentation node."""

    node: str
    reports: list[NodeReport] = field(default_factory=list)
    label_ages_ms: list[float] = field(default_factory=list)  # from the stamp to its arrival
    ageless: int = 0  # labels stamped by another clock than that of their arrival
    others: set[str] = field(default_factory=set)  # nodes that reported too
    faults: list[str] = field(default_factory=list)  # what of a bag is left out, a line each

    def take_label(self, stamp: Any, received_ns: int) -> None:
        """Note a label image."""
        age_ms = (received_ns - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e6
        if 0 <= age_ms < 60_000:
            self.label_ages_ms.append(age_ms)
        else:
            self.ageless += 1

    def take_reports(self, array: Any) -> None:
        """Note the node's report in a DiagnosticArray."""
        for report in read_reports(array):
            if report.node == self.node:
                self.reports.append(report)
            else:
                self.others.add(report.node)


def draw(record: Record) -> Figure:
    """Draw the latency's histogram, the stages over time and the frames' outcomes over time."""
    figure = make_figure(10, 10)
    histogram, stages, outcomes = figure.subplots(3)
    last = record.reports[-1]
    title = '\n'.join(textwrap.fill(line, TITLE_WIDTH) for line in (
        f'{record.node}: {last.engine.message}', _words(record)))
    figure.suptitle(title.replace('$', r'\$'))  # else text between two is read as a formula

    histogram.set(title='age of labels where they arrive', xlabel="ms since the image's stamp",
                  ylabel='labels')
    if record.label_ages_ms:
        histogram.hist(record.label_ages_ms, bins=60, color='#fc8d62')
    else:
        histogram.text(0.5, 0.5, f'{record.ageless} label images are stamped by another clock'
                       if record.ageless else 'no label images in this record', ha='center')

    began_s = record.reports[0].stamp_s
    seconds = [report.stamp_s - began_s for report in record.reports]
    medians = {stage: [stage_quantiles(report.latency.values, stage).get('p50', 0.0)
                       for report in record.reports] for stage in STAGES}
    colors = {stage: color for stage, color in zip(STAGES, _COLORS, strict=True)
              if any(medians[stage])}  # segment_node does not project, the others do no inference
    if colors:
        stages.stackplot(seconds, [medians[stage] for stage in colors], labels=list(colors),
                         colors=list(colors.values()))
    totals = [stage_quantiles(report.latency.values, TOTAL) for report in record.reports]
    for quantile, style in (('p50', 'k-'), ('p95', 'k:')):
        stages.plot(seconds, [q.get(quantile) or float('nan') for q in totals], style,
                    label=f'total {quantile}', linewidth=1)
    stages.set(title='stages, medians of the last 10 s', xlabel='s', ylabel='ms')
    stages.legend(loc='upper left', ncols=5, fontsize='small')

    causes = _causes(record.reports)
    # Without causes, none was dropped, or a node does not tell why.
    dropped = {f'dropped_{cause}': f'dropped: {_name(cause)}' for cause in causes} or {
        'dropped': 'dropped'}
    lines = [('segmented', 'segmented', '#66c2a5'), ('rejected', 'rejected', '#d53e4f'),
             *((*item, color) for item, color in zip(
                 dropped.items(), _DROPPED_COLORS, strict=False))]
    for name, label, color in lines:
        outcomes.step(seconds, _rates(record.reports, name, seconds), where='pre', label=label,
                      color=color)
    outcomes.set(title='frames of all cameras', xlabel='s', ylabel='a second')
    outcomes.legend(loc='upper left', ncols=3, fontsize='small')
    for axes in (stages, outcomes):
        axes.set_ylim(0.0, 1.3 * axes.get_ylim()[1])  # room for the legend
    return figure


def _words(record: Record) -> str:
    parts = []
    if record.label_ages_ms:
        ages = sorted(record.label_ages_ms)
        quantiles = ', '.join(f'{name} {ages[min(len(ages) - 1, int(q * len(ages)))]:.0f} ms'
                              for name, q in (('p50', 0.5), ('p95', 0.95), ('p99', 0.99)))
        parts.append(f'{len(ages)} labels, {quantiles}')
    if record.ageless:
        parts.append(f'{record.ageless} labels stamped by another clock')
    counts = {name: f'{_sum(record.reports, name):.0f} {name}' for name in OUTCOMES}
    causes = [f'{count} {_name(c)}' for c, count in _causes(record.reports).items()]
    if causes:
        counts['dropped'] += f' ({", ".join(causes)})'
    return '; '.join([*parts, *counts.values()])


def _name(cause: str) -> str:
    return cause.replace('_', ' ')


def _causes(reports: Sequence[NodeReport]) -> dict[str, int]:
    """Return how many frames were dropped, by cause, where they were."""
    counts = {cause: round(_sum(reports, f'dropped_{cause}')) for cause in CAUSES}
    return {cause: count for cause, count in counts.items() if count}


def _sum(reports: Sequence[NodeReport], name: str) -> float:
    return sum(_steps(reports, name))


def _steps(reports: Sequence[NodeReport], name: str) -> list[float]:
    """Return how much a count grew between reports; a node begun anew counts from zero."""
    counts = [sum(camera.number(name) or 0.0 for camera in report.cameras.values())
              for report in reports]
    return [now - before if now >= before else now for before, now in pairwise(counts)]


def _rates(reports: Sequence[NodeReport], name: str, seconds: Sequence[float]) -> list[float]:
    return [0.0, *(step / (now_s - before_s) if now_s > before_s else 0.0 for step, (
        before_s, now_s) in zip(_steps(reports, name), pairwise(seconds), strict=True))]


def read_bag(path: Path, node: str) -> Record:
    """
    Read what a bag holds of a node. Raise ConfigError naming the cause.

    A label's age is at the recorder. What is damaged is left out, and named in the record.
    """
    if not os.path.exists(path):
        raise ConfigError(f"{path}: does not exist: give a bag's directory, or its file")
    if not is_bag(path):
        raise ConfigError(f"{path}: is no bag: give a rosbag2's directory, or its file")
    try:
        from lednet_ros.bags.bag import BadMessage, Bag
    except ImportError as error:
        raise without_rosbags(path, error) from error
    record = Record(node)
    damaged: Counter[str] = Counter()
    with Bag(path) as bag, progress_bar(transient=True) as progress:
        wanted = [c for c in bag.connections if (c.topic, c.msgtype) == (
            DIAGNOSTICS, 'diagnostic_msgs/msg/DiagnosticArray') or (
            c.topic.endswith('/label') and c.topic.startswith(f'/{node}/')
            and c.msgtype == 'sensor_msgs/msg/Image')]
        task = progress.add_task(path.name, total=sum(c.msgcount for c in wanted))
        for connection, received_ns, data in bag.messages(wanted):
            progress.advance(task)
            try:
                message = bag.deserialize(connection, data)
            except BadMessage:
                damaged[connection.topic] += 1
                continue
            if connection.topic == DIAGNOSTICS:
                record.take_reports(message)
            else:
                record.take_label(message.header.stamp, received_ns)
        record.faults = [f'{path}: {loss}' for loss in bag.losses()]
    record.faults += [f'{path}: {n} damaged messages on {topic}' for topic, n in damaged.items()]
    return record


def listen(seconds: float, node: str) -> Record:
    """Listen to the running graph for so long; its labels too, so the node is not idle."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    from lednet_ros.monitor.graph_listener import listening
    record = Record(node)
    with listening('lednet_latency_report') as listener, progress_bar(
            transient=True) as progress:
        arrivals = listener.arrivals
        listener.listen_to(DIAGNOSTICS, DiagnosticArray)
        for camera in _cameras(arrivals, node, within_s=10.0):
            for topic in label_topics(node, camera):
                listener.listen_to(topic, Image)
        task = progress.add_task('listening', total=seconds)
        for elapsed_s, arrival in _until(arrivals, seconds):
            progress.update(task, completed=elapsed_s)
            if arrival is None:
                continue
            if arrival.topic != DIAGNOSTICS:
                record.take_label(arrival.message.header.stamp, arrival.received_ns)
                continue
            record.take_reports(arrival.message)
    return record


def label_topics(node: str, camera: str) -> list[str]:
    """Return where a camera's labels may be: one without a name is reported as 'image'."""
    return [f'/{node}/{camera}/label', *([f'/{node}/label'] if camera == 'image' else [])]


def _cameras(arrivals: queue.Queue[Any], node: str, within_s: float) -> list[str]:
    """Wait for a report of the node; give its cameras."""
    others = set()
    for _, arrival in _until(arrivals, within_s):
        for report in read_reports(arrival.message) if arrival else ():
            if report.node == node:
                return list(report.cameras)
            others.add(report.node)
    raise ConfigError(f'no node {node!r} reported on {DIAGNOSTICS} within {within_s:g} s'
                      f'{_but(others)}: start it, give its name by --node, or set ROS_DOMAIN_ID '
                      'as it has it')


def _but(others: set[str]) -> str:
    return f', but {", ".join(sorted(others))} did' if others else ''


def _until(arrivals: queue.Queue[Any], seconds: float) -> Iterator[tuple[float, Any]]:
    """Yield (seconds gone, arrival or None) until time is over or Ctrl-C."""
    began_s = time.monotonic()
    try:
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            try:
                yield elapsed_s, arrivals.get(timeout=0.2)
            except queue.Empty:
                yield elapsed_s, None
    except KeyboardInterrupt:
        return  # what came until now is a report too


def write(record: Record, path: Path) -> None:
    """Write a PNG, or an HTML page that holds it, by the path's ending. Raise ConfigError."""
    if len(record.reports) < 2:
        raise ConfigError(f'{len(record.reports)} reports of node {record.node!r} on '
                          f'{DIAGNOSTICS}{_but(record.others)}, at least 2 are needed: record '
                          "longer, or give the node's name by --node")
    figure = draw(record)
    png = io.BytesIO()
    figure.savefig(png, format='png', dpi=110)
    content = png.getvalue()
    if path.suffix.lower() in PAGES:
        content = (
            f'<!DOCTYPE html><meta charset="utf-8"><title>{html.escape(record.node)}: latency'
            f'</title><img alt="{html.escape(_words(record))}" src="data:image/png;base64,'
            f'{base64.b64encode(content).decode()}">\n').encode()
    try:
        with whole_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written: {error.strerror}: choose another '
                          '--output') from error


@command('lednet_latency_report')
def main(argv: Sequence[str] | None = None) -> int:
    """Draw the report: 0, or 1 also where a part of the bag could not be read."""
    parser = argparse.ArgumentParser(
        prog='lednet_latency_report', description=(__doc__ or '').partition(': ')[2])
    parser.add_argument('bag', nargs='?', type=expanded,
                        help='with /diagnostics and label images, a directory or a file (else: '
                        'listen)')
    parser.add_argument('--seconds', type=positive, default=60.0,
                        help='how long to listen (default: %(default)s)')
    parser.add_argument('--node', type=node_name, default='segment',
                        help='with its namespace, as in bot/segment (default: %(default)s)')
    parser.add_argument('--output', type=expanded, default=Path('latency_report.png'),
                        help='.png or .html (default: %(default)s)')
    options = parser.parse_args(argv)
    if options.output.suffix.lower() not in ('.png', *PAGES):
        raise ConfigError(f'{options.output}: is no .png and no .html: give --output one of them')
    require_place(options.output)
    require_matplotlib()
    record = (read_bag(options.bag, options.node) if options.bag
              else listen(options.seconds, options.node))
    for fault in record.faults:
        say('lednet_latency_report', f'{fault}: left out')
    write(record, options.output)
    print(f'{printable(str(options.output))}: {_words(record)}')
    return 1 if record.faults else 0


if __name__ == '__main__':
    sys.exit(main())
