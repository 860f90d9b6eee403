# SPDX-License-Identifier: Apache-2.0
"""One task's report on /diagnostics, as the nodes judge it. Without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lednet_ros.nodes.shared.latency import Quantiles

OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'  # of diagnostic_msgs/DiagnosticStatus


@dataclass(frozen=True)
class Status:
    """One task's report."""

    level: bytes  # OK, WARN or ERROR
    message: str
    values: Mapping[str, object]
    hardware_id: str = ''


def latency_values(quantiles: Mapping[str, Quantiles]) -> dict[str, object]:
    """Return each stage's quantiles, named '<stage>_p95_ms'."""
    return {f'{stage}_{name}_ms': value
            for stage, q in quantiles.items() for name, value in q._asdict().items()}


@dataclass(frozen=True)
class InputView:
    """One of the topics that are joined, as the timer finds it."""

    topic: str
    publishers: int
    silent_s: float | None  # since the last message; None: none has come
    problem: str = ''       # who publishes another type there; '': nobody


@dataclass(frozen=True)
class RoundsState:
    """What has become of the label images of all cameras, as the timer finds it."""

    inputs: tuple[InputView, ...]
    listening_s: float             # since when the node listens to them
    projected_ago_s: float | None  # since the last frame that went out; None: never
    problem: str                   # why the last frame did not go out, or not all; '': none
    counts: Mapping[str, int]
    stale_after_s: float
    cameras: int = 1
    waiting: int = 0               # label images, for transforms
