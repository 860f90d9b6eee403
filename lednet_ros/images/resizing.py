# SPDX-License-Identifier: Apache-2.0
"""cv2.resize, for every image and every OpenCV."""

from __future__ import annotations

import cv2
import numpy as np


def resize_image(image: np.ndarray, width: int, height: int, interpolation: int) -> np.ndarray:
    """
    Return uint8 (H, W, C) or (H, W) at another size.

    OpenCV 4.5.4, which Humble has, refuses a single pixel of three channels: it is doubled before.
    """
    if image.shape[:2] == (1, 1):
        image = image.repeat(2, 1)
    return cv2.resize(image, (width, height), interpolation=interpolation)
