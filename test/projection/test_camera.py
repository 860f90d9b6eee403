# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scene import LENSES, make_camera, opencv_pixels

from lednet_ros.projection import BadCamera, Camera

THIN_PRISM = make_camera('rational_polynomial', (
    0.3, 0.05, 0.0005, 0.0003, 0.005, 0.55, 0.12, 0.01, 0.002, -0.001, 0.001, 0.0005))
ALL = {**LENSES, 'thin prism': THIN_PRISM}


@pytest.mark.parametrize('camera', ALL.values(), ids=ALL)
def test_rays_hit_their_pixels_by_opencv(camera: Camera) -> None:
    rays = camera.rays()
    assert rays.shape == (camera.height, camera.width, 3)
    assert np.linalg.norm(rays, axis=2) == pytest.approx(1, abs=1e-6)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = opencv_pixels(camera, rays.reshape(-1, 3).astype(float))
    assert np.abs(pixels - np.column_stack([u.ravel(), v.ravel()])).max() < 0.01


@pytest.mark.parametrize('camera', ALL.values(), ids=ALL)
def test_projection_is_opencv_s(camera: Camera) -> None:
    points = np.random.default_rng(0).uniform((-1, -0.5, 1), (1, 0.5, 3), (1000, 3))
    u, v = camera.project(*points.T, reach=1.5)
    assert np.abs(np.column_stack([u, v]) - opencv_pixels(camera, points)).max() < 0.01


def test_what_is_beyond_the_image_s_reach_or_behind_is_nowhere() -> None:
    camera = make_camera(d=(-0.3, 0.0, 0.0, 0.0, 0.0))  # which would fold it into the image
    assert 0 < opencv_pixels(camera, np.array([[1.7, 0.0, 1.0]]))[0, 0] < camera.width
    x, y, z = np.array([[1.7, 0.0, 1.0], [0.1, 0.1, -1.0], [0.0, 0.0, 0.0], [0.1, 0.0, 1.0]]).T
    u, _ = camera.project(x, y, z, reach=0.9)
    assert np.isnan(u).tolist() == [True, True, True, False]


def test_pixels_that_no_direction_reaches_have_none() -> None:
    camera = make_camera(d=(-0.6, 0.0, 0.0, 0.0, 0.0))  # folds within the image
    rays = camera.rays()
    assert np.isnan(rays[0, 0]).all()
    assert np.isfinite(rays[250:260, 500:510]).all()


@pytest.mark.parametrize(('change', 'words'), [
    ({'fx': 0.0}, 'focal length is not above 0'), ({'cy': np.nan}, 'NaN or infinity'),
    ({'d': (np.inf,) * 5}, 'NaN or infinity'), ({'height': 0}, '64x0: give its size'),
    ({'model': 'kannala_brandt'}, 'plumb_bob, rational_polynomial, equidistant are known'),
    ({'d': (0.1, 0.2, 0.3)}, 'plumb_bob has 3 coefficients: 4 or 5 are known'),
    ({'model': 'rational_polynomial', 'd': (0.1,) * 14}, 'tilted'),
], ids=lambda value: value if isinstance(value, str) else str(value))
def test_numbers_of_no_camera_are_refused(change, words) -> None:
    good = {'fx': 50.0, 'fy': 50.0, 'cx': 32.0, 'cy': 24.0, 'height': 48, 'width': 64}
    with pytest.raises(BadCamera, match=words):
        Camera(**{**good, **change})
