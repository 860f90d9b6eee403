# SPDX-License-Identifier: Apache-2.0
"""What segmentation nodes say of themselves on /diagnostics, read back: for people and scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lednet_ros.nodes.segment.diagnostics import CAUSES
from lednet_ros.nodes.shared.latency import Quantiles

LEVELS = ('OK', 'WARN', 'ERROR', 'STALE')
QUANTILES = Quantiles._fields


@dataclass(frozen=True)
class StatusReport:
    """One status: of the engine, the latency or a camera."""

    level: str               # one of LEVELS
    message: str
    values: dict[str, str]

    def number(self, name: str) -> float | None:
        """Return a value as a number; None where it is missing or none."""
        return _number(self.values.get(name, ''))


@dataclass(frozen=True)
class NodeReport:
    """One node's report."""

    node: str
    stamp_s: float           # of the node's clock
    engine: StatusReport
    latency: StatusReport
    cameras: dict[str, StatusReport]  # by name

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def node_name(text: str) -> str:
    """Return a node's name as reports have it: without the slashes that ROS puts around it."""
    return text.strip('/')


def read_reports(array: Any) -> list[NodeReport]:
    """
    Find the segmentation nodes' reports in a diagnostic_msgs/DiagnosticArray, also a bag's.

    Anyone may have sent it: in its texts, � stands for what a terminal would obey.
    """
    statuses = {_printable(status.name): _status(status) for status in array.status}
    stamp_s = array.header.stamp.sec + array.header.stamp.nanosec / 1e9
    reports = []
    for name in statuses:
        node, _, task = name.rpartition(': ')
        latency = statuses.get(f'{node}: latency')
        if task != 'engine' or latency is None:
            continue
        prefix = f'{node}: camera '
        reports.append(NodeReport(node, stamp_s, statuses[name], latency, {
            other.removeprefix(prefix): status for other, status in statuses.items()
            if other.startswith(prefix)}))
    return reports


def stage_quantiles(values: Mapping[str, str], stage: str) -> dict[str, float]:
    """Return a stage's quantiles in ms by name of QUANTILES, those that were measured."""
    quantiles = {}
    for name in QUANTILES:
        ms = _number(values.get(f'{stage}_{name}_ms', ''))
        if ms is not None:
            quantiles[name] = ms
    return quantiles


def dropped_words(values: Mapping[str, str]) -> list[str]:
    """Return why images of a camera were dropped, and how many, for people: '3 dropped: ...'."""
    counts = {cause: _number(values.get(f'dropped_{cause}', '')) for cause in CAUSES}
    return [f'{count:.0f} dropped: {CAUSES[cause]}' for cause, count in counts.items() if count]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _status(status: Any) -> StatusReport:
    level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
    return StatusReport(
        LEVELS[min(level, len(LEVELS) - 1)], _printable(status.message),
        {_printable(value.key): _printable(value.value) for value in status.values})


def _printable(text: str) -> str:
    return ''.join(c if c.isprintable() else '�' for c in text)
