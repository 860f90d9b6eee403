# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters
from sensor_msgs.msg import CameraInfo, Image

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.image_source_node import PARAMETERS, load_camera_info, pinhole, scaled
from lednet_ros.nodes.shared.image_messages import decode

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ros_graph import Graph

    Within = Callable[[float], AbstractContextManager[None]]

NODE = 'lednet_ros.nodes.image_source_node'
ENDED_S = 2.0  # after a signal
CALIBRATION = """\
image_width: 96
image_height: 48
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [100, 0, 50, 0, 90.5, 20, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.25, 0.1, 1e-05, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [80, 0, 50, 4, 0, 70, 20, 2, 0, 0, 1, 0]}
"""


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray]:
    """Three pictures of noise, in their order; their files lie in tmp_path/images."""
    noise = np.random.default_rng(1)
    pictures = {name: noise.integers(0, 255, (24, 48, 3), np.uint8)
                for name in ('a2.png', 'a10.png', 'b.bmp')}
    (tmp_path / 'images').mkdir()
    for name, pixels in reversed(pictures.items()):
        cv2.imwrite(str(tmp_path / 'images' / name), pixels)
    return pictures


def write_video(path: Path, count: int) -> Path:
    """Frame i is grey, 5 x i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 20.0, (64, 48))
    assert writer.isOpened()
    for index in range(count):
        writer.write(np.full((48, 64, 3), 5 * index, np.uint8))
    writer.release()
    return path


def stamp_s(message: Any) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


def test_a_directory_is_published_once_in_order_and_exactly(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray],
) -> None:
    inbox = graph.subscribe('front/image', Image)
    infos = graph.subscribe('front/camera_info', CameraInfo)
    node = graph.start(NODE, {
        'source': str(tmp_path / 'images'), 'loop': False, 'wait_for_subscriber': True,
        'frame_id': 'front', 'horizontal_fov_deg': 90.0,
    }, remaps={'image': 'front/image', 'camera_info': 'front/camera_info'})
    assert node.wait() == 0
    messages = inbox.wait(3)
    assert len(messages) == 3
    for message, pixels in zip(messages, images.values(), strict=True):
        assert (message.encoding, message.height, message.width) == ('bgr8', 24, 48)
        assert (message.step, message.is_bigendian, len(message.data)) == (144, 0, 24 * 144)
        assert message.header.frame_id == 'front'
        np.testing.assert_array_equal(decode(message).pixels, pixels)
    stamps = [stamp_s(message) for message in messages]
    assert sorted(set(stamps)) == stamps
    for info, message in zip(infos.wait(3), messages, strict=True):
        assert info.header == message.header
        assert (info.height, info.width) == (24, 48)
        assert info.k.tolist() == pytest.approx([24, 0, 24, 0, 24, 12, 0, 0, 1])


def test_the_console_script_loops_over_a_part_of_a_video(graph: Graph, tmp_path: Path) -> None:
    script = shutil.which('image_source_node', path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip('the package is not installed in this environment')
    inbox = graph.subscribe('image', Image)
    graph.start([script], {
        'source': str(write_video(tmp_path / 'a.avi', 40)), 'first_frame': 20, 'last_frame': 22,
        'wait_for_subscriber': True, 'rate_hz': 30.0})
    means = [float(np.mean(message.data)) for message in inbox.wait(7)[:7]]
    assert means == pytest.approx([100, 105, 110, 100, 105, 110, 100], abs=2)


def test_a_calibration_is_scaled_to_the_published_size(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray],
) -> None:
    (tmp_path / 'front.yaml').write_text(CALIBRATION)
    infos = graph.subscribe('camera_info', CameraInfo)
    inbox = graph.subscribe('image', Image)
    graph.start(NODE, {
        'source': str(tmp_path / 'images'), 'height': 12, 'width': 48,
        'camera_info_file': str(tmp_path / 'front.yaml')})
    info, message = infos.wait(1)[0], inbox.wait(1)[0]
    assert (message.height, message.width, message.step) == (12, 48, 144)
    assert (info.height, info.width, info.distortion_model) == (12, 48, 'plumb_bob')
    assert info.k.tolist() == pytest.approx([50, 0, 25, 0, 22.625, 5, 0, 0, 1])
    assert info.p.tolist() == pytest.approx([40, 0, 25, 2, 0, 17.5, 5, 0.5, 0, 0, 1, 0])
    assert info.d.tolist() == pytest.approx([-0.25, 0.1, 1e-5, 0, 0])


def test_frames_keep_to_the_rate(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray], times_are_held: bool,
) -> None:
    """By the stamps, the median of 40 gaps is the period, or a busy machine's longer one."""
    inbox = graph.subscribe('image', Image)
    graph.start(NODE, {'source': str(tmp_path / 'images'), 'rate_hz': 20.0})
    gaps = np.diff([stamp_s(message) for message in inbox.wait(41)])
    assert float(np.median(gaps)) > 0.035
    if times_are_held:
        assert float(np.median(gaps)) < 0.075


def test_an_unreadable_image_is_one_warning(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray],
) -> None:
    (tmp_path / 'images/a3.jpg').write_bytes(b'not a picture')
    inbox = graph.subscribe('image', Image)
    node = graph.start(NODE, {'source': str(tmp_path / 'images'), 'rate_hz': 50.0})
    inbox.wait(9)
    warnings = [line for line in node.output.splitlines() if 'WARN' in line]
    assert len(warnings) == 1
    assert f'{tmp_path}/images/a3.jpg: 13 bytes and no PNG, JPEG, BMP, ' in warnings[0]


