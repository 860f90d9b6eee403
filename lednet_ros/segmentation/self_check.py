# SPDX-License-Identifier: Apache-2.0
"""Does a compiled program say what the network says? Asked at each start, on made-up frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.networks import upsample
from lednet_ros.segmentation.backends.graph import ScoreGraph

MIN_AGREEMENT = 0.99  # fp16 on a sound GPU stays well above; a miscompiled layer far below
MIN_DECIDED = 0.5     # fewer pixels than this say too little about the rest
MARGIN = 0.01         # of the score range: closer than this, rounding may choose either class


@dataclass(frozen=True)
class SelfCheck:
    """How far a program agrees with torch in fp32. Shares from 0 to 1."""

    agreement: float  # of the decided pixels, those with the same label
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


def self_check(
    checkpoint: Checkpoint,
    run: Callable[[np.ndarray], np.ndarray],
    height: int,
    width: int,
    batch: int = 1,
    label_of_class: np.ndarray | None = None,
) -> SelfCheck:
    """
    Compare a program's labels with those of the network in fp32.

    `run` takes `batch` frames, uint8 (N, H, W, 3) RGB, and returns their labels, integer
    (N, H, W): of class ids, or of what `label_of_class`, uint8 (classes,), makes of them. The
    network runs on the CPU: on a GPU, libraries that only this needs would stay in its memory.
    Raise CheckpointError where its own scores are not finite.
    """
    frames = make_frames(batch, height, width)
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing)
    wanted = [_reference(graph, frame, checkpoint) for frame in frames]  # scores take memory
    labels = run(frames)
    same = decided = 0
    for (expected, clear), label in zip(wanted, labels, strict=True):
        if label_of_class is not None:
            expected = label_of_class[expected]
        same += int((label == expected)[clear].sum())
        decided += int(clear.sum())
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
    graph: ScoreGraph, frame: np.ndarray, checkpoint: Checkpoint
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels in fp32, and where they are clear: (H, W) integer and bool."""
    scores = upsample(
        graph.network, graph(torch.from_numpy(frame)[None]), frame.shape[:2])[0]
    if not scores.isfinite().all():
        raise checkpoint.diverged()
    if len(scores) == 1:
        everywhere = torch.ones(scores.shape[1:], dtype=torch.bool)
        return scores.argmax(0).numpy(), everywhere.numpy()
    best, second = scores.topk(2, 0).values
    clear = best - second > MARGIN * (scores.max() - scores.min())
    return scores.argmax(0).numpy(), clear.numpy()
