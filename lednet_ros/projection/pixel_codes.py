# SPDX-License-Identifier: Apache-2.0
"""Label images to images of codes: what each pixel says of the ground."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.projection.traversability import OUT, UNKNOWN, Traversability


class PixelCodes:
    """
    Makes codes of label images of one size. What it gives it uses again.

    `has_bars`: what is unlabelled throughout on two sides is beside the picture, not in it.
    """

    def __init__(
        self, traversability: Traversability, height: int, width: int, has_bars: bool = True,
    ) -> None:
        self._table = traversability.codes
        self._has_bars = has_bars
        self._unsure, self._sure_labels, self._codes = np.empty((3, height, width), np.uint8)

    def make(
        self, labels: np.ndarray, confidence: np.ndarray | None = None,
        min_confidence: float = 0.0,
    ) -> np.ndarray:
        """
        Return codes, uint8 (H, W), of labels and confidences (0 to 255) of the same type.

        Pixels less certain than `min_confidence` (0 to 1) are unknown.
        """
        sure = labels
        if confidence is not None and min_confidence > 0:
            np.less(confidence, math.ceil(255 * min_confidence), out=self._unsure.view(bool))
            np.multiply(self._unsure, UNLABELLED, out=self._unsure)
            sure = np.maximum(labels, self._unsure, out=self._sure_labels)
        cv2.LUT(sure, self._table, self._codes)
        if self._has_bars:
            _leave_out_bars(labels, self._codes)
        return self._codes

    def say_something(self) -> bool:
        """Tell whether a pixel of the last codes is ground or an obstacle."""
        # FREE and BLOCKED wrap around to the largest numbers.
        np.subtract(self._codes, OUT, out=self._unsure)
        return int(self._unsure.max()) > UNKNOWN - OUT


def _leave_out_bars(labels: np.ndarray, codes: np.ndarray) -> None:
    """
    Mark the bars beside a letterboxed frame, in a label image of the network's size, as OUT.

    They are unlabelled throughout and, the frame being in the middle, as wide on either side, but
    for one pixel. Other unlabelled rows are ground that nobody knows, as unsure ones are.
    """
    for lines, marked in ((labels, codes), (labels.T, codes.T)):
        first = _unlabelled(lines)
        last = _unlabelled(lines[::-1]) if first else 0
        if last and abs(first - last) <= 1:
            marked[:first] = OUT
            marked[-last:] = OUT


def _unlabelled(lines: np.ndarray) -> int:
    """Count the lines, from the first on, without any label."""
    for count, line in enumerate(lines):
        if line[0] != UNLABELLED or (line != UNLABELLED).any():
            return count
    return len(lines)
