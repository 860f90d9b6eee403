# SPDX-License-Identifier: Apache-2.0
"""
Pictures to arrays: image files, label images, sensor_msgs' Image and CompressedImage.

Nothing of ROS is imported: a bag's messages will do as well as rclpy's. Files are read by Python,
so any name will do, and one decoder unpacks their bytes and a message's: whole pictures of 8 bits
a channel and of a size that can be meant, or BadImage.
"""

from __future__ import annotations

import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lednet_ros.common.errors import first_line

# Of damaged files, which are read or refused here.
warnings.filterwarnings('ignore', module=r'PIL\.')

MAX_SIDE = 16384             # pixels; no camera is larger, and a hostile size must not become one
MAX_PACKED_PIXELS = 2 ** 26  # of a file or a compressed image, whose few bytes may claim any size
MAX_FILE_BYTES = 2 ** 29     # what so many pixels take where nothing packs them, and some


class BadImage(ValueError):
    """What is no picture; its text names the cause."""


class UnknownEncoding(BadImage):
    """Pixels that are in none of ENCODINGS, nor may be: depth, for one."""


class SeveralChannels(BadImage):
    """Colours in a label image."""


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


# Of 16 bits a channel, with their likes of 8.
_WIDE = {name.replace('8', '16'): name for name in ENCODINGS
         if name.startswith(('mono', 'rgb', 'bgr', 'bayer'))}
_DARK = 16  # of 256


def decode_image(message: Any) -> Frame:
    """
    Show a sensor_msgs/Image as a colour frame, without a copy where the encoding allows.

    Raise BadImage naming what is wrong with it, UnknownEncoding where it is only the encoding.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        _check_size(message)  # an empty message is not one of a rare encoding
        raise UnknownEncoding(
            f'encoding {message.encoding[:32]!r}: publish one of {", ".join(ENCODINGS)}')
    pixels = _pixels(message, layout.channels)
    return Frame(_converted(pixels, message.encoding), layout.rgb)


def decode_any_image(message: Any) -> Frame:
    """
    Show a sensor_msgs/Image as `decode_image` does, or one of 16 bits a channel by the upper 8.

    Such an image is refused where they are nearly black: it has 12 bits or fewer.
    """
    encoding = _WIDE.get(message.encoding)
    if encoding is None:
        return decode_image(message)
    layout = _LAYOUTS[encoding]
    both = _pixels(message, 2 * layout.channels)
    upper = np.ascontiguousarray(both[..., 0 if message.is_bigendian else 1::2])
    if upper[..., :3].max() < _DARK:
        raise BadImage(f'encoding {message.encoding!r}: no value is above {256 * _DARK - 1} of '
                       f'65535: publish {encoding}, or all 16 bits')
    return Frame(_converted(upper, encoding), layout.rgb)


def _check_size(message: Any) -> None:
    """Raise BadImage for a size that no camera has."""
    height, width = message.height, message.width
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f'size {width}x{height}: publish 1 to {MAX_SIDE} pixels a side')


def _pixels(message: Any, size: int) -> np.ndarray:
    """Return an Image's bytes, uint8 (H, W, size), a view; `size` is that of a pixel."""
    _check_size(message)
    height, width, step = message.height, message.width, message.step
    if step < width * size:
        raise BadImage(f'step {step} is less than a row of {width} {message.encoding} pixels, '
                       f'{width * size} bytes')
    if len(message.data) < step * (height - 1) + width * size:
        raise BadImage(f'data has {len(message.data)} bytes, step x height is {step * height}')
    # The last row may come without its padding, so the view ends with its last pixel.
    pixels = np.ndarray((height, width, size), np.uint8, buffer=message.data,
                        strides=(step, size, 1))
    pixels.flags.writeable = False
    return pixels


def _converted(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return BGR or RGB, as the encoding's layout says. Raise BadImage."""
    layout, (height, width) = _LAYOUTS[encoding], pixels.shape[:2]
    if (width % 2 and layout.even) or (height % 2 and 'height' in layout.even):
        raise BadImage(f'size {width}x{height}: {encoding} needs an even {layout.even}')
    if layout.conversion is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, layout.conversion)
    except cv2.error as error:  # too small to be demosaiced
        raise BadImage(f'size {width}x{height}, {encoding}: {first_line(error)}') from error


