# SPDX-License-Identifier: Apache-2.0
"""A point of the world has to fall on the same place of the scene, whatever the image's size."""
import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from lednet_ros.nodes.shared.camera_info import (
    BadCameraInfo,
    camera_info_of_frame,
    camera_info_of_scaled,
    camera_of,
)
from lednet_ros.segmentation.letterbox import Fit

HEADER = Header(frame_id='front')
POINTS = np.array([[0.1, -0.2, 2.0], [-0.6, 0.3, 3.0], [0.5, 0.4, 4.0], [0.0, 0.0, 1.0]])


def make_info(width: int = 640, height: int = 480, **more) -> CameraInfo:
    k = [500.0, 0.0, 310.0, 0.0, 520.0, 250.0, 0.0, 0.0, 1.0]
    return CameraInfo(
        header=Header(frame_id='lens'), width=width, height=height,
        distortion_model='plumb_bob', d=[-0.2, 0.05, 0.001, -0.002, 0.0], k=k,
        r=np.eye(3).ravel(), p=[480.0, 0.0, 305.0, -48.0, 0.0, 490.0, 245.0, 0.0, 0, 0, 1, 0],
        **more)


def by_k(info: CameraInfo) -> np.ndarray:
    """Project POINTS onto the distorted image: its pixels (N, 2)."""
    return cv2.projectPoints(POINTS, np.zeros(3), np.zeros(3), np.reshape(info.k, (3, 3)),
                             np.asarray(info.d))[0][:, 0]


def by_p(info: CameraInfo) -> np.ndarray:
    """Project POINTS onto the rectified image: its pixels (N, 2)."""
    u, v, w = np.reshape(info.p, (3, 4)) @ np.c_[POINTS, np.ones(len(POINTS))].T
    return np.c_[u / w, v / w]


@pytest.mark.parametrize('project', [by_k, by_p])
@pytest.mark.parametrize('mode', ['letterbox', 'stretch'])
@pytest.mark.parametrize('network', [(240, 320), (272, 480), (512, 1024), (640, 320)])
def test_points_fall_where_the_resampled_picture_has_them(project, mode, network) -> None:
    """The network's pixel of a camera pixel is found by resampling a picture of coordinates."""
    fit = Fit.make((480, 640), network, mode)
    info = camera_info_of_scaled(make_info(), fit, HEADER)
    rows, columns = np.mgrid[:480, :640].astype(np.float32)
    inside = (slice(fit.top, fit.top + fit.height), slice(fit.left, fit.left + fit.width))
    seen = np.full((*network, 2), np.nan, np.float32)  # per network pixel: the camera's (u, v)
    for i, coordinates in enumerate((columns, rows)):
        seen[(*inside, i)] = cv2.resize(coordinates, (fit.width, fit.height),
                                        interpolation=cv2.INTER_LINEAR)
    camera_pixels = project(make_info())
    for camera_pixel, pixel in zip(camera_pixels, project(info), strict=True):
        column, row = np.round(pixel).astype(int)
        # Within the half pixel lost by rounding, on the camera's scale.
        scale = np.array([640 / fit.width, 480 / fit.height])
        exact = seen[row, column] + (pixel - (column, row)) * scale
        assert np.abs(exact - camera_pixel).max() < 0.05 * scale.max() + 0.51 * (scale.max() > 2)
    assert (info.width, info.height) == network[::-1]
    assert info.header == HEADER


def test_a_region_of_interest_and_binning_are_worked_in() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=60, width=400, height=320)
    info = make_info(roi=roi, binning_x=2, binning_y=2)
    fit = Fit.make((160, 200), (80, 100), 'stretch')
    ours = camera_info_of_scaled(info, fit, HEADER)
    # Cropped and binned as image_geometry does; halved by us about the pixels' corners.
    expected = ((by_k(info) - (100, 60)) / 2 + 0.5) / 2 - 0.5
    assert np.allclose(by_k(ours), expected)
    assert (ours.roi.width, ours.binning_x) == (0, 0)


def test_of_the_camera_s_size_only_the_header_is_the_image_s() -> None:
    info = make_info()
    ours = camera_info_of_frame(info, Fit.make((480, 640), (240, 320), 'letterbox'), HEADER)
    assert ours.header == HEADER
    assert info.header.frame_id == 'lens'
    info.header = HEADER
    assert ours == info


