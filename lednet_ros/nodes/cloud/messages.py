# SPDX-License-Identifier: Apache-2.0
"""Depth images and clouds read as arrays; labelled points as a cloud."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField

from lednet_ros.common.errors import DataError
from lednet_ros.nodes.ground.messages import PointsMessage

_DEPTH = {'16UC1': 'u2', 'mono16': 'u2', '32FC1': 'f4'}  # REP 118, and what is called otherwise
_FLOATS = {PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}


def decode_depth(message: Image) -> np.ndarray:
    """Show a depth Image as uint16 (H, W) in mm or float32 in m, a view. Raise DataError."""
    height, width, step = message.height, message.width, message.step
    if message.encoding not in _DEPTH:
        raise DataError(f'depth: encoding {message.encoding[:32]!r}: publish 16UC1 in mm or 32FC1 '
                        'in m (REP 118)')
    type_ = np.dtype(('>' if message.is_bigendian else '<') + _DEPTH[message.encoding])
    if not (height and width) or step < width * type_.itemsize or (
            len(message.data) != step * height):
        raise DataError(f'depth: {width}x{height} {message.encoding} with step {step} and '
                        f'{len(message.data)} bytes: the numbers do not fit together')
    pixels = np.ndarray((height, width), type_, message.data, strides=(step, type_.itemsize))
    return pixels if type_.isnative else pixels.astype(type_.newbyteorder('='))


def decode_points(message: PointCloud2) -> np.ndarray:
    """Return a cloud's points, float32 (3, height, width), in its frame. Raise DataError."""
    height, width, step = message.height, message.width, message.point_step
    if not (height and width):
        raise DataError(f'points: an empty cloud, {width}x{height}: look at the sensor')
    if message.row_step < width * step or len(message.data) < message.row_step * height:
        raise DataError(f'points: {width}x{height} points of {step} bytes with row_step '
                        f'{message.row_step} and {len(message.data)} bytes: the numbers do not '
                        'fit together')
    fields = {field.name: field for field in message.fields}
    names = [field.name for field in message.fields]
    if any(names.count(name) > 1 for name in 'xyz'):
        raise DataError(f'points: the fields are {", ".join(names)}: publish one x, y and z each')
    points = np.empty((3, height, width), np.float32)
    for plane, name in zip(points, 'xyz', strict=True):
        field = fields.get(name)
        if field is None or field.datatype not in _FLOATS or field.count > 1:
            raise DataError(f'points: there is no field {name} of float32: its fields are '
                            f'{", ".join(fields) or "none"}')
        type_ = np.dtype(('>' if message.is_bigendian else '<') + _FLOATS[field.datatype])
        if field.offset + type_.itemsize > step:
            raise DataError(f'points: field {name} lies beyond point_step {step}')
        with np.errstate(over='ignore'):  # of float64: infinite then, and no point
            plane[:] = np.ndarray((height, width), type_, message.data, field.offset,
                                  (message.row_step, step))
    return points


class CloudMessage(PointsMessage):
    """A PointCloud2 of labelled points."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width, ('label', 'confidence'))
