# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> arrays in a node."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.image_decoding import (
    BadImage,
    Frame,
    decode_any_image,
    decode_compressed,
    packed_size,
)

__all__ = ['BadImage', 'Frame', 'decode', 'decode_mono8', 'encode_image', 'size_and_encoding']


def decode(message: Image | CompressedImage) -> Frame:
    """Show either kind of image as a colour frame. Raises BadImage naming what is wrong."""
    if isinstance(message, CompressedImage):
        return decode_compressed(message)
    return decode_any_image(message)


def size_and_encoding(message: Image | CompressedImage) -> tuple[str, str]:
    """Describe an image for people, good or bad: 'WIDTHxHEIGHT' and its encoding or format."""
    if isinstance(message, CompressedImage):
        return packed_size(message), message.format[:32]
    return f'{message.width}x{message.height}', message.encoding[:32]


def decode_mono8(message: Image) -> np.ndarray:
    """Show a mono8 Image as uint8 (H, W), a view of the message. Raises BadImage."""
    height, width, step = message.height, message.width, message.step
    if message.encoding not in ('mono8', '8UC1'):
        raise BadImage(f'encoding {message.encoding[:32]!r}: publish mono8')
    if not (height and width) or step < width or len(message.data) != step * height:
        raise BadImage(f'{width}x{height} mono8 with step {step} and {len(message.data)} bytes: '
                       'the numbers do not fit together')
    return np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :width]


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
