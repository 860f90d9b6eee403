# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> arrays, without a copy where the encoding allows."""

from __future__ import annotations

import array
from typing import NamedTuple

import cv2
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

MAX_SIDE = 16384  # pixels; no camera is larger, and hostile sizes must not become allocations

# Channels, and how to reach three of them; None: they are there already.
_FAST: dict[str, tuple[int, bool, int | None]] = {
    'bgr8': (3, False, None),
    'rgb8': (3, True, None),
    'bgra8': (4, False, cv2.COLOR_BGRA2BGR),
    'rgba8': (4, True, cv2.COLOR_RGBA2RGB),
    'mono8': (1, False, cv2.COLOR_GRAY2BGR),
}


class BadImage(ValueError):
    """A message that is no picture; its text names the cause."""


class Frame(NamedTuple):
    """A camera picture. `pixels` may share the message's memory: read it only."""

    pixels: np.ndarray  # uint8 (H, W, 3), rows possibly padded
    rgb: bool           # else BGR


def decode_image(message: Image) -> Frame:
    """Show an Image as a colour frame. Raises BadImage naming what is wrong with it."""
    height, width, step = message.height, message.width, message.step
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f'size {width}x{height}: publish 1 to {MAX_SIDE} pixels a side')
    if message.encoding not in _FAST:
        return _decode_by_cv_bridge(message)
    channels, rgb, conversion = _FAST[message.encoding]
    if step < width * channels:
        raise BadImage(f'step {step} is less than a row of {width} {message.encoding} pixels, '
                       f'{width * channels} bytes')
    if len(message.data) < step * (height - 1) + width * channels:
        raise BadImage(f'data has {len(message.data)} bytes, step x height is {step * height}')
    # The last row may come without its padding, so the view ends with its last pixel.
    pixels = np.ndarray((height, width, channels), np.uint8, buffer=message.data,
                        strides=(step, channels, 1))
    pixels.flags.writeable = False
    if conversion is not None:
        pixels = cv2.cvtColor(pixels, conversion)
    return Frame(pixels, rgb)


def _decode_by_cv_bridge(message: Image) -> Frame:
    encoding = message.encoding[:32]
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise BadImage(f'encoding {encoding!r} needs cv_bridge, which is not installed: install '
                       f'it, or publish one of {", ".join(_FAST)}') from None
    try:
        pixels = CvBridge().imgmsg_to_cv2(message, desired_encoding='bgr8')
    # cv_bridge passes on whatever its C++ side, OpenCV or numpy raise for hostile messages.
    except (CvBridgeError, cv2.error, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BadImage(f'encoding {encoding!r}: cv_bridge cannot make bgr8 of it: '
                       f'{reason}') from error
    return Frame(pixels, False)


def encode_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Make an Image of uint8 (H, W) or (H, W, C); rows unpadded, `header` taken as it is."""
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding,
                    step=pixels.size // height, is_bigendian=0)
    # An array.array is taken as it is; an ndarray would be checked byte by byte (150 ms).
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data)
    message.data = data
    return message
