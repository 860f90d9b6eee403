# SPDX-License-Identifier: Apache-2.0
import array
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.images.encodings import UnknownEncoding
from lednet_ros.nodes.shared.image_messages import (
    BadImage,
    cv_bridge_problem,
    decode,
    decode_mono8,
    encode_image,
    size_and_encoding,
)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1', '8UC4', 'nv12', 'yuv420', ''])
def test_an_encoding_that_is_no_picture_is_named_with_what_would_be(encoding) -> None:
    with pytest.raises(BadImage, match=f"encoding '{encoding}': publish one of bgr8, .*yuyv"):
        decode(Image(height=4, width=6, encoding=encoding, step=24, data=bytes(96)))


def test_images_of_16_bits_come_out_as_their_upper_8() -> None:
    image = encode_image(np.full((4, 12), 100, np.uint8), 'mono16', Header())
    image.width = 6
    assert (decode(image).pixels == 100).all()


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8'])
def test_a_colour_image_as_it_is_received_is_not_copied(encoding) -> None:
    """What `Segmenter` then writes into the network's input is the only copy of the pixels."""
    sent = encode_image(np.zeros((4, 6, 3), np.uint8), encoding, Header())
    received = deserialize_message(serialize_message(sent), Image)
    assert np.shares_memory(decode(received).pixels, np.frombuffer(received.data, np.uint8))


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


def test_raw_and_compressed_images_are_told_apart() -> None:
    pixels = np.full((4, 6, 3), 100, np.uint8)
    raw = encode_image(pixels, 'rgb8', Header())
    png = CompressedImage(format='png', data=cv2.imencode('.png', pixels)[1].tobytes())
    assert size_and_encoding(raw) == ('6x4', 'rgb8')
    assert size_and_encoding(png) == ('6x4', 'png')
    assert np.array_equal(decode(raw).pixels, decode(png).pixels)


def test_labels_are_shown_as_they_are_padded_rows_too() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(decode_mono8(encode_image(labels, 'mono8', Header())), labels)
    padded = np.full((3, 6), 99, np.uint8)
    padded[:, :4] = labels
    message = Image(height=3, width=4, encoding='8UC1', step=6,
                    data=array.array('B', padded.tobytes()))
    assert np.array_equal(decode_mono8(message), labels)


@pytest.mark.parametrize(('change', 'words'), [
    ({'encoding': 'mono16'}, "encoding 'mono16': publish mono8"),
    ({'step': 3}, 'step 3 and 12 bytes'), ({'height': 4}, '4x4 mono8'), ({'width': 0}, '0x3'),
    ({'data': b''}, '0 bytes'),
], ids=['encoding', 'step', 'height', 'width', 'data'])
def test_label_images_that_do_not_hold_are_named(change, words) -> None:
    fields = {'height': 3, 'width': 4, 'encoding': 'mono8', 'step': 4, 'data': bytes(12)}
    with pytest.raises(BadImage, match=words):
        decode_mono8(Image(**{**fields, **change}))


BRIDGE = """
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        import numpy as np
        if message.encoding == 'nv21':
            return np.full((message.height, message.width, 3), 9, np.uint8)
        raise AttributeError('newbyteorder')
"""


@pytest.fixture
def bridge(tmp_path, monkeypatch):
    """A cv_bridge whose C++ part was built for a numpy: give its folder a file to say which."""
    package = tmp_path / 'cv_bridge'
    (package / 'boost').mkdir(parents=True)
    (package / '__init__.py').write_text(BRIDGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)
    cv_bridge_problem.cache_clear()
    yield package / 'boost' / 'cv_bridge_boost.so'
    cv_bridge_problem.cache_clear()
    sys.modules.pop('cv_bridge', None)


def rare(encoding: str) -> Image:
    return Image(height=4, width=6, encoding=encoding, step=6, data=bytes(36))


def test_an_encoding_that_only_cv_bridge_knows_comes_through_it(bridge) -> None:
    bridge.write_bytes(b'..numpy._core.multiarray..')
    assert (decode(rare('nv21')).pixels == 9).all()
    with pytest.raises(UnknownEncoding, match=r"'nv12': publish one of .*cv_bridge: newbyteorder"):
        decode(rare('nv12'))


@pytest.mark.skipif(np.__version__ < '2', reason='needs numpy 2')
def test_a_cv_bridge_that_was_built_for_another_numpy_is_never_called(bridge) -> None:
    """It would end the process."""
    bridge.write_bytes(b'..numpy.core.multiarray..')
    with pytest.raises(UnknownEncoding, match='was built for numpy 1 and this is 2') as refused:
        decode(rare('nv21'))
    assert '\n' not in str(refused.value)
    assert 'cv_bridge' not in sys.modules

