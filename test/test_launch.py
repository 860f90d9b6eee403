# SPDX-License-Identifier: Apache-2.0
"""The launch files by the real `ros2 launch`, where it is installed and the package was built."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

if TYPE_CHECKING:
    from ros_graph import Graph, Process

WITHIN_S = 300.0


def reason_to_skip() -> str:
    """Say what is missing for `ros2 launch lednet_ros`; empty if nothing is."""
    missing = [name for name in ('launch', 'launch_ros', 'ros2launch')
               if importlib.util.find_spec(name) is None]
    if missing or not shutil.which('ros2'):
        return f'ros2 launch is not installed here ({", ".join(missing) or "no command ros2"})'
    from ament_index_python.packages import get_package_share_directory
    try:
        get_package_share_directory('lednet_ros')
    except (LookupError, OSError):
        return 'lednet_ros was not built by colcon, or its setup.bash not sourced'
    return ''


pytestmark = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip())


def launch(graph: Graph, *arguments: str) -> Process:
    """Run `ros2 launch` with one of our files, or another's path; the graph ends it."""
    from ros_graph import Process
    # By the tests' domain, but with the profile that the launch file chooses.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(('FASTDDS', 'FASTRTPS'))}
    log = graph.directory / f'launch{len(graph.processes)}.log'
    process = Process(
        ['ros2', 'launch', '--noninteractive',
         *([] if os.path.isabs(arguments[0]) else ['lednet_ros']), *arguments],
        {**environment, 'ROS_LOG_DIR': str(graph.directory)}, log, graph.changed)
    graph.processes.append(process)
    return process


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.png'), pixels)
    return tmp_path


@pytest.mark.parametrize('file', ['segment.launch.py', 'demo.launch.py'])
def test_each_argument_is_described(graph: Graph, file: str) -> None:
    process = launch(graph, file, '--show-args')
    assert process.wait(WITHIN_S) == 0, process.describe()
    assert "'checkpoint'" in process.output
    assert 'no description given' not in process.output.lower()


def test_demo_launch_labels_images_and_ends_on_sigint(graph: Graph, images: Path) -> None:
    labels = graph.subscribe('/segment/label', Image)
    process = launch(graph, 'demo.launch.py', f'source:={images}', 'rate_hz:=2.0')
    label = labels.wait(within_s=WITHIN_S)[0]
    assert (label.height, label.width, label.encoding) == (48, 64, 'mono8')
    assert label.header.frame_id == 'camera'
    assert process.stop(signal.SIGINT, WITHIN_S) == 0, process.describe()
    assert process.output.count('finished cleanly') == 2


def test_demo_launch_ends_with_its_camera(graph: Graph, tmp_path: Path) -> None:
    process = launch(graph, 'demo.launch.py', f'source:={tmp_path / "absent"}')
    process.wait(WITHIN_S)
    assert 'absent: does not exist' in process.output


def test_segment_launch_names_topics_as_asked(graph: Graph) -> None:
    process = launch(graph, 'segment.launch.py', 'namespace:=bot', 'image:=eye/image_raw')
    graph.wait_for_output(process, 'ready: /bot/eye/image_raw', WITHIN_S)
    graph.wait_until(lambda: graph.node.count_publishers('/bot/segment/label') == 1, WITHIN_S,
                     'nobody publishes /bot/segment/label')
    assert process.stop(signal.SIGINT, WITHIN_S) == 0, process.describe()


def test_segment_launch_looks_for_camera_info_beside_the_image(graph: Graph) -> None:
    graph.subscribe('/segment/camera_info', CameraInfo)  # else the node does not listen to it
    process = launch(graph, 'segment.launch.py', 'image:=/eye/image_raw',
                     'image_transport:=compressed')
    graph.wait_for_output(process, 'ready: /eye/image_raw/compressed', WITHIN_S)
    graph.wait_until(lambda: graph.node.count_subscribers('/eye/camera_info') == 1, WITHIN_S,
                     'nobody listens to /eye/camera_info')


@pytest.mark.parametrize('cameras', ['[front, left]', 'front,left'])
def test_segment_launch_takes_several_cameras(graph: Graph, cameras: str) -> None:
    process = launch(graph, 'segment.launch.py', f'cameras:={cameras}')
    graph.wait_for_output(process, 'ready: /front/image, /left/image', WITHIN_S)


