# SPDX-License-Identifier: Apache-2.0
"""A camera's CameraInfo, made to hold for its label image."""

from __future__ import annotations

import copy

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from lednet_ros.segmentation.fit import Fit


class BadCameraInfo(ValueError):
    """A CameraInfo that says nothing of use about the image; its text names the cause."""


def camera_info_of_frame(info: CameraInfo, fit: Fit, header: Header) -> CameraInfo:
    """Give the CameraInfo of a label image of the camera's size: the same, with its header."""
    _check(info, fit)
    ours = copy.copy(info)
    ours.header = header
    return ours


def camera_info_of_network(info: CameraInfo, fit: Fit, header: Header) -> CameraInfo:
    """Give the CameraInfo of a label image of the network's size.

    K and P project onto its pixels directly: region of interest and binning are worked into
    them, as image_geometry's PinholeCameraModel does, then the frame's scale and place in the
    network's input. Distortion is of the lens and stays. A pixel's centre is at whole numbers, as
    OpenCV has it, so scaling by s takes u to (u + 1/2) s - 1/2.
    """
    _check(info, fit)
    bins = np.array([max(1, info.binning_x), max(1, info.binning_y)])
    corner = np.array([info.roi.x_offset, info.roi.y_offset])
    scale = np.array([fit.width / fit.camera_width, fit.height / fit.camera_height])
    place = np.array([fit.left, fit.top])
    offset = (0.5 - corner / bins) * scale - 0.5 + place
    onto = np.array([[scale[0] / bins[0], 0.0, offset[0]],
                     [0.0, scale[1] / bins[1], offset[1]],
                     [0.0, 0.0, 1.0]])
    k = onto @ np.asarray(info.k, float).reshape(3, 3)
    p = onto @ np.asarray(info.p, float).reshape(3, 4)
    return CameraInfo(
        header=header, height=fit.input_height, width=fit.input_width,
        distortion_model=info.distortion_model, d=info.d, k=k.ravel(), r=info.r, p=p.ravel(),
        roi=RegionOfInterest(do_rectify=info.roi.do_rectify))


def _check(info: CameraInfo, fit: Fit) -> None:
    numbers = np.concatenate([np.asarray(v, float).ravel()
                              for v in (info.k, info.p, info.r, info.d)])
    if not np.isfinite(numbers).all():
        raise BadCameraInfo('it holds NaN or infinity: calibrate the camera')
    if info.k[0] <= 0 or info.k[4] <= 0:
        raise BadCameraInfo('its K says that the camera is not calibrated: calibrate it')
    size = ((info.roi.width or info.width) // max(1, info.binning_x),
            (info.roi.height or info.height) // max(1, info.binning_y))
    if size != (fit.camera_width, fit.camera_height):
        raise BadCameraInfo(f'it is for images of {size[0]}x{size[1]}, these are '
                            f'{fit.camera_width}x{fit.camera_height}: publish one that fits')
