# SPDX-License-Identifier: Apache-2.0
"""
What the cloud node knows of itself, in words for /diagnostics: functions of snapshots.

A new value is an entry of `figures`, as in the ground node's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lednet_ros.nodes.ground import diagnostics as ground
from lednet_ros.nodes.shared.latency import TOTAL, Quantiles
from lednet_ros.nodes.shared.status import OK, WARN, Status


@dataclass(frozen=True)
class CloudView(ground.GroundView):
    """The node at the moment of a report."""

    is_active: bool = True
    apart_ms: float | None = None  # how far from the last labels given up the nearest depth was
    tolerance_ms: float = 0.0


def view_status(view: CloudView) -> Status:
    """Judge the way from inputs to outputs; the message names the cause."""
    if not view.is_active:
        return Status(WARN if view.problem else OK,
                      f'not configured: {view.problem}' if view.problem else 'inactive',
                      dict(view.counts))
    return ground.view_status(replace(view, problem=view.problem or _apart(view)))


def latency_status(latency: Mapping[str, Quantiles], limit_ms: float) -> Status:
    """Tell how old the labels are when what was made of them is out."""
    status, total = ground.latency_status(latency), latency.get(TOTAL)
    if total and 0 < limit_ms < total.p95:
        return replace(status, level=WARN,
                       message=f'{status.message}, over the limit of {limit_ms:g} ms')
    return status


def _apart(view: CloudView) -> str:
    """Say so when labels have no depth near enough in time."""
    if view.apart_ms is None:
        return ''
    return (f'{view.inputs[-1].topic} and {view.inputs[0].topic} are {view.apart_ms:.0f} ms apart '
            f'at their nearest, and sync_tolerance_ms is {view.tolerance_ms:g}: synchronise the '
            'sensors, or make it larger')
