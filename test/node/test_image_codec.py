# SPDX-License-Identifier: Apache-2.0
import array
import importlib.util

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='needs ROS 2')

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lednet_ros.node.image_codec import BadImage, decode_image, encode_image

BGR = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
PICTURES = {
    'bgr8': BGR,
    'rgb8': BGR[..., ::-1],
    'bgra8': cv2.cvtColor(BGR, cv2.COLOR_BGR2BGRA),
    'rgba8': cv2.cvtColor(BGR, cv2.COLOR_BGR2RGBA),
    'mono8': cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY),
}


def make_image(encoding: str, padding: int = 0) -> Image:
    rows = np.ascontiguousarray(PICTURES[encoding]).reshape(4, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(height=4, width=6, encoding=encoding, step=padded.shape[1],
                 data=array.array('B', padded.tobytes()))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', PICTURES)
def test_the_picture_is_seen_whatever_its_encoding_and_padding(encoding, padding) -> None:
    frame = decode_image(make_image(encoding, padding))
    bgr = frame.pixels[..., ::-1] if frame.rgb else frame.pixels
    expected = BGR if encoding != 'mono8' else np.repeat(PICTURES['mono8'][..., None], 3, 2)
    assert np.array_equal(bgr, expected)


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8'])
def test_three_channel_pictures_are_not_copied(encoding) -> None:
    message = make_image(encoding)
    assert np.shares_memory(decode_image(message).pixels, np.frombuffer(message.data, np.uint8))


def test_the_last_row_may_come_without_its_padding() -> None:
    message = make_image('bgr8', padding=5)
    message.data = message.data[:-5]
    assert np.array_equal(decode_image(message).pixels, BGR)


@pytest.mark.parametrize(('change', 'words'), [
    ({'height': 0}, 'size 6x0: publish 1 to 16384 pixels a side'),
    ({'width': 0}, 'size 0x4'),
    ({'width': 2**31}, 'size 2147483648x4'),
    ({'step': 17}, 'step 17 is less than a row of 6 bgr8 pixels, 18 bytes'),
    ({'height': 5}, 'data has 72 bytes, step x height is 90'),
    ({'data': array.array('B')}, 'data has 0 bytes, step x height is 72'),
    ({'step': 2**32 - 1}, 'data has 72 bytes'),
], ids=['no rows', 'no columns', 'absurd', 'short step', 'short data', 'no data', 'huge step'])
def test_a_bad_image_is_refused_naming_the_cause(change, words) -> None:
    message = make_image('bgr8')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadImage, match=words):
        decode_image(message)


@pytest.mark.skipif(importlib.util.find_spec('cv_bridge') is not None, reason='has cv_bridge')
def test_an_encoding_that_needs_cv_bridge_is_named_where_it_is_missing() -> None:
    message = make_image('bgr8')
    message.encoding = '32FC1'
    with pytest.raises(BadImage, match="encoding '32FC1' needs cv_bridge, which is not installed"):
        decode_image(message)


@pytest.mark.skipif(importlib.util.find_spec('cv_bridge') is None, reason='needs cv_bridge')
def test_other_encodings_come_through_cv_bridge() -> None:
    message = Image(height=4, width=6, encoding='mono16', step=12,
                    data=array.array('B', np.full((4, 6), 25700, np.uint16).tobytes()))
    assert np.abs(decode_image(message).pixels.astype(int) - 100).max() <= 1


@pytest.mark.parametrize('pixels', [
    np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(72, dtype=np.uint8).reshape(4, 6, 3),
    np.arange(48, dtype=np.uint8).reshape(4, 12)[:, ::2]], ids=['mono', 'colour', 'strided'])
def test_an_encoded_picture_has_unpadded_rows_and_the_header_it_was_given(pixels) -> None:
    header = Header(frame_id='front')
    header.stamp.sec, header.stamp.nanosec = 12, 345
    message = encode_image(pixels, 'any8', header)
    assert message.header == header
    assert (message.height, message.width) == (4, 6)
    assert message.step * 4 == len(message.data) == pixels.size
    assert bytes(message.data) == pixels.tobytes()


@settings(max_examples=300, deadline=None)
@given(height=st.integers(0, 2**32 - 1), width=st.integers(0, 2**32 - 1),
       step=st.integers(0, 2**32 - 1), data=st.binary(max_size=200),
       encoding=st.sampled_from([*PICTURES, '', '8UC3', 'bayer_rggb8', 'ü' * 40]),
       small=st.booleans())
def test_no_message_does_more_than_be_refused(height, width, step, data, encoding, small) -> None:
    if small:  # else hardly any would be a picture
        height, width, step = height % 8, width % 8, step % 64
    message = Image(height=height, width=width, step=step, encoding=encoding,
                    data=array.array('B', data))
    try:
        frame = decode_image(message)
    except BadImage as error:
        assert '\n' not in str(error)
    else:
        assert frame.pixels.shape == (height, width, 3)
        frame.pixels.sum()  # every byte of the view is there to be read