def decode_compressed(message: Any) -> Frame:
    """
    Unpack a sensor_msgs/CompressedImage, a JPEG or a PNG. Raise BadImage naming the cause.

    Raise UnknownEncoding where its `format` names an encoding that is no picture. A Bayer
    mosaic, which image_transport packs as grey, is demosaiced.
    """
    encoding = _packed_encoding(message.format)
    decoded = _decode(bytes(message.data), (_JPEG, _PNG))
    if decoded.orientation != 1:  # turned, the picture would not fit its CameraInfo
        raise BadImage(f'EXIF orientation {decoded.orientation}: publish the pixels as they are '
                       'to be seen, without it')
    if encoding.startswith('bayer') and decoded.image.mode == 'L':
        return Frame(_converted(np.asarray(decoded.image), encoding), False)
    return Frame(_bgr(decoded.image), False)


def packed_size(message: Any) -> str:
    """Return a compressed image's size for people, 'WIDTHxHEIGHT'; '?' where it tells none."""
    data = memoryview(message.data)
    if _PNG.magic.match(data) and len(data) >= 24:
        return '{}x{}'.format(*struct.unpack('>II', data[16:24]))
    if _JPEG.magic.match(data):
        for marker, at in _jpeg_segments(data):
            if marker in _FRAME_HEADERS and len(data) >= at + 9:
                return '{1}x{0}'.format(*struct.unpack('>HH', data[at + 5:at + 9]))
    return '?'


def _packed_encoding(format_: str) -> str:
    """
    Return the encoding that a CompressedImage's format names: 'ENCODING; jpeg compressed ...'.

    '' where it names none: 'jpeg', for one. Raise UnknownEncoding.
    """
    first, separator, _ = format_.partition(';')
    encoding = first.strip()
    if encoding in _PACKED_ENCODINGS:
        return encoding
    is_packing = re.search('jpe?g|png', encoding, re.IGNORECASE) or not encoding
    if 'compressedDepth' in format_ or _NO_PICTURE.fullmatch(encoding) or (
            separator and not is_packing):
        raise UnknownEncoding(f'format {format_[:64]!r}: publish one of {", ".join(ENCODINGS)}, '
                              'packed as JPEG or PNG')
    return ''


# Encodings whose JPEG is a picture: what image_transport cannot pack as it is becomes bgr8.
_PACKED_ENCODINGS = frozenset(
    [*ENCODINGS, 'rgb16', 'bgr16', 'rgba16', 'bgra16', 'nv12', 'nv21', 'nv24'])
_NO_PICTURE = re.compile(r'[0-9]+[USF]C[0-9]*|mono16|bayer_[a-z]{4}16')


def read_image(path: Path) -> np.ndarray:
    """
    Read an image file as viewers show it: uint8 (H, W, 3) BGR, turned by its EXIF orientation.

    Raise BadImage, whose text names the cause but not the file.
    """
    return read_oriented_image(path)[0]


def read_oriented_image(path: Path) -> tuple[np.ndarray, int]:
    """Read an image as `read_image` does, and the EXIF orientation (1 to 8) that turned it."""
    decoded = _decode(_read(path), _FORMATS)
    pixels = _bgr(decoded.image)
    turn = 1 if decoded.is_turned else decoded.orientation
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.require(pixels, requirements=['C', 'W']), decoded.orientation


def begins_as_picture(path: Path) -> bool:
    """Whether a file begins as one of the kinds that `read_image` reads, whatever its name."""
    head = first_bytes(path, 16)
    return any(f.magic.match(head) for f in _FORMATS)


def first_bytes(path: Path, count: int) -> bytes:
    """Return what a file begins with; nothing where it is no file or cannot be read."""
    try:
        if not path.is_file():  # a pipe might keep us waiting
            return b''
        with path.open('rb') as file:
            return file.read(count)
    except OSError:
        return b''


class LabelImage(NamedTuple):
    """What a label PNG holds."""

    values: np.ndarray           # uint8 (H, W): as stored, not scaled, not looked up in a palette
    palette: np.ndarray | None   # uint8 (values, 3), RGB, where it has one