def test_an_argument_outweighs_the_parameter_file(graph: Graph, tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**: {ros__parameters: {backend: nonsense, input_width: 128, '
                    'input_height: 64}}')
    process = launch(graph, 'segment.launch.py', f'params_file:={file}', 'backend:=torch')
    line = graph.wait_for_output(process, 'classes, ', WITHIN_S)
    assert '128x64, by torch' in line


def test_an_argument_that_is_not_given_leaves_the_files_word(
    graph: Graph, tmp_path: Path
) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**: {ros__parameters: {use_sim_time: true}}')
    process = launch(graph, 'segment.launch.py', f'params_file:={file}')
    graph.wait_for_output(process, 'ready: ', WITHIN_S)
    answer = graph.call(GetParameters, '/segment/get_parameters',
                        GetParameters.Request(names=['use_sim_time']))
    assert answer.values[0].bool_value


def test_planning_starts_the_ground_node_on_the_labels(graph: Graph, tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**/ground: {ros__parameters: {camera: {height: 1.2}}}')
    graph.subscribe('/bot/ground/points', PointCloud2)
    process = launch(graph, 'segment.launch.py', 'namespace:=bot', 'image:=/eye/image_raw',
                     'planning:=true', f'params_file:={file}')
    graph.wait_for_output(process, 'ready: /bot/segment/label, camvid', WITHIN_S)
    for topic in ('/bot/segment/label', '/bot/segment/camera_info', '/eye/camera_info'):
        graph.wait_until(lambda topic=topic: graph.node.count_subscribers(topic) == 1, WITHIN_S,
                         f'nobody listens to {topic}')
    assert process.stop(signal.SIGINT, WITHIN_S) == 0, process.describe()


def test_depth_starts_the_cloud_node_on_the_labels(graph: Graph, tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**/semantic_cloud: {ros__parameters: {camera: {height: 1.2}}}')
    graph.subscribe('/bot/semantic_cloud/points', PointCloud2)
    process = launch(graph, 'segment.launch.py', 'namespace:=bot', 'image:=/eye/image_raw',
                     'planning:=true', 'depth:=/eye/depth', f'params_file:={file}')
    graph.wait_for_output(process, 'ready: /bot/segment/label on /eye/depth, camvid', WITHIN_S)
    for topic in ('/bot/segment/label', '/bot/segment/camera_info', '/eye/depth'):
        graph.wait_until(lambda topic=topic: graph.node.count_subscribers(topic) == 1, WITHIN_S,
                         f'nobody listens to {topic}')
    assert 'ground_node' not in process.output
    assert process.stop(signal.SIGINT, WITHIN_S) == 0, process.describe()


NAV2 = 'nav2.yaml'  # as its bring-ups have one, for all nodes

PARENT = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import PushRosNamespace
from launch_ros.substitutions import FindPackageShare

def generate_launch_description():
    return LaunchDescription([
        *[DeclareLaunchArgument(name, default_value=value) for name, value in DECLARED.items()],
        GroupAction([
            PushRosNamespace('robot1'),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution(
                    [FindPackageShare('lednet_ros'), 'launch', 'segment.launch.py'])),
                launch_arguments={'image': 'eye/image_raw', 'planning': 'True'}.items())])])
"""


@pytest.mark.parametrize('declared', [
    {}, {'namespace': 'robot1'}, {'namespace': '/robot1', 'use_sim_time': 'True'},
    {'namespace': 'robot1', 'use_sim_time': 'False', 'params_file': NAV2, 'log_level': 'INFO'}],
    ids=['pushed', 'pushed and declared', 'as Nav2', 'with a parameter file'])
def test_inside_a_pushed_namespace_all_names_lie_in_it_once(
    graph: Graph, tmp_path: Path, declared: dict[str, str]
) -> None:
    """As bring-ups of several robots include it, whose own arguments reach it too."""
    parent = tmp_path / 'parent.launch.py'
    if 'params_file' in declared:
        file = tmp_path / NAV2
        file.write_text('amcl: {ros__parameters: {use_sim_time: true, base_frame_id: base}}\n')
        declared = {**declared, 'params_file': str(file)}
    parent.write_text(f'DECLARED = {declared!r}\n{PARENT}')
    graph.subscribe('/robot1/ground/points', PointCloud2)
    process = launch(graph, str(parent))
    graph.wait_for_output(process, 'ready: /robot1/segment/label, camvid', WITHIN_S)
    graph.wait_for_output(process, 'ready: /robot1/eye/image_raw', WITHIN_S)
    for topic in ('/robot1/segment/label', '/robot1/segment/camera_info',
                  '/robot1/eye/image_raw', '/robot1/eye/camera_info'):
        graph.wait_until(lambda topic=topic: graph.node.count_subscribers(topic) == 1, WITHIN_S,
                         f'nobody listens to {topic}')
    if 'use_sim_time' in declared:
        answer = graph.call(GetParameters, '/robot1/segment/get_parameters',
                            GetParameters.Request(names=['use_sim_time']))
        assert answer.values[0].bool_value == (declared['use_sim_time'] == 'True')


RVIZ = """#!{python}
# Listens to what its config shows, as RViz does, and remaps as any node.
import sys, rclpy, yaml
from sensor_msgs.msg import CompressedImage, Image, LaserScan, PointCloud2
from nav_msgs.msg import OccupancyGrid
TYPES = {{'Image': Image, 'Map': OccupancyGrid, 'PointCloud2': PointCloud2,
         'LaserScan': LaserScan}}
config = yaml.safe_load(open(sys.argv[sys.argv.index('-d') + 1]))
rclpy.init(args=sys.argv)
node = rclpy.create_node('rviz')
for display in config['Visualization Manager']['Displays']:
    topic = display['Topic']['Value']
    type_ = CompressedImage if topic.endswith('/compressed') else TYPES[
        display['Class'].rpartition('/')[2]]
    node.create_subscription(type_, topic, print, 1)
rclpy.spin(node)
"""


@pytest.fixture
def rviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put in RViz's place a node that listens to what its config shows."""
    prefix = tmp_path / 'rviz'
    program = prefix / 'lib' / 'rviz2' / 'rviz2'
    index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'rviz2'
    for file in (program, index):
        file.parent.mkdir(parents=True)
    index.touch()
    program.write_text(RVIZ.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')


def wait_for_rviz(graph: Graph, topic: str) -> None:
    graph.wait_until(
        lambda: 'segment_rviz' in [
            info.node_name for info in graph.node.get_subscriptions_info_by_topic(topic)],
        WITHIN_S, f'RViz does not listen to {topic}')


@pytest.mark.parametrize(('arguments', 'image', 'label'), [
    (('image:=eye/image_raw',), '/eye/image_raw', '/segment/label'),
    (('image:=eye/image_raw', 'namespace:=bot'), '/bot/eye/image_raw', '/bot/segment/label'),
    (('image:=/eye/image_raw', 'namespace:=bot', 'image_transport:=compressed'),
     '/eye/image_raw/compressed', '/bot/segment/label'),
    (('cameras:=front,left', 'namespace:=bot'), '/bot/front/image', '/bot/segment/front/label'),
], ids=['relative', 'namespace', 'compressed', 'cameras'])
def test_rviz_shows_the_topics_that_the_nodes_use(
    graph: Graph, rviz: None, arguments: tuple[str, ...], image: str, label: str
) -> None:
    process = launch(graph, 'segment.launch.py', 'rviz:=TRUE', *arguments)
    ground = label.partition('segment')[0] + 'ground'
    for topic in (image, label, f'{ground}/grid'):
        wait_for_rviz(graph, topic)
    graph.wait_for_output(process, f'ready: {image}', WITHIN_S)


def test_cameras_and_transport_of_a_parameter_file_reach_ground_node_and_rviz(
    graph: Graph, rviz: None, tmp_path: Path
) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('/**/segment: {ros__parameters: {cameras: [front, left], image_transport: '
                    'compressed}}\n/**/ground: {ros__parameters: {camera: {height: 1.2}}}\n')
    process = launch(graph, 'segment.launch.py', f'params_file:={file}', 'planning:=true',
                     'rviz:=true', 'namespace:=bot')
    graph.wait_for_output(
        process, 'ready: /bot/segment/front/label, /bot/segment/left/label, ', WITHIN_S)
    graph.wait_for_output(
        process, 'ready: /bot/front/image/compressed, /bot/left/image/compressed', WITHIN_S)
    wait_for_rviz(graph, '/bot/front/image/compressed')


@pytest.mark.parametrize(('arguments', 'words'), [
    (['segment.launch.py', 'params_file:=absent.yaml'],
     'params_file absent.yaml: there is no such file: give a file'),
    (['segment.launch.py', 'checkpoint:=absent.safetensors'],
     'checkpoint absent.safetensors: there is no such file: give a file'),
    (['demo.launch.py', 'checkpoint:=absent.safetensors', 'source:=absent'],
     'checkpoint absent.safetensors: there is no such file: give a file'),
    (['segment.launch.py', 'use_sim_time:=maybe'],
     "use_sim_time is 'maybe': give true or false"),
    (['segment.launch.py', 'log_level:=verbose'], "log_level is 'verbose': give debug, info"),
    (['segment.launch.py', 'imgae:=/eye/image'],
     'imgae: segment.launch.py takes no such argument: did you mean image?'),
    (['demo.launch.py', 'sorce:=0'],
     'sorce: demo.launch.py takes no such argument: did you mean source?'),
], ids=['file', 'checkpoint', 'demo', 'flag', 'level', 'typo', 'typo for the demo'])
def test_an_argument_that_cannot_be_heeded_ends_the_launch(
    graph: Graph, arguments: list[str], words: str
) -> None:
    process = launch(graph, *arguments)
    assert process.wait(WITHIN_S) == 1, process.describe()
    assert words in process.output
    assert 'Traceback' not in process.output
    assert 'segment_node' not in process.output


def test_a_dump_of_the_parameters_can_be_given_back(graph: Graph, tmp_path: Path) -> None:
    process = launch(graph, 'segment.launch.py', 'image:=/eye/image')
    graph.wait_for_output(process, 'ready: ', WITHIN_S)
    dump = subprocess.run(['ros2', 'param', 'dump', '/segment', '--no-daemon'],
                          text=True, capture_output=True)
    assert 'min_confidence: 0.0' in dump.stdout, dump.stderr
    (tmp_path / 'dump.yaml').write_text(dump.stdout)
    process.stop(signal.SIGINT, WITHIN_S)
    again = launch(graph, 'segment.launch.py', 'image:=/eye/image',
                   f'params_file:={tmp_path / "dump.yaml"}')
    graph.wait_for_output(again, 'ready: /eye/image', WITHIN_S)
