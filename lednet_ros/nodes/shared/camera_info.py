# SPDX-License-Identifier: Apache-2.0
"""A camera's CameraInfo: made to hold for its label image, or read as a lens."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from lednet_ros.projection.camera import EQUIDISTANT, BadCamera, Camera

if TYPE_CHECKING:  # else torch comes along, which the ground node does without
    from lednet_ros.segmentation.letterbox import Fit

MAX_COEFFICIENTS = 100  # of a lens's distortion; OpenCV's largest model has 14


class BadCameraInfo(ValueError):
    """A CameraInfo that says nothing of use about the image; its text names the cause."""


def camera_info_of_frame(info: CameraInfo, fit: Fit, header: Header) -> CameraInfo:
    """Return the CameraInfo of a label image of the camera's size: the same, with its header."""
    _check(info, fit.camera_height, fit.camera_width)
    ours = copy.copy(info)
    ours.header = header
    return ours


def camera_info_of_scaled(info: CameraInfo, fit: Fit, header: Header) -> CameraInfo:
    """
    Return the CameraInfo of a label image of another size, which `fit` places the frame in.

    K and P project onto its pixels directly: region of interest and binning are worked into
    them, as image_geometry's PinholeCameraModel does, then the frame's scale and place in the
    label image. Distortion is of the lens and stays. A pixel's centre is at whole numbers, as
    OpenCV has it, so scaling by s takes u to (u + 1/2) s - 1/2.
    """
    _check(info, fit.camera_height, fit.camera_width)
    scale = np.array([fit.width / fit.camera_width, fit.height / fit.camera_height])
    place = np.array([fit.left, fit.top])
    onto = _onto_pixels(info, scale, place)
    k = onto @ np.asarray(info.k, float).reshape(3, 3)
    p = onto @ np.asarray(info.p, float).reshape(3, 4)
    return CameraInfo(
        header=header, height=fit.input_height, width=fit.input_width,
        distortion_model=info.distortion_model, d=info.d, k=k.ravel(), r=info.r, p=p.ravel(),
        roi=RegionOfInterest(do_rectify=info.roi.do_rectify))


def camera_of(info: CameraInfo, height: int, width: int, rectified: bool = False) -> Camera:
    """
    Read the lens of an image of this size; of a rectified one, P tells, without distortion.

    Raise BadCameraInfo naming the cause.
    """
    _check(info, height, width)
    matrix = np.asarray(info.p, float).reshape(3, 4)[:, :3] if rectified else (
        np.asarray(info.k, float).reshape(3, 3))
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2, 2] != 0):
        raise BadCameraInfo(f'its {"P" if rectified else "K"} is singular: calibrate the camera')
    # A thousandth of skew moves hardly a pixel by one, and rounding leaves less.
    if matrix[2, :2].any() or max(abs(matrix[0, 1]), abs(matrix[1, 0])) > 1e-3 * matrix[0, 0]:
        raise BadCameraInfo(f'its {"P" if rectified else "K"} has more than focal lengths and a '
                            'centre: pixels that are not square to each other are not supported')
    k = _onto_pixels(info, np.ones(2), np.zeros(2)) @ (matrix / matrix[2, 2])
    model, d = info.distortion_model, [float(v) for v in info.d]
    if rectified or not any(d):
        model, d = 'plumb_bob', []
    model = {'fisheye': EQUIDISTANT}.get(model, model)  # as older drivers call it
    try:
        return Camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], height, width, model, tuple(d))
    except BadCamera as error:
        raise BadCameraInfo(str(error)) from error


def _onto_pixels(info: CameraInfo, scale: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the matrix (3, 3) from the sensor's pixels to those of a scaled and moved image."""
    bins = np.array([max(1, info.binning_x), max(1, info.binning_y)])
    corner = np.array([info.roi.x_offset, info.roi.y_offset])
    offset = (0.5 - corner / bins) * scale - 0.5 + place
    return np.array([[scale[0] / bins[0], 0.0, offset[0]],
                     [0.0, scale[1] / bins[1], offset[1]],
                     [0.0, 0.0, 1.0]])


def _check(info: CameraInfo, height: int, width: int) -> None:
    if len(info.d) > MAX_COEFFICIENTS:
        raise BadCameraInfo(f'it has {len(info.d)} distortion coefficients: publish at most '
                            f'{MAX_COEFFICIENTS}')
    numbers = np.concatenate([np.asarray(v, float).ravel()
                              for v in (info.k, info.p, info.r, info.d)])
    if not np.isfinite(numbers).all():
        raise BadCameraInfo('it holds NaN or infinity: calibrate the camera')
    if info.k[0] <= 0 or info.k[4] <= 0:
        raise BadCameraInfo('its K says that the camera is not calibrated: calibrate it')
    size = ((info.roi.width or info.width) // max(1, info.binning_x),
            (info.roi.height or info.height) // max(1, info.binning_y))
    if size != (width, height):
        raise BadCameraInfo(f'it is for images of {size[0]}x{size[1]}, these are '
                            f'{width}x{height}: publish one that fits')
