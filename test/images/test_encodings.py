# SPDX-License-Identifier: Apache-2.0
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lednet_ros.images.encodings import (
    ENCODINGS,
    BadImage,
    UnknownEncoding,
    decode_any_image,
    decode_compressed,
    decode_image,
    packed_size,
)

BGR = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
GREY = cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY)
AS_GREY = np.repeat(GREY[..., None], 3, 2)
PICTURES = {
    'bgr8': (BGR, BGR),
    '8UC3': (BGR, BGR),
    'rgb8': (BGR[..., ::-1], BGR),
    'bgra8': (cv2.cvtColor(BGR, cv2.COLOR_BGR2BGRA), BGR),
    'rgba8': (cv2.cvtColor(BGR, cv2.COLOR_BGR2RGBA), BGR),
    'mono8': (GREY, AS_GREY),
    '8UC1': (GREY, AS_GREY),
}


def make_image(pixels: np.ndarray, encoding: str, padding: int = 0) -> SimpleNamespace:
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=padded.shape[1],
        data=padded.tobytes())


def compressed(data: bytes, format_: str = 'jpeg') -> SimpleNamespace:
    return SimpleNamespace(data=data, format=format_)


def pack(kind: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(kind, pixels)[1].tobytes()


def bgr_of(frame) -> np.ndarray:
    return frame.pixels[..., ::-1] if frame.rgb else frame.pixels


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', PICTURES)
def test_the_picture_is_seen_whatever_its_encoding_and_padding(encoding, padding) -> None:
    pixels, expected = PICTURES[encoding]
    frame = decode_image(make_image(pixels, encoding, padding))
    assert np.array_equal(bgr_of(frame), expected)


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8'])
def test_three_channel_pictures_are_not_copied(encoding) -> None:
    message = make_image(PICTURES[encoding][0], encoding)
    frame = decode_image(message)
    assert np.shares_memory(frame.pixels, np.frombuffer(message.data, np.uint8))
    assert not frame.pixels.flags.writeable


def test_the_last_row_may_come_without_its_padding() -> None:
    message = make_image(BGR, 'bgr8', padding=5)
    message.data = message.data[:-5]
    assert np.array_equal(decode_image(message).pixels, BGR)


@pytest.mark.parametrize(('encoding', 'pattern'), [
    ('bayer_rggb8', 'RGGB'), ('bayer_bggr8', 'BGGR'), ('bayer_gbrg8', 'GBRG'),
    ('bayer_grbg8', 'GRBG')])
def test_a_bayer_mosaic_of_one_colour_comes_out_in_it(encoding, pattern) -> None:
    cell = np.array([{'R': 200, 'G': 100, 'B': 50}[c] for c in pattern], np.uint8).reshape(2, 2)
    frame = decode_image(make_image(np.tile(cell, (4, 5)), encoding))
    assert frame.pixels.shape == (8, 10, 3)
    assert (bgr_of(frame) == (50, 100, 200)).all()


@pytest.mark.parametrize(('encoding', 'order'), [
    ('yuv422', 'UYVY'), ('uyvy', 'UYVY'), ('yuv422_yuy2', 'YUYV'), ('yuyv', 'YUYV')])
def test_yuv_red_comes_out_red(encoding, order) -> None:
    """ITU-R BT.601: pure red is Y 82, U 90, V 240."""
    red = np.array([{'Y': 82, 'U': 90, 'V': 240}[c] for c in order], np.uint8).reshape(1, 2, 2)
    frame = decode_image(make_image(np.tile(red, (4, 3, 1)), encoding))
    assert frame.pixels.shape == (4, 6, 3)
    assert np.abs(bgr_of(frame).astype(int) - (0, 0, 255)).max() <= 2


@pytest.mark.parametrize(('change', 'words'), [
    ({'height': 0}, 'size 6x0: publish 1 to 16384 pixels a side'),
    ({'width': 0}, 'size 0x4'),
    ({'width': 2**31}, 'size 2147483648x4'),
    ({'step': 17}, 'step 17 is less than a row of 6 bgr8 pixels, 18 bytes'),
    ({'height': 5}, 'data has 72 bytes, step x height is 90'),
    ({'data': b''}, 'data has 0 bytes, step x height is 72'),
    ({'step': 2**32 - 1}, 'data has 72 bytes'),
    ({'encoding': 'yuyv', 'width': 5}, 'size 5x4: yuyv needs an even width'),
    ({'encoding': 'bayer_rggb8', 'height': 3}, 'needs an even width and height'),
], ids=['no rows', 'no columns', 'absurd', 'short step', 'short data', 'no data', 'huge step',
        'odd yuv', 'odd bayer'])
def test_a_bad_image_is_refused_naming_the_cause(change, words) -> None:
    message = make_image(BGR, 'bgr8')
    vars(message).update(change)
    with pytest.raises(BadImage, match=words):
        decode_image(message)


WIDE = {'mono16': GREY, 'rgb16': BGR[..., ::-1], 'bgr16': BGR,
        'rgba16': cv2.cvtColor(BGR, cv2.COLOR_BGR2RGBA),
        'bgra16': cv2.cvtColor(BGR, cv2.COLOR_BGR2BGRA), 'bayer_rggb16': GREY}


@pytest.mark.parametrize('padding', [0, 1, 4])
@pytest.mark.parametrize('order', ['<', '>'], ids=['little endian', 'big endian'])
@pytest.mark.parametrize('encoding', WIDE)
def test_of_16_bits_the_upper_8_are_seen_whatever_their_order_and_padding(
    encoding, order, padding,
) -> None:
    pixels = WIDE[encoding].astype(f'{order}u2') * 256 + 77
    message = make_image(pixels.astype(f'{order}u2').view(np.uint8), encoding, padding)
    message.width, message.is_bigendian = 6, int(order == '>')
    narrow = decode_image(make_image(WIDE[encoding], encoding.replace('16', '8')))
    assert np.array_equal(bgr_of(decode_any_image(message)), bgr_of(narrow))
    with pytest.raises(UnknownEncoding):
        decode_image(message)  # a bag's may be depth
    message.step = message.width  # as if of 8 bits
    with pytest.raises(BadImage, match='step 6 is less than a row of 6'):
        decode_any_image(message)


@pytest.mark.parametrize(('brightest', 'is_refused'), [(0, True), (4095, True), (4096, False)])
def test_12_bits_in_16_are_refused_as_they_are_nearly_black(brightest, is_refused) -> None:
    message = make_image(np.full((4, 6), brightest, '<u2').view(np.uint8), 'mono16')
    message.width, message.is_bigendian = 6, 0
    colour = make_image(np.full((4, 6, 4), (brightest, 0, 0, 65535), '<u2').view(np.uint8),
                        'rgba16')
    colour.width, colour.is_bigendian = 6, 0
    if is_refused:
        with pytest.raises(BadImage, match="encoding 'rgba16': no value is"):
            decode_any_image(colour)
        with pytest.raises(BadImage, match="encoding 'mono16': no value is above 4095 of 65535"):
            decode_any_image(message)
    else:
        assert (decode_any_image(message).pixels == 16).all()


def test_an_unknown_encoding_is_told_apart_and_named() -> None:
    with pytest.raises(UnknownEncoding, match=r"encoding '32FC1': publish one of bgr8, rgb8"):
        decode_image(make_image(BGR, '32FC1'))


@pytest.mark.parametrize('kind', ['.png', '.jpg'])
def test_a_compressed_picture_is_unpacked(kind) -> None:
    smooth = cv2.resize(BGR, (60, 40), interpolation=cv2.INTER_LINEAR)
    message = compressed(pack(kind, smooth))
    frame = decode_compressed(message)
    assert packed_size(message) == '60x40'
    assert not frame.rgb
    assert np.abs(frame.pixels.astype(int) - smooth).mean() < (5 if kind == '.jpg' else 1e-9)


@pytest.mark.parametrize('pixels', [
    GREY, cv2.cvtColor(BGR, cv2.COLOR_BGR2BGRA)], ids=['grey', 'with alpha'])
def test_any_8_bit_png_comes_out_as_8_bit_colour(pixels) -> None:
    frame = decode_compressed(compressed(pack('.png', pixels), 'png'))
    assert frame.pixels.dtype == np.uint8
    assert np.array_equal(frame.pixels, BGR if pixels.ndim == 3 else AS_GREY)


@pytest.mark.parametrize('format_', [
    '', 'jpeg', 'png', 'JPEG', 'jpg', 'mjpeg', 'image/png', 'video', 'rgb8', 'jpeg; quality=80',
    'bgr8; jpeg compressed bgr8', 'rgb8; png compressed bgr8', 'mono8; jpeg compressed ',
    '8UC3; png compressed ', 'bayer_rggb8; jpeg compressed bgr8', 'yuv422; jpeg compressed bgr8',
    'rgb16; jpeg compressed bgr8', ' bgr8 ;jpeg', 'bgr8;', ';', 'ü' * 99])
def test_a_format_that_tells_of_a_picture_or_of_nothing_lets_the_bytes_speak(format_) -> None:
    frame = decode_compressed(compressed(pack('.png', BGR), format_))
    assert np.array_equal(frame.pixels, BGR)


@pytest.mark.parametrize('format_', [
    '16UC1; png compressed ', '32FC1; png compressed ', 'mono16; png compressed ', '16UC1',
    'mono16', '16SC1; png', '8UC2; png compressed', '64FC1; jpeg compressed bgr8',
    '16uc1; png compressed ',
    'bayer_rggb16; jpeg compressed ', 'depth; png compressed ', '16UC1; compressedDepth png',
    '32FC1; compressedDepth', 'compressedDepth', 'png compressedDepth'])
@pytest.mark.parametrize('pixels', [GREY, BGR], ids=['grey', 'colour'])
def test_a_format_that_tells_of_other_data_is_believed(format_, pixels) -> None:
    """Depth packed as a grey PNG looks like a picture."""
    with pytest.raises(UnknownEncoding, match=r'^format .*: publish one of bgr8, .* or PNG$'):
        decode_compressed(compressed(pack('.png', pixels), format_))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('kind', ['.png', '.jpg'])
def test_a_packed_bayer_mosaic_is_demosaiced(pattern, kind) -> None:
    """image_transport packs it as one channel, as it is."""
    cell = np.array([{'r': 200, 'g': 100, 'b': 50}[c] for c in pattern], np.uint8).reshape(2, 2)
    format_ = f'bayer_{pattern}8; {"jpeg" if kind == ".jpg" else "png"} compressed '
    packed = cv2.imencode(kind, np.tile(cell, (8, 8)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    frame = decode_compressed(compressed(packed.tobytes(), format_))
    assert np.abs(bgr_of(frame).astype(int) - (50, 100, 200)).max() < 4
    odd = compressed(pack(kind, np.tile(cell, (4, 5))[:-1]), format_)
    with pytest.raises(BadImage, match=rf'size 10x7: bayer_{pattern}8 needs an even width and h'):
        decode_compressed(odd)


def test_bytes_behind_a_jpeg_s_end_do_no_harm() -> None:
    """Webcams pad their frames."""
    jpeg = pack('.jpg', BGR)
    assert np.array_equal(decode_compressed(compressed(jpeg + bytes(1000))).pixels,
                          decode_compressed(compressed(jpeg)).pixels)


JPEGS = {
    'plain': [], 'quality 40': [cv2.IMWRITE_JPEG_QUALITY, 40],
    'optimized': [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    '4:4:4': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]}


@pytest.mark.parametrize('flags', JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize('is_grey', [False, True], ids=['colour', 'grey'])
@pytest.mark.parametrize(('begin', 'end'), [(0.3, 0.4), (0.5, 0.95), (0.8, 0.85)])
def test_a_jpeg_that_lacks_a_part_inside_is_refused(flags, is_grey, begin, end) -> None:
    """libjpeg makes its lower part grey, which a network takes for road."""
    rng = np.random.default_rng(0)
    view = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (203, 149))
    jpeg = cv2.imencode('.jpg', view[..., 0] if is_grey else view, flags)[1].tobytes()
    decode_compressed(compressed(jpeg))
    begin, end = (jpeg.index(b'\xff\xda') + int(part * (len(jpeg) - jpeg.index(b'\xff\xda')))
                  for part in (begin, end))
    with pytest.raises(BadImage, match=r'a JPEG of .* that is damaged: its lower part is missing'):
        decode_compressed(compressed(jpeg[:begin] + jpeg[end:]))


@pytest.mark.parametrize('flags', [[], [cv2.IMWRITE_JPEG_RST_INTERVAL, 13]],
                         ids=['plain', 'with restarts'])
@pytest.mark.parametrize('ending', [b'\xff\xd9', b'\xff\xff\xd9'], ids=['', 'padded'])
def test_a_jpeg_that_ends_early_is_refused_wherever_that_is(flags, ending) -> None:
    """Also behind an FF, which with what follows it would be a marker."""
    rng = np.random.default_rng(0)
    view = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (203, 149))
    jpeg = cv2.imencode('.jpg', view, flags)[1].tobytes()
    begin = jpeg.index(b'\xff\xda') + 14
    ends = {begin + int(part * (len(jpeg) - begin)) for part in np.linspace(0.1, 0.9, 20)}
    ends |= {i + 1 for i in range(begin, len(jpeg) - 40) if jpeg[i:i + 2] == b'\xff\0'}
    assert len(ends) > 20, 'some behind an FF'
    for end in ends:
        with pytest.raises(BadImage, match='lower part is missing'):
            decode_compressed(compressed(jpeg[:end] + ending))
    assert decode_compressed(compressed(jpeg[:-2] + ending)).pixels.shape == (149, 203, 3)


@pytest.mark.parametrize('flags', JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize('shape', [(24, 32), (24, 32, 3), (149, 203, 3)])
def test_a_jpeg_that_is_grey_below_is_read(flags, shape) -> None:
    view = np.full(shape, 128, np.uint8)
    view[:10] = 200
    for pixels in (view, np.full(shape, 128, np.uint8)):
        jpeg = cv2.imencode('.jpg', pixels, flags)[1].tobytes()
        assert (decode_compressed(compressed(jpeg + bytes(40))).pixels[-1, -1] == 128).all()


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
        '>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(
            b'IEND', b'')


@pytest.mark.parametrize(('data', 'words'), [
    (b'', '0 bytes and no JPEG or PNG image'),
    (b'GIF89a' + bytes(50), '56 bytes and no JPEG or PNG image'),
    (pack('.jpg', BGR)[:-40], 'a JPEG of .* bytes that is cut short'),
    (b'\xff\xd8\xff\xd9', 'a JPEG of 4 bytes'),
    (pack('.png', BGR)[:-20], 'a PNG of .* bytes that is cut short'),
    (png_of_size(60000, 60000), 'size 60000x60000: 1 to 16384 pixels a side'),
    (png_of_size(16000, 16000), 'size 16000x16000: .* 67108864 in all'),
    (png_of_size(40, 30), 'a PNG of 65 bytes that is cut short or damaged'),
], ids=['nothing', 'another format', 'cut jpeg', 'empty jpeg', 'cut png', 'absurd', 'a bomb',
        'hollow'])
def test_what_is_no_picture_is_refused_naming_the_cause(data, words) -> None:
    with pytest.raises(BadImage, match=words) as refused:
        decode_compressed(compressed(data))
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize('marker', [b'\xff\x01', b'\xff\xd0', b'\xff\x00'])
def test_a_jpeg_that_hides_its_size_is_refused_before_anything_is_allocated(marker) -> None:
    """The decoder takes no length after these; read with one, they lead to a small size."""
    jpeg = pack('.jpg', BGR)
    at = jpeg.index(b'\xff\xc0')
    small = jpeg[at:at + 19]
    huge = jpeg[2:at + 5] + struct.pack('>HH', 30000, 30000) + jpeg[at + 9:]
    behind = 2 + 2 + int.from_bytes(huge[:2], 'big')  # where a length would lead
    data = (jpeg[:2] + marker + huge).ljust(behind, b'\0') + small + b'\xff\xd9'
    with pytest.raises(BadImage, match=r'a JPEG of \d+ bytes that is cut short or damaged'):
        decode_compressed(compressed(data))


@settings(max_examples=300, deadline=None)
@given(height=st.integers(0, 2**32 - 1), width=st.integers(0, 2**32 - 1),
       step=st.integers(0, 2**32 - 1), data=st.binary(max_size=200),
       encoding=st.sampled_from([*ENCODINGS, '', 'ü' * 40]), small=st.booleans())
def test_no_image_does_more_than_be_refused(height, width, step, data, encoding, small) -> None:
    if small:  # else hardly any would be a picture
        height, width, step = height % 8, width % 8, step % 64
    message = SimpleNamespace(height=height, width=width, step=step, encoding=encoding, data=data)
    try:
        frame = decode_image(message)
    except BadImage as error:
        assert '\n' not in str(error)
    else:
        assert frame.pixels.shape == (height, width, 3)
        frame.pixels.sum()  # every byte of the view is there to be read


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(['.png', '.jpg', '']), cut=st.integers(0, 100),
       flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=6),
       noise=st.binary(max_size=100))
def test_no_compressed_image_does_more_than_be_refused(kind, cut, flips, noise) -> None:
    data = bytearray(pack(kind, BGR) if kind else noise)
    for at, bits in flips:
        if data:
            data[at % len(data)] ^= bits
    message = compressed(bytes(data[:len(data) - cut]))
    try:
        frame = decode_compressed(message)
    except BadImage as error:
        assert '\n' not in str(error)
    else:
        assert packed_size(message) == f'{frame.pixels.shape[1]}x{frame.pixels.shape[0]}'