@pytest.mark.parametrize(('parameters', 'line'), [
    ({'source': '/absent'}, 'image_source: /absent: does not exist: give a directory of images, '
     'a video file or the number of a webcam'),
    ({'source': 63}, 'image_source: webcam 63: cannot be opened: check that /dev/video63 exists, '
     'may be read by this user and is not in use'),
    ({'source': __file__}, f'image_source: {__file__}: cannot be opened as a video: give one '
     'that plays with OpenCV, or a directory of images'),
    ({'rate_hz': -1}, 'image_source: rate_hz is -1: give 0 to 1000'),
    ({'loop': 'no'}, "image_source: Trying to set parameter 'loop' to 'no' of type 'STRING', "
     "expecting type 'BOOL'"),
    ({'source': '/', 'height': 8}, 'image_source: height 8 and width 0: only one of them is '
     'given: give both, or neither'),
], ids=['missing', 'webcam', 'no video', 'range', 'type', 'size'])
def test_an_error_is_one_line_and_exit_code_1(
    graph: Graph, parameters: dict[str, Any], line: str,
) -> None:
    node = graph.start(NODE, parameters)
    assert node.wait() == 1
    assert node.output.splitlines() == [line]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize('rate_hz', [5.0, 1000.0])
def test_a_signal_ends_it_with_exit_code_0(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray], within: Within,
    number: signal.Signals, rate_hz: float,
) -> None:
    inbox = graph.subscribe('image', Image)
    node = graph.start(NODE, {'source': str(tmp_path / 'images'), 'rate_hz': rate_hz})
    inbox.wait(2)
    node.send(number)
    node.send(number)  # as launch does
    with within(ENDED_S):
        assert node.wait() == 0
    assert len(node.output.splitlines()) == 1  # 'playing'


def test_a_signal_ends_it_while_it_waits_for_a_subscriber(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray], within: Within,
) -> None:
    node = graph.start(NODE, {'source': str(tmp_path / 'images'), 'wait_for_subscriber': True})
    graph.wait_for_output(node, 'waiting for a subscriber to /image')
    with within(ENDED_S):
        assert node.stop(signal.SIGINT) == 0


def test_a_signal_ends_it_while_a_webcam_blocks(graph: Graph, within: Within) -> None:
    fake = Path(__file__).with_name('fake_webcam.py')
    node = graph.start([sys.executable, str(fake)], {'source': '0'})
    graph.wait_for_output(node, 'reading')
    with within(ENDED_S):
        assert node.stop(signal.SIGTERM) == 0


def test_parameters_are_described_and_read_only(
    graph: Graph, tmp_path: Path, images: dict[str, np.ndarray],
) -> None:
    graph.start(NODE, {'source': str(tmp_path / 'images')})
    response = graph.call(
        DescribeParameters, '/image_source/describe_parameters',
        DescribeParameters.Request(names=[row.name for row in PARAMETERS]))
    assert all(d.description and d.read_only for d in response.descriptors)
    for descriptor in response.descriptors:
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range
        if descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range


def test_a_pinhole_has_the_field_of_view() -> None:
    info = pinhole(100, 200, 60.0)
    assert info.k.tolist() == pytest.approx(
        [100 * math.sqrt(3), 0, 100, 0, 100 * math.sqrt(3), 50, 0, 0, 1])
    assert info.p.reshape(3, 4)[:, :3].tolist() == info.k.reshape(3, 3).tolist()


def test_scaling_to_the_same_size_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / 'front.yaml').write_text(CALIBRATION)
    info = load_camera_info(str(tmp_path / 'front.yaml'))
    assert scaled(info, 48, 96) == info


@pytest.mark.parametrize(('old', 'new', 'words'), [
    ('camera_matrix', 'matrix', "'camera_matrix' is missing"),
    ('0, 0, 1]}\nd', '0, 0]}\nd', 'camera_matrix has 8 numbers, not 9'),
    ('image_width: 96', 'image_width: 0', 'its image is 0x48, not of 1'),
    ('image_height: 48', 'image_height: -48', 'its image is 96x-48, not of 1'),
    ('90.5', '.nan', 'holds NaN or infinity'),
    ('image_width: 96', 'image_width: [', "expected ',' or ']', but got ':'|while parsing"),
    ('90.5', 'x', "could not convert string to float: 'x'"),
    ('image_height: 48', 'image_height: .inf', 'cannot convert float infinity to integer'),
    ('90.5', f'1{"0" * 400}', 'int too large to convert to float'),
], ids=['missing', 'short', 'empty', 'negative', 'no number', 'yaml', 'word', 'endless', 'huge'])
def test_a_damaged_calibration_is_refused_in_one_line(
    tmp_path: Path, old: str, new: str, words: str,
) -> None:
    path = tmp_path / 'front.yaml'
    path.write_text(CALIBRATION.replace(old, new))
    with pytest.raises(ConfigError, match=words) as caught:
        load_camera_info(str(path))
    assert str(caught.value).startswith(f'camera_info_file {path}: ')
    assert '\n' not in str(caught.value)


def test_a_missing_calibration_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'/absent: No such file or directory: give a file'):
        load_camera_info('/absent')
