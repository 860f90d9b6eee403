# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared.launch_arguments import (
    ParameterFile,
    camera_info_beside,
    camera_names,
    cloud_remappings,
    cloud_source,
    existing_file,
    full_name,
    ground_remappings,
    is_true,
    log_level,
    namespace_to_add,
    refuse_unknown,
    require_package,
)


@pytest.mark.parametrize(('image', 'info'), [
    ('/camera/image_raw', '/camera/camera_info'), ('eye/image_raw', 'eye/camera_info'),
    ('image', 'camera_info'), ('/image', '/camera_info')])
def test_camera_info_lies_beside_the_image_and_stays_as_relative(image, info) -> None:
    assert camera_info_beside(image) == info


@pytest.mark.parametrize(('namespace', 'pushed', 'added', 'name'), [
    ('', '', '', '/segment'), ('bot', '', 'bot', '/bot/segment'),
    ('bot/', '', 'bot', '/bot/segment'), ('/bot', '', '/bot', '/bot/segment'),
    ('/', '/robot1', '', '/robot1/segment'), ('', '/robot1', '', '/robot1/segment'),
    ('robot1', '/robot1', '', '/robot1/segment'), ('/robot1', '/robot1', '', '/robot1/segment'),
    ('a/b', '/a/b', '', '/a/b/segment'),
    ('robot1', '/robot1/front', '', '/robot1/front/segment'),
    ('/robot1', '/robot1/front', '', '/robot1/front/segment'),
    ('robot1', '/fleet/robot1', '', '/fleet/robot1/segment'),
    ('front', '/robot1', 'front', '/robot1/front/segment'),
    ('bot1', '/robot1', 'bot1', '/robot1/bot1/segment'),
    ('robot', '/robot1', 'robot', '/robot1/robot/segment'),
    ('fleet/robot1', '/robot1', 'fleet/robot1', '/robot1/fleet/robot1/segment'),
    ('/else', '/robot1', '/else', '/else/segment')])
def test_what_a_parent_has_pushed_is_not_put_before_twice(namespace, pushed, added, name) -> None:
    assert namespace_to_add(namespace, pushed) == added
    assert full_name('segment', added, pushed) == name


@pytest.mark.parametrize(('words', 'meaning'), [
    (('true', 'True', 'TRUE', '1', ' true '), True), (('false', 'False', '0'), False),
    (('', ' '), None)], ids=str)
def test_flags_are_read_as_python_and_yaml_write_them(words, meaning) -> None:
    assert {is_true('use_sim_time', word) for word in words} == {meaning}


def test_other_words_are_named() -> None:
    with pytest.raises(ConfigError, match="rviz is 'maybe': give"):
        is_true('rviz', 'maybe')


@pytest.mark.parametrize('text', ['front,left', '[front, left]', "['front', 'left']",
                                  '["front","left"]', ' front left '])
def test_cameras_are_named_as_people_write_lists(text) -> None:
    assert camera_names(text) == ['front', 'left']
    assert camera_names('') == camera_names("['']") == []


def test_a_severity_is_taken_in_any_case_and_another_word_named() -> None:
    assert log_level('INFO') == 'info'
    with pytest.raises(ConfigError, match="log_level is 'verbose': give debug, info"):
        log_level('verbose')


def test_a_file_that_is_not_there_is_named_with_its_argument(tmp_path, monkeypatch) -> None:
    (tmp_path / 'mine.yaml').write_text('{}')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert existing_file('params_file', '') == ''
    assert existing_file('params_file', '~/mine.yaml') == str(tmp_path / 'mine.yaml')
    with pytest.raises(ConfigError, match=r'params_file absent\.yaml: there is no such file'):
        existing_file('params_file', 'absent.yaml')
    with pytest.raises(ConfigError, match=r'checkpoint .*: is a directory: give a file'):
        existing_file('checkpoint', str(tmp_path))


@pytest.mark.parametrize(('typed', 'words'), [
    ('imgae:=/x', 'imgae: segment.launch.py takes no such argument: did you mean image'),
    ('param_file:=x', 'did you mean params_file'), ('zzz:=1', 'see `ros2 launch lednet_ros seg')])
