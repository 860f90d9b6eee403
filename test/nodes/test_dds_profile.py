# SPDX-License-Identifier: Apache-2.0
import importlib.metadata
import xml.etree.ElementTree as ET

import pytest

from lednet_ros.nodes.shared.dds_profile import PROFILE, config_file, large_image_environment


@pytest.mark.parametrize(('distro', 'variable'), [
    ('lyrical', 'FASTDDS_DEFAULT_PROFILES_FILE'), ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE')])
def test_the_profile_is_set_by_the_name_that_the_distribution_knows(distro, variable) -> None:
    assert large_image_environment({'ROS_DISTRO': distro}) == {variable: str(config_file(PROFILE))}


@pytest.mark.parametrize(('rclpy', 'variable'), [
    ('7.1.6', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('9.1.2', 'FASTDDS_DEFAULT_PROFILES_FILE')])
def test_ros_from_wheels_is_told_by_its_version(monkeypatch, rclpy, variable) -> None:
    monkeypatch.setattr(importlib.metadata, 'version', {'ros-rclpy': rclpy}.__getitem__)
    assert list(large_image_environment({})) == [variable]


@pytest.mark.parametrize('chosen', [
    {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, {'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'},
    {'FASTRTPS_DEFAULT_PROFILES_FILE': '/mine.xml'}, {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}],
    ids=lambda c: next(iter(c)))
def test_what_the_user_chose_is_left_alone(chosen) -> None:
    assert large_image_environment(chosen) == {}


def test_fast_dds_named_by_the_user_gets_the_profile() -> None:
    assert large_image_environment({'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'})


def test_the_profile_is_well_formed_and_the_default() -> None:
    root = ET.parse(config_file(PROFILE)).getroot()
    participant = root.find('.//{*}participant')
    assert participant is not None
    assert participant.get('is_default_profile') == 'true'
