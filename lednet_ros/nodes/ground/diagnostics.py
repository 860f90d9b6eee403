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
from lednet_ros.nodes.shared.status import OK, WARN, InputView, Status, latency_values


@dataclass(frozen=True)
class GroundView:
    """The node at the moment of a report."""

    wanted: tuple[str, ...]           # outputs that someone listens to
    inputs: tuple[InputView, ...]
    listening_s: float                # since when it listens to them
    projected_ago_s: float | None     # since the last frame that went out; None: never
    problem: str                      # why the last frame did not go out, or not all; '': none
    remark: str                       # what is odd about the last that went out; '': nothing
    counts: Mapping[str, int]
    figures: Mapping[str, object]     # of camera and pose
    stale_after_s: float
    cameras: int = 1
    waiting: int = 0                  # label images, for transforms
    unheard: str = ''                 # who listens to an output and cannot be matched; '': nobody


def view_status(view: GroundView) -> Status:
    """Judge the way from inputs to outputs; the message names the cause."""
    values: dict[str, object] = {
        'outputs': ', '.join(view.wanted), **view.counts, **view.figures}
    if not view.wanted and view.unheard:
        return Status(WARN, view.unheard, values)
    if not view.wanted:
        return Status(OK, 'idle: nobody listens to its outputs', values)
    hardware_id = view.inputs[0].topic
    problem = _silence(view) or view.problem or _unjoined(view)
    if problem and view.cameras > 1 and _goes_on(view):
        return Status(WARN, f'not of all cameras: {problem}', values, hardware_id)
    if problem:
        return Status(WARN, f'nothing goes out: {problem}', values, hardware_id)
    if view.projected_ago_s is None:
        return Status(OK, 'waiting for the first label image', values, hardware_id)
    remark = view.remark or view.unheard
    return Status(WARN if remark else OK, remark or 'projecting', values, hardware_id)


def latency_status(latency: Mapping[str, Quantiles]) -> Status:
    """Tell how old the labels are when what was made of them is out."""
    total = latency.get(TOTAL)
    message = (f'p95 {total.p95:.0f} ms from stamp to output' if total
               else 'no latency within the last seconds')
    return Status(OK, message, latency_values(latency))


def _goes_on(view: GroundView) -> bool:
    return view.projected_ago_s is not None and view.projected_ago_s < view.stale_after_s


def _silence(view: GroundView) -> str:
    """Name an input that does not come, or no longer; first one that nobody publishes."""
    silent = [(input_, view.listening_s if input_.silent_s is None else input_.silent_s)
              for input_ in view.inputs]
    for input_ in view.inputs:
        if input_.problem:
            return input_.problem
    for input_, silent_s in silent:
        if not input_.publishers and silent_s >= 1.0:
            return f'nobody publishes {input_.topic}: start its publisher or remap the topic'
    for input_, silent_s in silent:
        if silent_s >= view.stale_after_s:
            return f'{input_.topic} has a publisher but nothing came for {silent_s:.0f} s'
    return ''


def _unjoined(view: GroundView) -> str:
    """Say so when all inputs come and never fit together."""
    if min(view.listening_s, view.projected_ago_s or view.listening_s) < view.stale_after_s:
        return ''
    if view.waiting:
        return (f'{view.waiting} label images wait for the transforms of their stamps: look at '
                'TF, and at /clock if use_sim_time is set')
    topics = ' and '.join(input_.topic for input_ in view.inputs)
    return (f"{topics} come with different stamps: take the segment node's, whose stamps are "
            'equal')
