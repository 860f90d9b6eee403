# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lednet_ros.segmentation.letterbox import Fit


@pytest.mark.parametrize(('camera', 'network', 'mode', 'expected'), [
    ((360, 480), (360, 480), 'letterbox', (0, 0, 360, 480)),
    ((720, 1280), (360, 480), 'letterbox', (45, 0, 270, 480)),
    ((720, 1280), (360, 480), 'stretch', (0, 0, 360, 480)),
    ((100, 50), (64, 64), 'letterbox', (0, 16, 64, 32)),
    ((1, 5000), (64, 64), 'letterbox', (31, 0, 1, 64)),
], ids=['same', 'wide', 'stretched', 'tall', 'a line'])
def test_the_frame_lies_centred_and_keeps_its_shape(camera, network, mode, expected) -> None:
    fit = Fit.make(camera, network, mode)
    assert (fit.top, fit.left, fit.height, fit.width) == expected


def test_bgr_frames_arrive_as_rgb_and_rgb_frames_as_they_are() -> None:
    blue_in_bgr = np.zeros((4, 6, 3), np.uint8)
    blue_in_bgr[..., 0] = 200
    fit = Fit.make((4, 6), (4, 6), 'letterbox')
    out = np.empty((4, 6, 3), np.uint8)
    fit.place(blue_in_bgr, False, out)
    assert out[2, 3].tolist() == [0, 0, 200]
    fit.place(blue_in_bgr, True, out)
    assert out[2, 3].tolist() == [200, 0, 0]


@pytest.mark.parametrize('turned', [False, True], ids=['above and below', 'left and right'])
def test_bars_beside_a_letterboxed_frame_repeat_its_edge(turned) -> None:
    frame = np.full((32, 64, 3), 100, np.uint8)
    frame[0], frame[-1] = 10, 200
    frame = np.ascontiguousarray(frame.transpose(1, 0, 2)) if turned else frame
    out = np.full((64, 64, 3), 99, np.uint8)
    Fit.make(frame.shape[:2], (64, 64), 'letterbox').place(frame, turned, out)
    out = out.transpose(1, 0, 2) if turned else out
    assert (out[:17] == 10).all()
    assert (out[17:47] == 100).all()
    assert (out[47:] == 200).all()


def test_padded_rows_of_a_camera_are_honoured() -> None:
    padded = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    out = np.empty((4, 6, 3), np.uint8)
    Fit.make((4, 6), (4, 6), 'letterbox').place(padded[:, :6], True, out)
    assert np.array_equal(out, padded[:, :6])


def test_labels_come_back_by_nearest_neighbour_without_the_bars() -> None:
    fit = Fit.make((4, 8), (4, 4), 'letterbox')  # the frame fills rows 1 and 2
    labels = np.array([[9, 9, 9, 9],
                       [1, 2, 3, 4],
                       [5, 6, 7, 8],
                       [9, 9, 9, 9]], np.uint8)
    assert fit.back(labels).tolist() == [
        [1, 1, 2, 2, 3, 3, 4, 4],
        [1, 1, 2, 2, 3, 3, 4, 4],
        [5, 5, 6, 6, 7, 7, 8, 8],
        [5, 5, 6, 6, 7, 7, 8, 8]]


def test_a_downscaled_frame_is_averaged_not_skipped() -> None:
    """Every 8th column white: skipping pixels would give all black or all white."""
    frame = np.zeros((64, 512, 3), np.uint8)
    frame[:, ::8] = 255
    out = np.empty((8, 64, 3), np.uint8)
    Fit.make((64, 512), (8, 64), 'letterbox').place(frame, True, out)
    assert np.abs(out.astype(int) - 32).max() <= 1


@pytest.mark.parametrize('turned', [False, True], ids=['above and below', 'left and right'])
@pytest.mark.parametrize('rgb', [False, True])
def test_the_network_s_picture_is_rgb_and_black_beside_the_frame(rgb, turned) -> None:
    size = (64, 32) if turned else (32, 64)
    frame = np.full((*size, 3), (10, 20, 30), np.uint8)
    picture = Fit.make(size, (64, 64), 'letterbox').picture(frame, rgb)
    assert picture.shape == (64, 64, 3)
    picture = picture.transpose(1, 0, 2) if turned else picture
    assert (picture[16:48] == ((10, 20, 30) if rgb else (30, 20, 10))).all()
    assert not picture[:16].any()
    assert not picture[48:].any()


def test_a_single_pixel_fills_the_network_s_input() -> None:
    """Which OpenCV 4.5.4, Humble's, would not resize."""
    out = np.empty((8, 12, 3), np.uint8)
    Fit.make((1, 1), (8, 12), 'stretch').place(np.full((1, 1, 3), 77, np.uint8), True, out)
    assert (out == 77).all()


@pytest.mark.parametrize('turned', [False, True])
def test_a_side_that_shrinks_is_averaged_though_the_other_grows(turned) -> None:
    frame = np.zeros((24, 200, 3), np.uint8)
    frame[:, ::4] = 200  # every fourth column; of the 3.3 that make one
    network = 48, 60
    if turned:
        frame, network = np.ascontiguousarray(frame.transpose(1, 0, 2)), (60, 48)
    out = np.empty((*network, 3), np.uint8)
    Fit.make(frame.shape[:2], network, 'stretch').place(frame, True, out)
    assert (out >= 20).all()
    assert (out <= 60).all()
