# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind, whole, cut, padded and odd; and label images."""

from __future__ import annotations

import os
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image

from lednet_ros.images.encodings import (
    MAX_FILE_BYTES,
    BadImage,
    UnknownEncoding,
    decode_compressed,
    read_image,
    read_label_image,
    read_oriented_image,
)

RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (64, 48),
                 interpolation=cv2.INTER_CUBIC)
GREY = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
FAITHFUL = {'PNG': {}, 'BMP': {}, 'PPM': {}, 'TIFF': {}, 'WEBP': {'lossless': True}}


def packed(pixels: Any, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Pack pixels, or a Pillow image, as Pillow does."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def read(directory: Path, data: bytes, name: str = 'a.png') -> np.ndarray:
    """Read these bytes as a file: uint8 (H, W, 3) RGB."""
    (directory / name).write_bytes(data)
    return read_image(directory / name)[..., ::-1]


def refusal(directory: Path, data: bytes) -> str:
    """Return what is said of these bytes as a file and, where they might be one, as a message."""
    with pytest.raises(BadImage) as refused:
        read(directory, data)
    assert '\n' not in str(refused.value)
    if data[:2] in (b'\xff\xd8', b'\x89P'):
        with pytest.raises(BadImage) as again:
            decode_compressed(SimpleNamespace(data=data, format=''))
        assert str(again.value) == str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize('kind', FAITHFUL)
def test_each_kind_of_file_is_read_whatever_its_name_says(tmp_path: Path, kind: str) -> None:
    data = packed(RGB, kind, **FAITHFUL[kind])
    assert np.array_equal(read(tmp_path, data, 'a.jpg'), RGB)
    assert np.array_equal(read(tmp_path, data + bytes(99), 'b.png'), RGB), 'with zeros behind it'


@pytest.mark.parametrize('name', [b'caf\xe9.png', 'ü \n%02d.png'.encode(), b'-a=b;c|d.png'])
def test_any_name_will_do(tmp_path: Path, name: bytes) -> None:
    assert np.array_equal(read(tmp_path, packed(RGB, 'PNG'), os.fsdecode(name)), RGB)


@pytest.mark.parametrize('orientation', [1, 6])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_a_large_picture_is_no_other_and_its_pixels_are_the_caller_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int,
) -> None:
    (tmp_path / 'a.png').write_bytes(packed(RGB, 'PNG', mode, exif=exif(orientation)))
    whole = read_image(tmp_path / 'a.png')
    monkeypatch.setattr('lednet_ros.images.encodings._BAND', 5 * 64)  # the last of 3 rows
    pixels = read_image(tmp_path / 'a.png')
    assert np.array_equal(pixels, whole)
    for array in (whole, pixels):
        assert array.flags.writeable
        assert array.flags.c_contiguous


CUT = {
    'PNG': packed(RGB, 'PNG'),
    'JPEG': packed(RGB, 'JPEG'),
    'progressive JPEG': packed(RGB, 'JPEG', progressive=True),
    'JPEG with a thumbnail': packed(RGB, 'JPEG', exif=exif(1) + packed(RGB[:9], 'JPEG')),
    'BMP': packed(RGB, 'BMP'), 'BMP with a palette': packed(GREY, 'BMP', 'P'),
    'PPM': packed(RGB, 'PPM'), 'PGM': packed(GREY, 'PPM'),
    'plain PGM': b'P2\n4 2\n255\n' + b'100 120 140 160 ' * 2 + b'\n',
    'TIFF': packed(RGB, 'TIFF'),
    'TIFF, deflated': packed(RGB, 'TIFF', compression='tiff_deflate'),
    'TIFF, LZW': packed(RGB, 'TIFF', compression='tiff_lzw'),
    'TIFF, JPEG': packed(RGB, 'TIFF', compression='jpeg'),
    'WebP': packed(RGB, 'WEBP'), 'lossless WebP': packed(RGB, 'WEBP', lossless=True),
}


@pytest.mark.parametrize('kind', CUT)
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    """Half a picture, the rest grey, would be labelled as if it were one."""
    whole = CUT[kind]
    assert read(tmp_path, whole).size
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        assert refusal(tmp_path, whole[:int(len(whole) * share)])


