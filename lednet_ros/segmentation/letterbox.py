# SPDX-License-Identifier: Apache-2.0
"""
Where a camera's frame lies in the network's input or a label image; the way there and back.

Pixels stay uint8: mean and standard deviation are a part of the graph, backends/graph.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lednet_ros.images.resizing import resize_image


@dataclass(frozen=True)
class Fit:
    """
    The rectangle of the network's input that the whole camera frame is scaled onto.

    Or of a label image, in the same way. Beside a letterboxed frame its edge is repeated: on
    CamVid frames cut to 16:9 that scored 63.5 % mIoU, grey bars 62.8, black ones 57.0, stretching
    62.1 (an input of 16:9: 64.1).
    """

    camera_height: int
    camera_width: int
    input_height: int
    input_width: int
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def make(cls, camera: tuple[int, int], network: tuple[int, int], mode: str) -> Fit:
        """Place a camera's (height, width) in the network's, by 'letterbox' or 'stretch'."""
        (camera_h, camera_w), (input_h, input_w) = camera, network
        if mode == 'stretch':
            return cls(camera_h, camera_w, input_h, input_w, 0, 0, input_h, input_w)
        scale = min(input_h / camera_h, input_w / camera_w)
        height = max(1, round(camera_h * scale))
        width = max(1, round(camera_w * scale))
        top, left = (input_h - height) // 2, (input_w - width) // 2
        return cls(camera_h, camera_w, input_h, input_w, top, left, height, width)

    def place(self, frame: np.ndarray, rgb: bool, out: np.ndarray) -> None:
        """Write a camera frame, uint8 (H, W, 3), rows possibly padded, into `out` as RGB."""
        bottom, right = self.top + self.height, self.left + self.width
        inside = out[self.top:bottom, self.left:right]
        height, width = frame.shape[:2]
        if self.height * 2 < height or self.width * 2 < width:
            # Averaging when shrinking by more than two, where linear sampling would skip pixels.
            # OpenCV does so only if neither side grows.
            frame = resize_image(frame, min(self.width, width), min(self.height, height),
                                 cv2.INTER_AREA)
        if frame.shape[:2] != (self.height, self.width):
            frame = resize_image(frame, self.width, self.height, cv2.INTER_LINEAR)
        if rgb:
            inside[:] = frame
        else:
            cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=inside)
        out[self.top:bottom, :self.left] = inside[:, :1]
        out[self.top:bottom, right:] = inside[:, -1:]
        out[:self.top], out[bottom:] = out[self.top], out[bottom - 1]

    def picture(self, frame: np.ndarray, rgb: bool) -> np.ndarray:
        """Return a camera frame as RGB, uint8 (H, W, 3) of the input's size, black beside it."""
        out = np.empty((self.input_height, self.input_width, 3), np.uint8)
        self.place(frame, rgb, out)
        self.blank(out, 0)
        return out

    def blank(self, image: np.ndarray, value: int) -> None:
        """Overwrite what lies beside the camera's frame in an image of the input's size."""
        bottom, right = self.top + self.height, self.left + self.width
        image[:self.top], image[bottom:] = value, value
        image[:, :self.left], image[:, right:] = value, value

    @property
    def is_identity(self) -> bool:
        """Whether each pixel of the image is the camera's of the same row and column."""
        camera = (self.camera_height, self.camera_width)
        return camera == (self.input_height, self.input_width) == (self.height, self.width)

    def back(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """
        Bring what a (H, W) image of the network's size shows of the frame to another size.

        By nearest neighbour, so that no value comes out that was not there. `size` is (height,
        width); None: the camera's.
        """
        height, width = size or (self.camera_height, self.camera_width)
        inside = image[self.top:self.top + self.height, self.left:self.left + self.width]
        if inside.shape != (height, width):
            inside = cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.ascontiguousarray(inside)


def place_all(
    frames: Sequence[np.ndarray], are_rgb: Sequence[bool], fits: Sequence[Fit]
) -> np.ndarray:
    """Fit camera frames into a batch, uint8 (N, H, W, 3) RGB. All fits are of one input size."""
    batch = np.empty((len(frames), fits[0].input_height, fits[0].input_width, 3), np.uint8)
    for frame, rgb, fit, slot in zip(frames, are_rgb, fits, batch, strict=True):
        fit.place(frame, rgb, slot)
    return batch