@pytest.mark.parametrize('make', [camera_info_of_frame, camera_info_of_scaled])
@pytest.mark.parametrize(('change', 'words'), [
    ({'k': [np.nan, 0, 1, 0, 1, 1, 0, 0, 1]}, 'NaN or infinity'),
    ({'d': [np.inf]}, 'NaN or infinity'),
    ({'d': [0.0] * 101}, '101 distortion coefficients: publish at most 100'),
    ({'k': np.zeros(9)}, 'not calibrated'),
    ({'width': 641}, 'is for images of 641x480, these are 640x480'),
], ids=['NaN', 'infinite', 'endless', 'uncalibrated', 'another size'])
def test_what_does_not_hold_is_refused_naming_the_cause(make, change, words) -> None:
    info = make_info()
    for name, value in change.items():
        setattr(info, name, value)
    with pytest.raises(BadCameraInfo, match=words):
        make(info, Fit.make((480, 640), (240, 320), 'letterbox'), HEADER)


def pixels_of(camera) -> np.ndarray:
    """Project POINTS by a lens read from a CameraInfo."""
    u, v = camera.project(*POINTS.T, reach=1.5)
    return np.c_[u, v]


def test_a_lens_projects_as_its_camera_info() -> None:
    assert np.allclose(pixels_of(camera_of(make_info(), 480, 640)), by_k(make_info()))
    rectified = make_info()
    rectified.p[3] = 0.0  # no baseline
    assert np.allclose(pixels_of(camera_of(rectified, 480, 640, rectified=True)), by_p(rectified))


def test_a_lens_has_region_of_interest_and_binning_worked_in() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=60, width=400, height=320)
    info = make_info(roi=roi, binning_x=2, binning_y=2)
    assert np.allclose(pixels_of(camera_of(info, 160, 200)), (by_k(info) - (100, 60)) / 2)


def test_a_planner_s_size_has_its_own_focal_lengths_across_and_down() -> None:
    info = camera_info_of_scaled(make_info(), Fit.make((480, 640), (240, 424), 'stretch'), HEADER)
    assert (info.width, info.height) == (424, 240)
    expected = (by_k(make_info()) + 0.5) * (424 / 640, 240 / 480) - 0.5
    assert np.allclose(by_k(info), expected)


def test_what_rounding_leaves_beside_focal_lengths_is_no_skew() -> None:
    info = make_info()
    skewed = make_info()
    skewed.k = np.add(info.k, (0, 1e-9, 0, -1e-9, 0, 0, 0, 0, 0))
    assert np.allclose(pixels_of(camera_of(skewed, 480, 640)), by_k(info))


def test_a_lens_of_a_label_image_of_the_network_s_size() -> None:
    fit = Fit.make((480, 640), (272, 480), 'letterbox')
    info = camera_info_of_scaled(make_info(), fit, HEADER)
    assert np.allclose(pixels_of(camera_of(info, 272, 480)), by_k(info))


@pytest.mark.parametrize(('change', 'words'), [
    ({'k': [np.nan, 0, 1, 0, 1, 1, 0, 0, 1]}, 'NaN or infinity'),
    ({'k': np.zeros(9)}, 'not calibrated'),
    ({'k': [500.0, 0, 320, 0, 500, 240, 0, 0, 0]}, 'its K is singular'),
    ({'k': [500.0, 9, 320, 0, 500, 240, 0, 0, 1]}, 'its K has more than focal lengths'),
    ({'k': [500.0, 0, 320, 0, 500, 240, 0.1, 0, 1]}, 'its K has more than focal lengths'),
    ({'width': 641}, 'is for images of 641x480, these are 640x480'),
    ({'distortion_model': 'kannala'}, "its distortion model is 'kannala'"),
    ({'d': [0.1, 0.2, 0.3]}, 'plumb_bob has 3 coefficients'),
], ids=['NaN', 'uncalibrated', 'singular', 'skewed', 'a homography',
        'another size', 'model', 'coefficients'])
def test_what_is_no_lens_is_refused_naming_the_cause(change, words) -> None:
    info = make_info()
    for name, value in change.items():
        setattr(info, name, value)
    with pytest.raises(BadCameraInfo, match=words):
        camera_of(info, 480, 640)


def test_a_distortion_model_without_a_name_is_no_matter_where_there_is_none() -> None:
    info = make_info()
    info.distortion_model, info.d = '', [0.0] * 5
    assert camera_of(info, 480, 640).d == ()
    info.distortion_model, info.d = 'fisheye', [0.1, 0.0, 0.0, 0.0]
    assert camera_of(info, 480, 640).model == 'equidistant'