@pytest.mark.parametrize('kind', [k for k in CUT if 'JPEG' in k and 'TIFF' not in k] + ['PNG'])
@pytest.mark.parametrize('stale', [False, True], ids=['zeros', 'stale bytes'])
def test_a_buffer_larger_than_its_picture_does_no_harm_but_a_cut_picture_in_it_does(
    tmp_path: Path, kind: str, stale: bool,
) -> None:
    """usb_cam sends width x height x channels bytes, whatever the JPEG in them takes."""
    whole = CUT[kind]
    rest = np.random.default_rng(1).bytes(9000).replace(b'\xff', b'') if stale else bytes(9000)
    padded = read(tmp_path, whole + rest)
    assert np.array_equal(padded, read(tmp_path, whole))
    message = SimpleNamespace(data=whole + rest, format='jpeg')
    assert np.array_equal(decode_compressed(message).pixels[..., ::-1], padded)
    for share in (0.5, 0.9):
        refusal(tmp_path, whole[:int(len(whole) * share)] + rest)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_a_file_is_turned_as_viewers_show_it_and_a_message_or_label_image_must_not_ask_for_it(
    tmp_path: Path, kind: str, orientation: int,
) -> None:
    """Beside a message is its CameraInfo, beside a label image its image: turned, none fits."""
    upright = RGB.copy()
    upright[:24, :32] = 255  # the corner at the top left
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
              5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: np.rot90(upright)[:, ::-1],
              8: np.rot90(upright, -1)}[orientation]
    if orientation == 7:
        stored = upright[::-1, ::-1].swapaxes(0, 1)
    options: dict[str, Any] = {
        'TIFF': {'tiffinfo': {274: orientation}}, 'WEBP': {'lossless': True}}.get(kind, {})
    data = packed(np.ascontiguousarray(stored), kind, exif=exif(orientation), **options)
    path = tmp_path / 'a'
    path.write_bytes(data)
    pixels, found = read_oriented_image(path)
    assert found == orientation
    assert pixels.shape == upright.shape
    assert np.abs(pixels[..., ::-1].astype(int) - upright).mean() < 8
    if kind in ('JPEG', 'PNG'):
        message = SimpleNamespace(data=data, format='jpeg')
        if orientation == 1:
            assert decode_compressed(message).pixels.shape == upright.shape
        else:
            with pytest.raises(BadImage, match=rf'EXIF orientation {orientation}: publish the'):
                decode_compressed(message)
    if kind == 'PNG' and orientation != 1:
        path.write_bytes(packed(GREY, 'PNG', exif=exif(orientation)))
        with pytest.raises(BadImage, match=rf'EXIF orientation {orientation}: write its pixels'):
            read_label_image(path)


@pytest.mark.parametrize('value', [0, 9, 65535])
def test_an_exif_orientation_that_means_nothing_turns_nothing(tmp_path: Path, value: int) -> None:
    data = packed(RGB, 'PNG', exif=exif(value))
    assert np.array_equal(read(tmp_path, data), RGB)


@pytest.mark.parametrize('rest', [
    b'MM\0*\xff\xff\xff\xff', b'MM\0*\0\0\0\x08\0\x01\x01\x12', b'no'])
def test_a_damaged_exif_is_no_reason_to_lose_the_picture(tmp_path: Path, rest: bytes) -> None:
    data = packed(RGB, 'PNG', exif=b'Exif\0\0' + rest)
    assert np.array_equal(read(tmp_path, data), RGB)