def test_a_typo_in_an_argument_is_named(typed, words) -> None:
    known = ['image', 'params_file', 'planning']
    typical = ['/opt/ros/bin/ros2', 'launch', 'lednet_ros', 'segment.launch.py', 'image:=/x:=y']
    refuse_unknown(typical, 'segment.launch.py', known)
    with pytest.raises(ConfigError, match=re.escape(words)):
        refuse_unknown([*typical, typed], 'segment.launch.py', known)
    with pytest.raises(ConfigError, match=re.escape(words)):
        refuse_unknown(['ros2', 'launch', 'launch/segment.launch.py', typed],
                       'segment.launch.py', known)


def test_arguments_of_a_parent_launch_file_are_its_own() -> None:
    refuse_unknown(['ros2', 'launch', 'mine', 'bringup.launch.py', 'map:=x'],
                   'segment.launch.py', ['image'])


@pytest.mark.parametrize(('nodes', 'is_ours'), [
    ('/**', True), ('/**/segment', True), ('segment', False), ('/segment', False),
    ('/robot1/segment', True), ('robot1/segment', True), ('robot1/ground', False),
    ('/*/segment', True), ('/*', False), ('/**/ground', False), ('/robot', False)])
def test_a_parameter_file_is_read_as_ros_does(tmp_path, nodes, is_ours) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text(f'{nodes}:\n  ros__parameters:\n    cameras: [front, left]\n')
    names = ParameterFile(str(file)).cameras('/robot1/segment')
    assert names == (['front', 'left'] if is_ours else [])


def test_nested_namespaces_and_a_single_camera_are_read_from_a_parameter_file(tmp_path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text("robot1:\n  segment:\n    ros__parameters: {image_transport: compressed, "
                    "cameras: ['']}\n")
    found = ParameterFile(str(file))
    assert found.get('/robot1/segment', 'image_transport') == 'compressed'
    assert found.cameras('/robot1/segment') == []
    assert found.get('/segment', 'image_transport') is None
    assert ParameterFile('').get('/segment', 'image_transport') is None


@pytest.mark.parametrize(('text', 'words'), [
    (b'/**:\n  ros__parameters: {cameras: [front\n', 'cannot be read as YAML, line '),
    (b'\xff\xfe\x00', 'cannot be read as YAML'), (b'', 'holds no ros__parameters'),
    (b'[1, 2]', 'holds no ros__parameters'), (b'segment: {backend: torch}', 'holds no ros__')])
def test_what_is_no_parameter_file_is_named(tmp_path, text, words) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=re.escape(f'params_file {file}: {words}')) as error:
        ParameterFile(str(file))
    assert len(str(error.value).splitlines()) == 1


def test_a_package_that_an_argument_needs_and_is_not_there_is_named(
    monkeypatch, tmp_path
) -> None:
    pytest.importorskip('ament_index_python', reason='needs ROS 2')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with pytest.raises(ConfigError) as caught:
        require_package('rviz', 'rviz2')
    assert str(caught.value) == ('rviz: rviz2 is not installed: sudo apt install '
                                 'ros-jazzy-rviz2, or leave rviz out')
    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'rviz2').touch()
    require_package('rviz', 'rviz2')


def test_ground_node_takes_the_labels_of_all_cameras() -> None:
    assert ground_remappings([]) == [
        ('label', 'segment/label'), ('camera_info', 'segment/camera_info'),
        ('confidence', 'segment/confidence'), ('label_info', 'segment/label_info')]
    remappings = dict(ground_remappings(['front', 'left']))
    assert len(remappings) == 7
    assert remappings['left/camera_info'] == 'segment/left/camera_info'


def test_labels_go_by_depth_or_by_points() -> None:
    assert [cloud_source('', ''), cloud_source('/d', ''), cloud_source('', '/p')] == [
        '', 'depth', 'points']
    with pytest.raises(ConfigError, match='give one of them'):
        cloud_source('/d', '/p')


def test_the_cloud_node_takes_the_depth_of_all_cameras() -> None:
    assert dict(cloud_remappings([], 'depth', '/eye/depth'))['depth'] == '/eye/depth'
    remappings = dict(cloud_remappings(['front', 'left'], 'depth', 'depth/image_raw'))
    assert remappings['left/depth'] == 'left/depth/image_raw'
    assert remappings['left/label'] == 'segment/left/label'
    assert dict(cloud_remappings(['front'], 'points', '/lidar'))['front/points'] == '/lidar'
