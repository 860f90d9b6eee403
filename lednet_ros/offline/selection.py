# SPDX-License-Identifier: Apache-2.0
"""Which frames to label next: the least certain, spread over their recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Scored(NamedTuple):
    """How uncertain the network is about one frame."""

    recording: int      # which one; of a bag, each camera is one
    place: int          # where in it, from 0
    uncertainty: float  # mean over the pixels of 1 - confidence, 0 to 1


def uncertainty(confidence: np.ndarray) -> float:
    """Return a frame's, from uint8 (H, W) confidences."""
    return 1.0 - float(confidence.mean()) / 255


def choose(frames: Sequence[Scored], count: int) -> list[Scored]:
    """
    Return up to `count` frames, the most uncertain first, none near another.

    A frame that is taken keeps its neighbours in its recording from being taken: as many as leave
    room for `count` of them wherever they lie. Equal ones are taken in order.
    """
    if count >= len(frames):
        return sorted(frames, key=_most_uncertain_first)
    # Each frame takes 2 * reach + 1 of len(frames) at most, so that `count` of them fit.
    reach = max(0, (len(frames) // count - 1) // 2)
    taken: dict[int, list[int]] = {}
    chosen = []
    for frame in sorted(frames, key=_most_uncertain_first):
        places = taken.setdefault(frame.recording, [])
        if all(abs(frame.place - other) > reach for other in places):
            places.append(frame.place)
            chosen.append(frame)
            if len(chosen) == count:
                break
    return chosen


def _most_uncertain_first(frame: Scored) -> tuple[float, int, int]:
    return -frame.uncertainty, frame.recording, frame.place