def read_label_image(path: Path) -> LabelImage:
    """
    Read a label image, a PNG of one channel of up to 8 bits, grey or with a palette.

    Raise BadImage, whose text names the cause but not the file; of colours SeveralChannels.
    """
    image, bits, orientation, _ = _decode(_read(path), (_PNG,))
    _refuse_turned_labels(orientation)
    if image.mode not in ('L', 'P', '1'):
        raise SeveralChannels(f'has channels {image.mode}, where a label image has one, of class '
                              'ids')
    values: np.ndarray = np.asarray(image).astype(np.uint8)
    if image.mode == 'L' and bits < 8:  # it was scaled to all of 0 to 255
        values //= 255 // (2 ** bits - 1)
    palette = image.getpalette() if image.mode == 'P' else None
    return LabelImage(values, None if palette is None else np.array(
        palette, np.uint8).reshape(-1, 3))


def read_label_colors(path: Path) -> np.ndarray:
    """
    Read a label image in colours, a PNG: uint8 (H, W, 3) RGB, of whichever kind it is.

    Transparency is left out. Raise BadImage, whose text names the cause but not the file.
    """
    image, _, orientation, _ = _decode(_read(path), (_PNG,))
    _refuse_turned_labels(orientation)
    return np.ascontiguousarray(_bgr(image)[..., ::-1])


def _refuse_turned_labels(orientation: int) -> None:
    if orientation != 1:
        raise BadImage(f'EXIF orientation {orientation}: write its pixels as they are to be seen, '
                       'without it')


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe, for one, might keep us waiting
            raise BadImage('no file')
        if status.st_size > MAX_FILE_BYTES:
            raise BadImage(f'{status.st_size} bytes: larger than the {MAX_FILE_BYTES} that are '
                           'read')
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadImage('does not exist') from error
    except OSError as error:
        raise BadImage(str(error.strerror)) from error


class _Format(NamedTuple):
    name: str
    magic: re.Pattern[bytes]  # what it begins with
    plugin: type[ImageFile]
    refuse_bad: Callable[[bytes], None] = lambda data: None  # where Pillow does not


class _Decoded(NamedTuple):
    image: Image.Image
    bits: int         # a channel, in the file
    orientation: int  # EXIF's, 1 to 8
    is_turned: bool   # by it, already


def _decode(data: bytes, formats: tuple[_Format, ...]) -> _Decoded:
    """Unpack one whole picture of up to 8 bits a channel. Raise BadImage."""
    kind = next((f for f in _FORMATS if f.magic.match(data)), None)
    if kind not in formats:
        names = ' or '.join(', '.join(f.name for f in formats).rsplit(', ', 1))
        raise BadImage(f'{f"a {kind.name}" if kind else f"{len(data)} bytes"} and no {names} '
                       'image')
    what = f'a {kind.name} of {len(data)} bytes'
    try:
        kind.refuse_bad(data)
        image = kind.plugin(BytesIO(data))
        width, height = image.size
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE
                and width * height <= MAX_PACKED_PIXELS):
            raise BadImage(f'size {width}x{height}: 1 to {MAX_SIDE} pixels a side are read, '
                           f'{MAX_PACKED_PIXELS} in all')
        if (pages := getattr(image, 'n_frames', 1)) > 1:
            raise BadImage(f'a {kind.name} of {pages} pictures: write each to a file of its own')
        bits = _bits(image, data)
        if bits > 8:
            raise UnknownEncoding(f'a {kind.name} of {bits} bits a channel: write one of 8')
        if image.mode not in _MODES:
            raise BadImage(f'a {kind.name} in {image.mode}: write one in RGB or grey')
        orientation = _orientation(image)
        image.load()
        if kind is _JPEG:
            _refuse_unfinished_jpeg(image, data)
        left = _orientation(image)  # a PNG tells it late; a TIFF is turned by some Pillows
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # whatever damaged bytes lead the plugins to
        raise BadImage(f'{what} that is cut short or damaged: {first_line(error)}') from error
    return _Decoded(image, bits, max(orientation, left), left == 1)


_MODES = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'La', 'RGBa')


def _bits(image: ImageFile, data: bytes) -> int:
    """Return how many bits a channel has: Pillow drops those above 8 of some, without a word."""
    if isinstance(image, PngImageFile):
        return data[24]
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(258, (1,))))
    if isinstance(image, PpmImageFile):
        args = image.tile[0][3]
        return 16 if image.mode == 'I' or (isinstance(args, tuple) and args[1] > 255) else 8
    return 8


