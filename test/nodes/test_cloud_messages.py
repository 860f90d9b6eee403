# SPDX-License-Identifier: Apache-2.0
"""Depth images and clouds of other people's, read."""

from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from sensor_msgs.msg import Image, PointCloud2, PointField

from lednet_ros.common.errors import DataError
from lednet_ros.nodes.cloud.messages import CloudMessage, decode_depth, decode_points


def depth_image(pixels: np.ndarray, encoding: str, padding: int = 0, **more) -> Image:
    rows = np.pad(pixels.view(np.uint8).reshape(len(pixels), -1), ((0, 0), (0, padding)))
    fields = {'height': pixels.shape[0], 'width': pixels.shape[1], 'step': rows.shape[1]}
    return Image(encoding=encoding, data=array.array('B', rows.tobytes()), **{**fields, **more})


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize(('encoding', 'type_'), [('16UC1', np.uint16), ('mono16', np.uint16),
                                                 ('32FC1', np.float32)])
def test_depth_is_read_in_both_units_and_with_padded_rows(encoding, type_, padding) -> None:
    pixels = np.arange(12, dtype=type_).reshape(3, 4)
    found = decode_depth(depth_image(pixels, encoding, padding))
    assert found.dtype == type_
    assert np.array_equal(found, pixels)


def test_depth_of_the_other_byte_order_is_read() -> None:
    pixels = (np.arange(12).reshape(3, 4) * 300).astype('>u2')
    found = decode_depth(depth_image(pixels, '16UC1', is_bigendian=1))
    assert found.dtype == np.uint16
    assert found[2, 3] == 3300


@pytest.mark.parametrize(('more', 'words'), [
    ({'encoding': 'rgb8'}, "'rgb8': publish 16UC1"), ({'step': 3}, 'do not fit'),
    ({'height': 9}, 'do not fit'), ({'width': 0}, 'do not fit')])
def test_what_is_no_depth_image_is_refused(more, words) -> None:
    message = depth_image(np.zeros((3, 4), np.uint16), '16UC1')
    for name, value in more.items():
        setattr(message, name, value)
    with pytest.raises(DataError, match=words):
        decode_depth(message)


def cloud(points: np.ndarray, type_: int = PointField.FLOAT32, big: bool = False) -> PointCloud2:
    """Return a cloud as a LiDAR's driver makes one: fields in an order of its own."""
    height, width = points.shape[1:]
    name = ('>' if big else '<') + {PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}.get(
        type_, 'u4')
    size = np.dtype(name).itemsize
    record = np.zeros((height, width), np.dtype({
        'names': ['ring', 'z', 'x', 'y'], 'formats': ['u2', name, name, name],
        'offsets': [0, 4, 4 + size, 4 + 2 * size], 'itemsize': 8 + 3 * size}))
    record['x'], record['y'], record['z'] = points
    return PointCloud2(
        height=height, width=width, point_step=record.itemsize,
        row_step=record.itemsize * width, is_bigendian=big,
        data=array.array('B', record.tobytes()),
        fields=[PointField(name=n, offset=o, datatype=t, count=1) for n, o, t in (
            ('ring', 0, PointField.UINT16), ('z', 4, type_), ('x', 4 + size, type_),
            ('y', 4 + 2 * size, type_))])


POINTS = np.arange(24, dtype=np.float32).reshape(3, 2, 4)


@pytest.mark.parametrize('type_', [PointField.FLOAT32, PointField.FLOAT64])
@pytest.mark.parametrize('big', [False, True])
def test_points_are_read_whatever_lies_beside_them(type_, big) -> None:
    found = decode_points(cloud(POINTS, type_, big))
    assert found.dtype == np.float32
    assert np.array_equal(found, POINTS)


def test_what_is_no_cloud_is_refused() -> None:
    with pytest.raises(DataError, match=r'no field x of float32: its fields are ring, z, x, y'):
        decode_points(cloud(POINTS, PointField.UINT32))
    with pytest.raises(DataError, match='an empty cloud, 0x2'):
        decode_points(cloud(POINTS[..., :0]))
    short = cloud(POINTS)
    short.height = 3
    with pytest.raises(DataError, match='do not fit together'):
        decode_points(short)
    beyond = cloud(POINTS)
    beyond.fields[1].offset = 18
    with pytest.raises(DataError, match='field z lies beyond point_step 20'):
        decode_points(beyond)
    twice = cloud(POINTS)
    twice.fields[0].name = 'x'
    with pytest.raises(DataError, match='the fields are x, z, x, y: publish one x, y and z each'):
        decode_points(twice)


def test_the_clouds_fields_are_as_the_contract_has_them() -> None:
    message = CloudMessage(2, 3).message
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
        ('x', 0, 7), ('y', 4, 7), ('z', 8, 7), ('rgb', 12, 7), ('label', 16, 2),
        ('confidence', 17, 2)]
    assert (message.height, message.width, message.point_step, message.row_step) == (2, 3, 20, 60)
    assert len(message.data) == 120