@pytest.mark.parametrize(('data', 'expected'), [
    (packed(RGB, 'JPEG', 'CMYK'), RGB),
    (packed(GREY, 'PNG', 'LA'), np.repeat(GREY[..., None], 3, 2)),
    (packed(RGB, 'PNG', 'RGBA'), RGB),
    (packed(GREY > 99, 'PNG'), np.repeat((GREY > 99)[..., None] * np.uint8(255), 3, 2)),
    (packed(Image.fromarray(GREY % 4 * np.uint8(85)), 'PNG', bits=2),
     np.repeat(GREY[..., None] % 4 * 85, 3, 2)),
    (packed(GREY, 'PNG', 'P', transparency=b'\0\1'), np.repeat(GREY[..., None], 3, 2)),
    (b'P5 64 48 15\n' + (GREY % 16).tobytes(), np.repeat(GREY[..., None] % 16 * 17, 3, 2)),
    (packed(RGB, 'TIFF', compression='tiff_lzw', tiffinfo={322: 16, 323: 16}), RGB),
    pytest.param(
        packed(GREY, 'TIFF', 'LA').replace(
            b'\x52\x01\3\0\1\0\0\0\2', b'\x52\x01\3\0\1\0\0\0\1'),
        np.repeat(GREY[..., None], 3, 2), marks=pytest.mark.skipif(
            int(PIL.__version__.split('.')[0]) < 13, reason='older Pillows refuse it')),
], ids=['CMYK', 'grey and alpha', 'alpha', '1 bit', '2 bits', 'palette and transparency',
        '4 bits', 'tiled', 'premultiplied'])
def test_whatever_8_bits_mean_comes_out_as_colour(
    tmp_path: Path, data: bytes, expected: np.ndarray,
) -> None:
    assert np.abs(read(tmp_path, data).astype(int) - expected).mean() < 6


def tiff_of_16_bits() -> bytes:
    return cv2.imencode('.tiff', np.full((4, 6, 3), 4000, np.uint16))[1].tobytes()


@pytest.mark.parametrize('data', [
    packed(GREY.astype(np.uint16) * 256, 'PNG'),
    cv2.imencode('.png', np.full((4, 6, 3), 4000, np.uint16))[1].tobytes(),
    cv2.imencode('.png', np.full((4, 6, 4), 4000, np.uint16))[1].tobytes(),
    packed(GREY.astype(np.uint16), 'TIFF'), tiff_of_16_bits(),
    packed(GREY.astype(np.float32), 'TIFF'), packed(GREY.astype(np.int32), 'TIFF'),
    b'P6 6 4 4095\n' + bytes(6 * 4 * 6), b'P5 6 4 65535\n' + bytes(6 * 4 * 2),
], ids=['grey PNG', 'colour PNG', 'PNG with alpha', 'grey TIFF', 'colour TIFF', 'float TIFF',
        '32 bit TIFF', 'PPM', 'PGM'])
def test_more_than_8_bits_are_refused_as_nobody_knows_how_bright_they_are(
    tmp_path: Path, data: bytes,
) -> None:
    """12 bits in 16, divided by 256, are nearly black."""
    said = refusal(tmp_path, data)
    assert re.search('of (16|32) bits a channel: write one of 8$', said)
    with pytest.raises(UnknownEncoding):
        read(tmp_path, data)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
        '>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(
            b'IEND', b'')


@pytest.mark.parametrize(('data', 'words'), [
    (b'', '0 bytes and no PNG, JPEG, BMP, PNM, TIFF or WebP image'),
    (packed(RGB, 'GIF'), 'bytes and no PNG, JPEG'),
    (b'P6 99999 99999 255\n', 'size 99999x99999: 1 to 16384 pixels a side are read'),
    (b'P6 16000 16000 255\n', 'size 16000x16000: .*67108864 in all'),
    (packed(Image.new('1', (9000, 9000)), 'TIFF', compression='group4'), 'size 9000x9000'),
    (packed(Image.fromarray(RGB), 'PNG', save_all=True,
            append_images=[Image.fromarray(255 - RGB)]),
     'a PNG of 2 pictures: write each to a file of its own'),
    (packed(Image.fromarray(RGB), 'WEBP', save_all=True,
            append_images=[Image.fromarray(255 - RGB)]), 'a WebP of 2 pictures'),
    (packed(Image.fromarray(RGB), 'TIFF', save_all=True,
            append_images=[Image.fromarray(255 - RGB)]), 'a TIFF of 2 pictures'),
    (packed(RGB, 'TIFF', 'LAB'), 'a TIFF in LAB: write one in RGB or grey'),
    (packed(RGB, 'PNG').replace(b'IDAT', b'IDAX'), 'a PNG of .* bytes that is'),
], ids=['nothing', 'GIF', 'huge', 'a bomb', 'a bomb of 1 kB', 'animated PNG', 'animated WebP',
        'pages', 'LAB', 'a damaged chunk'])