def _orientation(image: ImageFile) -> int:
    try:
        if isinstance(image, TiffImageFile):
            value = image.tag_v2.get(274, 1)
        else:
            exif = Image.Exif()
            exif.load(image.info.get('exif', b''))
            value = exif.get(274, 1)
    except Exception:  # damaged, it says nothing
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _bgr(image: Image.Image) -> np.ndarray:
    """Return uint8 (H, W, 3) BGR; transparency is left out."""
    width, height = image.size
    image.info.pop('transparency', None)  # convert() would warn of it
    if width * height <= _BAND:
        return _packed_bgr(image)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = _BAND // width
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _packed_bgr(image.crop((0, top, width, bottom)))
    return pixels


_PREMULTIPLIED = {'La': 'LA', 'RGBa': 'RGBA'}
_BAND = 2 ** 22  # pixels at once: Pillow takes memory for them, and again


def _packed_bgr(image: Image.Image) -> np.ndarray:
    if image.mode in _PREMULTIPLIED:  # of which Pillow knows one way on
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode != 'RGB':
        image = image.convert('RGB')
    return np.frombuffer(image.tobytes('raw', 'BGR'), np.uint8).reshape(
        image.height, image.width, 3)


def _refuse_bad_png(data: bytes) -> None:
    """Walk a PNG's chunks to its end, and compare checksums: Pillow looks at some of them."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        kind, end = data[at + 4:at + 8], at + 12 + int.from_bytes(data[at:at + 4], 'big')
        if end > len(data):
            break
        is_critical = not kind[0] & 0x20
        if is_critical and zlib.crc32(view[at + 4:end - 4]) != int.from_bytes(
                data[end - 4:end], 'big'):
            raise BadImage(f'a PNG of {len(data)} bytes that is damaged')
        if kind == b'IEND':
            return
        at = end
    raise BadImage(f'a PNG of {len(data)} bytes that is cut short')


_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
# In a scan FF00 is a byte and FFD0 to FFD7 are restarts; what else follows an FF ends it.
_SCAN_END = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]', re.DOTALL)


def _refuse_bad_jpeg(data: bytes) -> None:
    """Walk a JPEG to its end: a camera's buffer may hold anything behind it."""
    if all(marker != _END for marker, _ in _jpeg_segments(data)):
        raise BadImage(f'a JPEG of {len(data)} bytes that is cut short or damaged')


def _refuse_unfinished_jpeg(image: Image.Image, data: bytes) -> None:
    """
    Refuse a picture whose data lacks a part before its end marker, as after a lost USB packet.

    libjpeg paints what is missing grey, which passes for road. More data changes such a picture,
    and no other; that is tried where the last pixel is of that grey.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    if last not in (_MISSING, (_MISSING,) * 3):
        return
    end = next(at for marker, at in _jpeg_segments(data) if marker == _END)
    scan = data[:end].rstrip(b'\xff')  # of which no whole byte of a scan is left at its end
    more = JpegImageFile(BytesIO(scan + _FILLER + data[end:]))
    if more.tobytes() != image.tobytes():
        raise BadImage(f'a JPEG of {len(data)} bytes that is damaged: its lower part is missing')


_MISSING = 128
# The coefficients of some blocks, whatever the tables; again behind each restart.
_BLOCKS = bytes(range(1, 128))
_FILLER = _BLOCKS + b''.join(bytes((0xFF, restart)) for restart in range(0xD0, 0xD8)) + _BLOCKS


def _jpeg_segments(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """
    Yield each segment's marker, and where it stands; end where there is none.

    What has no length, or no place here, ends the walk: a decoder would take another way, to
    another size.
    """
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # may be repeated
            at += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            return
        yield marker, at
        if at + 4 > len(data):
            return
        at += 2 + max(2, data[at + 2] << 8 | data[at + 3])  # the length counts itself
        if marker == _SCAN:
            found = _SCAN_END.search(data, at)
            if found is None:
                return
            at = found.end() - 2


_JPEG = _Format('JPEG', re.compile(rb'\xff\xd8'), JpegImageFile, _refuse_bad_jpeg)
_PNG = _Format('PNG', re.compile(rb'\x89PNG\r\n\x1a\n'), PngImageFile, _refuse_bad_png)
_FORMATS = (
    _PNG, _JPEG, _Format('BMP', re.compile(b'BM'), BmpImageFile),
    _Format('PNM', re.compile(b'P[1-6]'), PpmImageFile),
    _Format('TIFF', re.compile(rb'II\*\0|MM\0\*|II\+\0|MM\0\+'), TiffImageFile),
    _Format('WebP', re.compile(b'RIFF....WEBP', re.DOTALL), WebPImageFile))
