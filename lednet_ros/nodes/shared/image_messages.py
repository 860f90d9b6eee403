# SPDX-License-Identifier: Apache-2.0
"""
sensor_msgs/Image <-> arrays in a node; cv_bridge helps with encodings that only it knows.

How the rest is decoded, and how large it may be: images/encodings.py.
"""

from __future__ import annotations

import array
import functools
import importlib.util
from pathlib import Path

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.common.errors import first_line
from lednet_ros.images.encodings import (
    BadImage,
    Frame,
    UnknownEncoding,
    decode_any_image,
    decode_compressed,
    packed_size,
)

__all__ = ['BadImage', 'Frame', 'decode', 'decode_mono8', 'encode_image', 'size_and_encoding']


def decode(message: Image | CompressedImage) -> Frame:
    """Show either kind of image as a colour frame. Raise BadImage naming what is wrong."""
    if isinstance(message, CompressedImage):
        return decode_compressed(message)
    try:
        return decode_any_image(message)
    except UnknownEncoding as error:
        if importlib.util.find_spec('cv_bridge') is None:
            raise
        return _decode_by_cv_bridge(message, error)


def _decode_by_cv_bridge(message: Image, unknown: UnknownEncoding) -> Frame:
    """Show an image of an encoding that a later cv_bridge may know: nv21, for one."""
    problem = cv_bridge_problem()
    if problem:
        raise UnknownEncoding(f'{unknown} ({problem})') from unknown
    try:
        from cv_bridge import CvBridge
        pixels = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding='bgr8'))
    except Exception as error:  # it passes on what its C++ side, OpenCV and numpy raise
        raise UnknownEncoding(f'{unknown} (cv_bridge: {first_line(error)})') from error
    if pixels.dtype != np.uint8 or pixels.shape != (message.height, message.width, 3):
        raise UnknownEncoding(f'{unknown} (cv_bridge makes {pixels.dtype} {pixels.shape} of it)')
    return Frame(pixels, False)


@functools.cache
def cv_bridge_problem() -> str:
    """
    Return why an installed cv_bridge must not be called; '' if it may be.

    Its C++ part, built for numpy 1 as apt's is up to Kilted, ends the process with numpy 2. What
    is built for 2 runs with both, and names numpy's inner package as 2 does.
    """
    spec = importlib.util.find_spec('cv_bridge')
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    parts = [part for place in places for part in place.rglob('*.so')]
    if int(np.__version__.split('.')[0]) < 2 or any(
            b'numpy._core' in part.read_bytes() for part in parts):
        return ''
    return (f'cv_bridge was built for numpy 1 and this is {np.__version__}: install numpy below '
            '2, or a cv_bridge that is built for it')


def size_and_encoding(message: Image | CompressedImage) -> tuple[str, str]:
    """Describe an image for people, good or bad: 'WIDTHxHEIGHT' and its encoding or format."""
    if isinstance(message, CompressedImage):
        return packed_size(message), message.format[:32]
    return f'{message.width}x{message.height}', message.encoding[:32]


def decode_mono8(message: Image) -> np.ndarray:
    """Show a mono8 Image as uint8 (H, W), a view of the message. Raise BadImage."""
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
