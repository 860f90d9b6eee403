# SPDX-License-Identifier: Apache-2.0
"""
What the ground node knows of itself, in words for /diagnostics: functions of snapshots.

A new value is an entry of `figures`, which the node fills as it publishes; a count is one of
CameraRounds'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lednet_ros.nodes.shared.latency import TOTAL, Quantiles
from lednet_ros.nodes.shared.status import OK, WARN, RoundsState, Status, latency_values


@dataclass(frozen=True)
class GroundView:
    """The node at the moment of a report."""

    rounds: RoundsState
    wanted: tuple[str, ...]        # outputs that someone listens to
    remark: str                    # what is odd about the last that went out; '': nothing
    figures: Mapping[str, object]  # of camera and pose
    unheard: str = ''              # who listens to an output and cannot be matched; '': nobody


def view_status(view: GroundView) -> Status:
    """Judge the way from inputs to outputs; the message names the cause."""
    values: dict[str, object] = {
        'outputs': ', '.join(view.wanted), **view.rounds.counts, **view.figures}
    if not view.wanted and view.unheard:
        return Status(WARN, view.unheard, values)
    if not view.wanted:
        return Status(OK, 'idle: nobody listens to its outputs', values)
    rounds = view.rounds
    hardware_id = rounds.inputs[0].topic
    problem = _silence(rounds) or rounds.problem or _unjoined(rounds)
    if problem and rounds.cameras > 1 and _goes_on(rounds):
        return Status(WARN, f'not of all cameras: {problem}', values, hardware_id)
    if problem:
        return Status(WARN, f'nothing goes out: {problem}', values, hardware_id)
    if rounds.projected_ago_s is None:
        return Status(OK, 'waiting for the first label image', values, hardware_id)
    remark = view.remark or view.unheard
    return Status(WARN if remark else OK, remark or 'projecting', values, hardware_id)


def latency_status(latency: Mapping[str, Quantiles], limit_ms: float = 0.0) -> Status:
    """Tell how old the labels are when what was made of them is out; 0: there is no limit."""
    values, total = latency_values(latency), latency.get(TOTAL)
    if total is None:
        return Status(OK, 'no latency within the last seconds', values)
    message = f'p95 {total.p95:.0f} ms from stamp to output'
    if 0 < limit_ms < total.p95:
        return Status(WARN, f'{message}, over the limit of {limit_ms:g} ms', values)
    return Status(OK, message, values)


def _goes_on(rounds: RoundsState) -> bool:
    return rounds.projected_ago_s is not None and rounds.projected_ago_s < rounds.stale_after_s


def _silence(rounds: RoundsState) -> str:
    """Name an input that does not come, or no longer; first one that nobody publishes."""
    silent = [(input_, rounds.listening_s if input_.silent_s is None else input_.silent_s)
              for input_ in rounds.inputs]
    for input_ in rounds.inputs:
        if input_.problem:
            return input_.problem
    for input_, silent_s in silent:
        if not input_.publishers and silent_s >= 1.0:
            return f'nobody publishes {input_.topic}: start its publisher or remap the topic'
    for input_, silent_s in silent:
        if silent_s >= rounds.stale_after_s:
            return f'{input_.topic} has a publisher but nothing came for {silent_s:.0f} s'
    return ''


def _unjoined(rounds: RoundsState) -> str:
    """Say so when all inputs come and never fit together."""
    tried_s = min(rounds.listening_s, rounds.projected_ago_s or rounds.listening_s)
    if tried_s < rounds.stale_after_s:
        return ''
    if rounds.waiting:
        return (f'{rounds.waiting} label images wait for the transforms of their stamps: look at '
                'TF, and at /clock if use_sim_time is set')
    topics = ' and '.join(input_.topic for input_ in rounds.inputs)
    return (f"{topics} come with different stamps: take the segment node's, whose stamps are "
            'equal')
