# SPDX-License-Identifier: Apache-2.0
"""What belongs to one label image, read from its messages: labels, confidence, lens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import Image

from lednet_ros.nodes.shared.camera_info import BadCameraInfo, camera_of
from lednet_ros.nodes.shared.image_messages import BadImage, decode_mono8
from lednet_ros.projection import Camera


class LabelParts(NamedTuple):
    """The arrays are views of the messages."""

    labels: np.ndarray             # uint8 (H, W)
    confidence: np.ndarray | None  # uint8 of that shape; None: none came
    camera: Camera                 # the lens, of that size


def decode_parts(
    parts: Mapping[str, Any], min_confidence: float, rectified: bool,
) -> LabelParts:
    """Read the messages by input; raise what names the one that does not hold."""
    labels = _decode('label', parts['label'])
    confidence = _decode('confidence', parts['confidence']) if 'confidence' in parts else None
    if confidence is not None and confidence.shape != labels.shape:
        raise BadImage(f'confidence is {size_of(confidence)} and label {size_of(labels)}: '
                       'publish both of one size')
    if min_confidence and confidence is None:  # which was 0 when they came
        raise BadImage('confidence: none came with this label image, and min_confidence is '
                       f'{min_confidence:g}')
    height, width = labels.shape
    try:
        camera = camera_of(parts['camera_info'], height, width, rectified)
    except BadCameraInfo as error:
        raise BadCameraInfo(f'camera_info: {error}') from error
    return LabelParts(labels, confidence, camera)


def size_of(pixels: np.ndarray) -> str:
    """Return an image's size in words: 'WIDTHxHEIGHT'."""
    return f'{pixels.shape[1]}x{pixels.shape[0]}'


def _decode(name: str, message: Image) -> np.ndarray:
    try:
        return decode_mono8(message)
    except BadImage as error:
        raise BadImage(f'{name}: {error}') from error
