# SPDX-License-Identifier: Apache-2.0
"""
What the cloud node knows of itself, in words for /diagnostics: functions of snapshots.

A new value is an entry of `figures`, as in the ground node's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lednet_ros.nodes.ground import diagnostics as ground
from lednet_ros.nodes.shared.status import OK, WARN, Status


@dataclass(frozen=True)
class CloudView(ground.GroundView):
    """The node at the moment of a report."""

    is_active: bool = True
    not_configured: str = ''       # why; '': it is, or nobody has asked for it
    apart_ms: float | None = None  # how far from the last labels given up the nearest depth was
    tolerance_ms: float = 0.0


def view_status(view: CloudView) -> Status:
    """Judge the way from inputs to outputs; the message names the cause."""
    if not view.is_active:
        # What was wrong with frames is no matter where none is taken.
        why, counts = view.not_configured, dict(view.rounds.counts)
        return (Status(WARN, f'not configured: {why}', counts) if why else
                Status(OK, 'inactive', counts))
    rounds = replace(view.rounds, problem=view.rounds.problem or _apart(view))
    return ground.view_status(replace(view, rounds=rounds))


def _apart(view: CloudView) -> str:
    """Say so when labels have no depth near enough in time."""
    if view.apart_ms is None:
        return ''
    label, other = view.rounds.inputs[0].topic, view.rounds.inputs[-1].topic
    return (f'{other} and {label} are {view.apart_ms:.0f} ms apart at their nearest, and '
            f'sync_tolerance_ms is {view.tolerance_ms:g}: synchronise the sensors, or make it '
            'larger')
