# SPDX-License-Identifier: Apache-2.0
"""Does a compiled program say what the network says? Asked at each start, on made-up frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.networks import upsample
from lednet_ros.segmentation.backends.graph import ScoreGraph

MIN_AGREEMENT = 0.99  # fp16 on a sound GPU stays well above; a miscompiled layer far below
MIN_DECIDED = 0.5     # fewer pixels than this say too little about the rest
MARGIN = 0.01         # of the score range: closer than this, rounding may choose either class
SLACK = 26            # of 255: how far apart confidences may be, a tenth


@dataclass(frozen=True)
class SelfCheck:
    """How far a program agrees with torch in fp32. Shares from 0 to 1."""

    agreement: float  # of the decided pixels, those with the same label (and confidence)
    decided: float    # of all pixels, those whose two best scores differ by more than MARGIN

    def __str__(self) -> str:
        return (f'agrees with torch fp32 on {self.agreement:.3%} of the pixels that are clear '
                f'({self.decided:.0%} of all)')

    @property
    def refusal(self) -> str | None:
        """Why the program must not be used, in words; None where it may."""
        if self.decided <= MIN_DECIDED:
            return (f'the self-check found only {self.decided:.0%} of the pixels clear, more than '
                    f'{MIN_DECIDED:.0%} are needed to judge: these weights look untrained')
        if not self.agreement >= MIN_AGREEMENT:
            return (f'the self-check failed: it {self}, at least {MIN_AGREEMENT:.0%} are needed')
        return None


class Refused(Exception):
    """The self-check said no. Not a LednetRosError: the cache shall set such a program aside."""


class _Reference(NamedTuple):
    """What the network says of a frame in fp32, (H, W) each."""

    labels: np.ndarray             # integer
    clear: np.ndarray              # bool: where a program has to say the same
    confidence: np.ndarray | None  # float32, 0 to 255; NaN: too near a floor to tell


def self_check(
    checkpoint: Checkpoint,
    run: Callable[[np.ndarray], Sequence[np.ndarray]],
    height: int,
    width: int,
    batch: int = 1,
    label_of_class: np.ndarray | None = None,
    confidence: bool = False,
    floors: Sequence[float] = (),
) -> SelfCheck:
    """
    Compare a program's labels with those of the network in fp32, and its confidence if it has it.

    `run` takes `batch` frames, uint8 (N, H, W, 3) RGB, and returns their labels, integer
    (N, H, W): of class ids, or of what `label_of_class`, uint8 (classes,), makes of them. With
    `confidence` that comes second, an integer of 255 parts, and 0 below the score `floors`. The
    network runs on the CPU: on a GPU, libraries that only this needs would stay in its memory.
    Raise CheckpointError where its own scores are not finite.
    """
    frames = make_frames(batch, height, width)
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing)
    wanted = [_reference(graph, frame, checkpoint, confidence, floors)
              for frame in frames]  # scores take memory
    labels, *certainties = run(frames)
    same = decided = 0
    for i, expected in enumerate(wanted):
        label = expected.labels if label_of_class is None else label_of_class[expected.labels]
        is_same = labels[i] == label
        if expected.confidence is not None:
            is_same &= ~(np.abs(certainties[0][i] - expected.confidence) > SLACK)
        same += int(is_same[expected.clear].sum())
        decided += int(expected.clear.sum())
    return SelfCheck(same / decided if decided else 0.0, decided / labels.size)


def require_finite_scores(checkpoint: Checkpoint, height: int, width: int) -> None:
    """
    Raise CheckpointError where the scores of a made-up frame are not finite.

    Finite weights may lead to such: the largest of them is a class for all that.
    """
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing)
    _reference(graph, make_frames(1, height, width)[0], checkpoint)


def make_frames(count: int, height: int, width: int) -> np.ndarray:
    """Draw street-like scenes, uint8 (count, height, width, 3) RGB, the same ones every time."""
    random = np.random.default_rng(0)
    frames = np.empty((count, height, width, 3), np.uint8)
    for frame in frames:
        horizon = int(height * random.uniform(0.4, 0.55))
        frame[:horizon] = np.linspace((110, 150, 220), (210, 220, 235), horizon)[:, None]
        frame[horizon:] = np.linspace((95, 95, 95), (60, 60, 65), height - horizon)[:, None]
        for left in range(0, width, max(1, width // 6)):  # houses and trees along the horizon
            color = [(130, 90, 75), (60, 90, 50), (150, 140, 125)][random.integers(3)]
            top = int(horizon * random.uniform(0.1, 0.9))
            right = left + int(width * random.uniform(0.08, 0.2))
            cv2.rectangle(frame, (left, top), (right, horizon + height // 20), color, -1)
        for _ in range(3):  # cars
            x, size = int(random.uniform(0, width)), int(height * random.uniform(0.08, 0.2))
            color = [(150, 20, 25), (25, 30, 110), (20, 20, 20)][random.integers(3)]
            cv2.rectangle(frame, (x, horizon), (x + 2 * size, horizon + size), color, -1)
        noise = random.normal(0, 6, frame.shape)
        frame[:] = np.clip(frame + noise, 0, 255).astype(np.uint8)
    return frames


@torch.no_grad()
def _reference(
    graph: ScoreGraph, frame: np.ndarray, checkpoint: Checkpoint, confidence: bool = False,
    floors: Sequence[float] = (),
) -> _Reference:
    scores = upsample(
        graph.network, graph(torch.from_numpy(frame)[None]), frame.shape[:2])[0]
    if not scores.isfinite().all():
        raise checkpoint.diverged()
    best, labels = scores.max(0)
    margin = MARGIN * (scores.max() - scores.min())
    clear = torch.ones(labels.shape, dtype=torch.bool)
    if len(scores) > 1:
        clear = best - scores.topk(2, 0).values[1] > margin
    if not confidence:
        return _Reference(labels.numpy(), clear.numpy(), None)
    certainty = 255 * (scores / checkpoint.metadata.temperature).softmax(0).amax(0)
    if floors:
        above = best - torch.tensor(floors)[labels]
        certainty[above < 0] = 0
        certainty[above.abs() <= margin] = torch.nan
    return _Reference(labels.numpy(), clear.numpy(), certainty.numpy())
