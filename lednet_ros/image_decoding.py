# SPDX-License-Identifier: Apache-2.0
"""Camera messages to colour frames: sensor_msgs' Image and CompressedImage, by their fields alone.

Nothing of ROS is imported: a bag's messages will do as well as rclpy's.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import cv2
import numpy as np

from lednet_ros.errors import first_line

MAX_SIDE = 16384             # pixels; no camera is larger, and a hostile size must not become one
MAX_PACKED_PIXELS = 2 ** 26  # of a compressed image, whose few bytes may claim any size


class BadImage(ValueError):
    """A message that is no picture; its text names the cause."""


class UnknownEncoding(BadImage):
    """An encoding that is none of ENCODINGS."""


class Frame(NamedTuple):
    """A camera picture. `pixels` may share the message's memory: read it only."""

    pixels: np.ndarray  # uint8 (H, W, 3), rows possibly padded
    rgb: bool           # else BGR


class _Layout(NamedTuple):
    """How an encoding's bytes lie, and what makes BGR or RGB of them."""

    channels: int             # bytes a pixel
    rgb: bool = False
    conversion: int | None = None  # of cv2.cvtColor; None: it is there already
    even: str = ''            # sides that must be even: 'width', or 'width and height'


# OpenCV calls a Bayer pattern by its second row's second and third pixel, ROS by its first two
# rows' first two: rggb there is BG here.
_LAYOUTS: dict[str, _Layout] = {
    'bgr8': _Layout(3),
    'rgb8': _Layout(3, rgb=True),
    'bgra8': _Layout(4, conversion=cv2.COLOR_BGRA2BGR),
    'rgba8': _Layout(4, True, cv2.COLOR_RGBA2RGB),
    'mono8': _Layout(1, conversion=cv2.COLOR_GRAY2BGR),
    '8UC1': _Layout(1, conversion=cv2.COLOR_GRAY2BGR),
    '8UC3': _Layout(3),
    'bayer_rggb8': _Layout(1, False, cv2.COLOR_BayerBG2BGR, 'width and height'),
    'bayer_bggr8': _Layout(1, False, cv2.COLOR_BayerRG2BGR, 'width and height'),
    'bayer_gbrg8': _Layout(1, False, cv2.COLOR_BayerGR2BGR, 'width and height'),
    'bayer_grbg8': _Layout(1, False, cv2.COLOR_BayerGB2BGR, 'width and height'),
    'yuv422': _Layout(2, False, cv2.COLOR_YUV2BGR_UYVY, 'width'),
    'uyvy': _Layout(2, False, cv2.COLOR_YUV2BGR_UYVY, 'width'),
    'yuv422_yuy2': _Layout(2, False, cv2.COLOR_YUV2BGR_YUY2, 'width'),
    'yuyv': _Layout(2, False, cv2.COLOR_YUV2BGR_YUY2, 'width'),
}
ENCODINGS = tuple(_LAYOUTS)


def decode_image(message: Any) -> Frame:
    """Show a sensor_msgs/Image as a colour frame, without a copy where the encoding allows.

    Raises BadImage naming what is wrong with it, UnknownEncoding where it is only the encoding.
    """
    height, width, step = message.height, message.width, message.step
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f'size {width}x{height}: publish 1 to {MAX_SIDE} pixels a side')
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise UnknownEncoding(
            f'encoding {message.encoding[:32]!r}: publish one of {", ".join(ENCODINGS)}')
    if step < width * layout.channels:
        raise BadImage(f'step {step} is less than a row of {width} {message.encoding} pixels, '
                       f'{width * layout.channels} bytes')
    if len(message.data) < step * (height - 1) + width * layout.channels:
        raise BadImage(f'data has {len(message.data)} bytes, step x height is {step * height}')
    if (width % 2 and layout.even) or (height % 2 and 'height' in layout.even):
        raise BadImage(f'size {width}x{height}: {message.encoding} needs an even {layout.even}')
    # The last row may come without its padding, so the view ends with its last pixel.
    pixels = np.ndarray((height, width, layout.channels), np.uint8, buffer=message.data,
                        strides=(step, layout.channels, 1))
    pixels.flags.writeable = False
    if layout.conversion is not None:
        try:
            pixels = cv2.cvtColor(pixels, layout.conversion)
        except cv2.error as error:  # too small to be demosaiced
            raise BadImage(f'size {width}x{height}, {message.encoding}: '
                           f'{first_line(error)}') from error
    return Frame(pixels, layout.rgb)


def decode_compressed(message: Any) -> Frame:
    """Unpack a sensor_msgs/CompressedImage, a JPEG or a PNG. Raises BadImage naming the cause."""
    data = np.frombuffer(message.data, np.uint8)
    width, height = _packed_size(data.data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE
            and width * height <= MAX_PACKED_PIXELS):
        raise BadImage(f'size {width}x{height}: publish 1 to {MAX_SIDE} pixels a side, '
                       f'{MAX_PACKED_PIXELS} in all')
    try:
        # As the camera saw it: a turned picture would not fit its CameraInfo.
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadImage(f'format {message.format[:32]!r}: {first_line(error)}') from error
    if pixels is None or pixels.shape != (height, width, 3):
        raise BadImage(f'format {message.format[:32]!r}: {len(data)} bytes that are damaged')
    return Frame(pixels, False)


def packed_size(message: Any) -> str:
    """Give a compressed image's size for people, 'WIDTHxHEIGHT'; '?' where it tells none."""
    try:
        return '{}x{}'.format(*_packed_size(np.frombuffer(message.data, np.uint8).data))
    except BadImage:
        return '?'


def _packed_size(data: memoryview) -> tuple[int, int]:
    """Read a whole JPEG's or PNG's (width, height), before anything is allocated for them."""
    if bytes(data[:8]) == b'\x89PNG\r\n\x1a\n' and bytes(data[12:16]) == b'IHDR':
        if len(data) < 33 or b'IEND' not in bytes(data[-64:]):
            raise BadImage(f'a PNG of {len(data)} bytes that is cut short')
        width, height = struct.unpack('>II', data[16:24])
        return width, height
    if bytes(data[:2]) == b'\xff\xd8':
        return _jpeg_size(data)
    raise BadImage(f'{len(data)} bytes that are neither a JPEG nor a PNG: publish one of these, '
                   'or raw images')


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """Walk a JPEG's segments to its frame header; the end marker has to be there too.

    What the decoder would read otherwise is refused: the size found here has to be the one that
    it will allocate.
    """
    # OpenCV 4 shows the rest of a truncated JPEG as grey, without a word. Some cameras put
    # zeros behind the end.
    if bytes(data[-4096:]).rfind(b'\xff\xd9') >= 0:
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack('>HH', data[at + 5:at + 9])
                return width, height
            if marker == 0xFF:  # may be repeated
                at += 1
            elif marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # has no length, or no place here
                break
            else:
                at += 2 + max(2, data[at + 2] << 8 | data[at + 3])  # the length counts itself
    raise BadImage(f'a JPEG of {len(data)} bytes that is cut short or damaged')
