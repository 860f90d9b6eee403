# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile without which large best-effort images are lost, and when to set it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path

PROFILE = 'fastdds_large_images.xml'
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def config_file(name: str) -> Path:
    """Find a file of the package's config folder: colcon's, pip's or the checkout's."""
    places = []
    try:
        from ament_index_python.packages import get_package_share_directory
        places.append(Path(get_package_share_directory('lednet_ros')))
    except (ImportError, LookupError, OSError):  # no ament, not built by colcon, not sourced
        pass
    places += [Path(sys.prefix) / 'share' / 'lednet_ros', Path(__file__).resolve().parents[3]]
    for place in places:
        if (place / 'config' / name).is_file():
            return place / 'config' / name
    raise FileNotFoundError(f'{name}: not in {", ".join(map(str, places))}: install lednet_ros')


def large_image_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return what to add to a process's environment: the profile, unless the user chose otherwise.

    Empty where the middleware is not Fast DDS, or a profile or other built-in transports are
    already the user's. ROS_DISCOVERY_SERVER does not matter: Fast DDS (3.2) heeds both.
    """
    if not uses_fast_dds(environment):
        return {}
    if any(environment.get(v) for v in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        return {}
    return {profile_variables(environment)[0]: str(config_file(PROFILE))}


def uses_fast_dds(environment: Mapping[str, str]) -> bool:
    """Whether the middleware is Fast DDS, the default one."""
    return environment.get('RMW_IMPLEMENTATION', '') in (
        '', 'rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp')


def profile_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables by which this Fast DDS can be given a profile, the best one first."""
    return PROFILE_VARIABLES[_is_fast_dds_2(environment):]


def _is_fast_dds_2(environment: Mapping[str, str]) -> bool:
    """
    Whether it is Humble's or Jazzy's, which know the older name only; Kilted's complains of it.

    ROS 2 from wheels does not set ROS_DISTRO; there, Jazzy's rclpy has the major version 7.
    """
    if environment.get('ROS_DISTRO'):
        return environment['ROS_DISTRO'] in ('humble', 'iron', 'jazzy')
    try:
        return int(importlib.metadata.version('ros-rclpy').split('.')[0]) <= 7
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
