# SPDX-License-Identifier: Apache-2.0
"""Which frames to label next: those that stand for the others, or the least certain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# A frame's look: in each cell of a grid, the share of each class and the mean colour.
_ROWS, _COLUMNS, _CELL = 4, 6, 16
_COMPARED = 2000  # frames at most are compared with each other: 32 MB an array
_TIME = 10.0      # what two ends of a recording differ by, and other recordings; two cells of
#                   wholly different classes differ by 360


class Scored(NamedTuple):
    """What the network sees in one frame, and how uncertain it is."""

    recording: int      # which one; of a bag, each camera is one
    place: int          # where in it, from 0
    uncertainty: float  # mean over the pixels of 1 - confidence, 0 to 1
    look: bytes = b''   # as look_of gives it, of all frames as long


def uncertainty(confidence: np.ndarray) -> float:
    """Return a frame's, from uint8 (H, W) confidences."""
    return 1.0 - float(confidence.mean()) / 255


def look_of(pixels: np.ndarray, labels: np.ndarray, classes: int) -> bytes:
    """
    Return what is seen where, as bytes that lie the farther apart the less two frames are alike.

    `pixels` uint8 (H, W, 3) and `labels` uint8 (H, W), of any size.
    """
    few = cv2.resize(labels, (_COLUMNS * _CELL, _ROWS * _CELL), interpolation=cv2.INTER_NEAREST)
    cells = few.reshape(_ROWS, _CELL, _COLUMNS, _CELL)
    shares = [(cells == i).mean((1, 3)) * 255 for i in range(classes)]
    colors = cv2.resize(pixels, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    return np.concatenate([np.ravel(shares), colors.ravel()]).round().astype(np.uint8).tobytes()


def most_various(frames: Sequence[Scored], count: int) -> list[Scored]:
    """
    Return up to `count` frames, so that each of the others looks like one of them.

    One after the other, always the one that brings the others nearest (greedy facility location;
    Wei et al., "Submodularity in Data Subset Selection and Active Learning", 2015). None is near
    another in its recording. Of very many frames some are compared, evenly spread.
    """
    if count >= len(frames):
        return list(frames)
    compared = max(count, min(len(frames), _COMPARED))
    some = [frames[i * len(frames) // compared] for i in range(compared)]
    if count == compared:
        return some
    reach = (len(some) // count - 1) // 4
    tracks = np.array([frame.recording for frame in some])
    order = np.arange(len(some))
    distance = _distances(some)
    nearest = distance.max(1)  # of each frame to one that is chosen
    gain = np.maximum(nearest[:, None] - distance, 0).sum(0)
    is_free = np.ones(len(some), bool)
    chosen: list[Scored] = []
    for _ in range(count):
        best = int(np.argmax(np.where(is_free, gain, -1)))
        chosen.append(some[best])
        is_free &= (np.abs(order - best) > reach) | (tracks != tracks[best])
        nearer = distance[:, best] < nearest
        columns = distance[nearer]
        gain -= (np.maximum(nearest[nearer, None] - columns, 0)
                 - np.maximum(columns[:, [best]] - columns, 0)).sum(0)
        nearest[nearer] = columns[:, best]
    return chosen


def _distances(frames: Sequence[Scored]) -> np.ndarray:
    """Return how far apart frames look, and a little how far apart they are: float64 (N, N)."""
    looks = np.array([np.frombuffer(frame.look, np.uint8) for frame in frames], np.float64)
    squares = (looks ** 2).sum(1)
    # Of whole numbers below 2**53, so exact, and the same on every machine.
    distance = np.sqrt(squares[:, None] + squares - 2 * looks @ looks.T)
    tracks, places = (np.array([frame[i] for frame in frames]) for i in (0, 1))
    length = np.ones(tracks.max() + 1)
    np.maximum.at(length, tracks, places)
    apart = np.abs(places[:, None] - places) / length[tracks]
    distance += _TIME * np.where(tracks[:, None] == tracks, apart, 1.0)
    return distance


def most_uncertain(frames: Sequence[Scored], count: int) -> list[Scored]:
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
