# SPDX-License-Identifier: Apache-2.0
import pytest

from lednet_ros.errors import ConfigError
from lednet_ros.node.launching import (
    camera_info_beside,
    is_true,
    namespace_to_add,
    parameter_files,
)


@pytest.mark.parametrize(('image', 'info'), [
    ('/camera/image_raw', '/camera/camera_info'), ('eye/image_raw', 'eye/camera_info'),
    ('image', 'camera_info'), ('/image', '/camera_info')])
def test_camera_info_lies_beside_the_image_and_stays_as_relative(image, info) -> None:
    assert camera_info_beside(image) == info


@pytest.mark.parametrize(('namespace', 'pushed', 'added'), [
    ('', '', ''), ('bot', '', 'bot'), ('/bot/', '', 'bot'), ('', '/robot1', ''),
    ('robot1', '/robot1', ''), ('/robot1', 'robot1', ''), ('a/b', '/a/b', ''),
    ('front', '/robot1', 'front'), ('bot1', '/robot1', 'bot1'), ('fleet/robot1', '/robot1',
                                                                 'fleet/robot1')])
def test_what_a_parent_has_pushed_is_not_put_before_twice(namespace, pushed, added) -> None:
    assert namespace_to_add(namespace, pushed) == added


@pytest.mark.parametrize(('words', 'meaning'), [
    (('true', 'True', 'TRUE', '1', ' true '), True), (('false', 'False', '0'), False),
    (('', ' '), None)], ids=str)
def test_flags_are_read_as_python_and_yaml_write_them(words, meaning) -> None:
    assert {is_true('use_sim_time', word) for word in words} == {meaning}


def test_other_words_are_named() -> None:
    with pytest.raises(ConfigError, match="rviz is 'maybe': give"):
        is_true('rviz', 'maybe')


def test_a_parameter_file_that_is_not_there_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / 'mine.yaml').write_text('{}')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert parameter_files('') == []
    assert parameter_files('~/mine.yaml') == [str(tmp_path / 'mine.yaml')]
    with pytest.raises(ConfigError, match=r'params_file absent\.yaml: there is no such file'):
        parameter_files('absent.yaml')