def test_what_is_no_one_picture_is_refused_naming_the_cause(
    tmp_path: Path, data: bytes, words: str,
) -> None:
    (tmp_path / 'a.png').write_bytes(data)
    with pytest.raises(BadImage, match=words):
        read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('data', [packed(RGB[:20], 'PNG'), packed(GREY[:20], 'PNG', 'P')],
                         ids=['colour', 'palette'])
def test_a_png_of_which_a_bit_was_changed_is_refused_or_the_same(
    tmp_path: Path, data: bytes,
) -> None:
    whole = read(tmp_path, data)
    for at in range(8, len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            assert np.array_equal(read(tmp_path, bytes(changed)), whole), at
        except BadImage as error:
            assert 'a PNG of' in str(error)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'progressive JPEG', 'JPEG with a thumbnail'])
def test_the_end_of_a_file_has_to_be_there(tmp_path: Path, kind: str) -> None:
    """A copy that was broken off lacks more than a few bytes only by luck."""
    for count in range(1, 14):
        assert 'that is cut short' in refusal(tmp_path, CUT[kind][:-count])


def test_what_is_no_file_is_refused_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'link.png').symlink_to('nowhere.png')
    (tmp_path / 'directory.png').mkdir()
    with open(tmp_path / 'large.png', 'wb') as file:
        file.truncate(MAX_FILE_BYTES + 1)
    for name, words in (('pipe', 'no file'), ('link', 'does not exist'), ('directory', 'no file'),
                        ('large', 'larger than the')):
        with pytest.raises(BadImage, match=words):
            read_image(tmp_path / f'{name}.png')


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('has_palette', [False, True], ids=['grey', 'palette'])
def test_a_label_image_s_values_are_what_its_file_holds(
    tmp_path: Path, bits: int, has_palette: bool,
) -> None:
    """Pillow shows 2 bits of grey as 0, 85, 170 and 255."""
    values = GREY & (2 ** bits - 1)
    path = tmp_path / 'a.png'
    path.write_bytes(png_of(values, bits, has_palette))
    found = read_label_image(path)
    assert found.values.dtype == np.uint8
    assert np.array_equal(found.values, values)
    if has_palette:
        assert found.palette is not None
        assert found.palette[1].tolist() == [254, 1, 7]
    else:
        assert found.palette is None


def png_of(values: np.ndarray, bits: int, has_palette: bool) -> bytes:
    """Write a PNG by hand: Pillow writes not every depth."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    height, width = values.shape
    rows = np.unpackbits(values[..., None], axis=2)[..., 8 - bits:].reshape(height, -1)
    data = np.pad(np.packbits(rows, axis=1), ((0, 0), (1, 0))).tobytes()
    palette = bytes(v for i in range(2 ** bits) for v in (255 - i, i, 7))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
        '>IIBBBBB', width, height, bits, 3 if has_palette else 0, 0, 0, 0)) + (
            chunk(b'PLTE', palette) if has_palette else b'') + chunk(
            b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')


@pytest.mark.parametrize(('data', 'words'), [
    (packed(RGB, 'PNG'), 'has channels RGB, where a label image has one, of class ids'),
    (packed(GREY, 'PNG', 'LA'), 'has channels LA'),
    (packed(GREY.astype(np.uint16), 'PNG'), 'a PNG of 16 bits a channel'),
    (packed(GREY, 'JPEG'), 'a JPEG and no PNG image'),
    (packed(GREY, 'PNG')[:-30], 'a PNG of .* bytes that is cut short'),
], ids=['colours', 'alpha', '16 bits', 'JPEG', 'cut'])
def test_what_holds_no_class_ids_is_no_label_image(
    tmp_path: Path, data: bytes, words: str,
) -> None:
    (tmp_path / 'a.png').write_bytes(data)
    with pytest.raises(BadImage, match=words):
        read_label_image(tmp_path / 'a.png')
