# SPDX-License-Identifier: Apache-2.0
"""What the launch files decide, without launch: names that stay relative, flags, files."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lednet_ros.common.errors import ConfigError, first_line
from lednet_ros.common.paths import expanded

LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


def camera_info_beside(image: str) -> str:
    """
    Return a driver's CameraInfo topic: /camera/image_raw has /camera/camera_info beside it.

    A relative topic stays relative.
    """
    folder, slash, _ = image.rpartition('/')
    return f'{folder}{slash}camera_info'


def namespace_to_add(namespace: str, pushed: str) -> str:
    """
    Return the namespace for a node in a launch file that may lie in PushRosNamespace.

    A parent launch file's `namespace` reaches the files it includes, as Nav2's does, and its
    PushRosNamespace too: what was pushed is not put before the names a second time, be it the
    whole of it or, where more was pushed, a part. Else an absolute one stands for itself.
    """
    wanted = namespace.strip('/')
    if f'/{wanted}/' in f'/{pushed.strip("/")}/' or not wanted:
        return ''
    return f'/{wanted}' if namespace.startswith('/') else wanted


def full_name(name: str, namespace: str, pushed: str) -> str:
    """Return the name of a node in `namespace`, as `namespace_to_add` has it."""
    parts = f'{"" if namespace.startswith("/") else pushed}/{namespace}/{name}'.split('/')
    return ''.join(f'/{part}' for part in parts if part)


def cloud_source(depth: str, points: str) -> str:
    """Return which topic semantic_cloud_node goes by; '' if none is given. Raise ConfigError."""
    if depth and points:
        raise ConfigError(f'depth is {depth!r} and points {points!r}: give one of them')
    return 'depth' if depth else 'points' if points else ''


def is_true(name: str, value: str) -> bool | None:
    """
    Return what a launch argument says, in any case and in Python's or YAML's words; '': None.

    Raise ConfigError for other words.
    """
    words = {'': None, 'true': True, '1': True, 'yes': True, 'on': True,
             'false': False, '0': False, 'no': False, 'off': False}
    word = value.strip().lower()
    if word not in words:
        raise ConfigError(f'{name} is {value!r}: give true or false')
    return words[word]


def log_level(value: str) -> str:
    """Return a severity as ROS writes it. Raise ConfigError for what is none."""
    level = value.strip().lower()
    if level not in LEVELS:
        raise ConfigError(f'log_level is {value!r}: give {", ".join(LEVELS)}')
    return level


def existing_file(name: str, value: str) -> str:
    """Return an argument's file, '' for ''. Raise ConfigError where there is none of this name."""
    if not value:
        return ''
    file = expanded(value)
    if not file.is_file():
        what = 'is a directory' if file.is_dir() else 'there is no such file'
        raise ConfigError(f'{name} {value}: {what}: give a file, or leave {name} out')
    return str(file)


def require_package(argument: str, package: str) -> None:
    """Raise ConfigError where a ROS package is not installed that an argument needs."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    try:
        get_package_prefix(package)
    except PackageNotFoundError as error:
        distribution = os.environ.get('ROS_DISTRO') or '$ROS_DISTRO'
        raise ConfigError(f'{argument}: {package} is not installed: sudo apt install '
                          f'ros-{distribution}-{package}, or leave {argument} out') from error


def camera_names(value: str) -> list[str]:
    """Return the names in '[front, left]' or 'front,left'."""
    return re.sub(r'[\[\]\'",]', ' ', value).split()


def ground_remappings(cameras: Sequence[str]) -> list[tuple[str, str]]:
    """Return what makes ground_node take segment_node's labels, of its cameras or its only one."""
    return [(f'{prefix}{name}', f'segment/{prefix}{name}')
            for prefix in ([f'{camera}/' for camera in cameras] or [''])
            for name in ('label', 'camera_info', 'confidence')] + [
                ('label_info', 'segment/label_info')]


def cloud_remappings(cameras: Sequence[str], source: str, topic: str) -> list[tuple[str, str]]:
    """
    Return the same for semantic_cloud_node, with the topic of depth or points.

    Of several cameras each has one of that name, unless it is absolute.
    """
    return ground_remappings(cameras) + ([
        (f'{camera}/{source}', topic if topic.startswith('/') else f'{camera}/{topic}')
        for camera in cameras] or [(source, topic)])


def refuse_unknown(command_line: Sequence[str], file: str, known: Collection[str]) -> None:
    """
    Raise ConfigError for a typed launch argument that the launch file does not know.

    launch itself takes any name without a word. Only for the launch file that was asked for by
    `ros2 launch`: one that it includes has arguments of its own.
    """
    if file not in [Path(word).name for word in command_line]:
        return
    for word in command_line:
        name, given, _ = word.partition(':=')
        if given and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(f'{name}: {file} takes no such argument: '
                              + (f'did you mean {near[0]}?' if near else
                                 f'see `ros2 launch lednet_ros {file} --show-args`'))


class ParameterFile:
    """What a parameter file says for a node, as far as a launch file has to know it."""

    def __init__(self, file: str) -> None:
        """Read a file; '' is an empty one. Raise ConfigError where it is no parameter file."""
        try:
            content = yaml.safe_load(Path(file).read_text(encoding='utf-8')) if file else {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, 'problem_mark', None)
            where = f', line {mark.line + 1}' if mark else ''
            raise ConfigError(f'params_file {file}: cannot be read as YAML{where}: '
                              f'{getattr(error, "problem", "") or first_line(error)}: correct '
                              'it') from error
        self._nodes = list(_nodes(content)) if isinstance(content, dict) else []
        if file and not self._nodes:
            raise ConfigError(f'params_file {file}: holds no ros__parameters: give a file like '
                              'config/segment.yaml')

    def get(self, node: str, name: str) -> Any:
        """Return a parameter of a node that is named in full, None where the file is silent."""
        found = None
        for pattern, parameters in self._nodes:
            if re.fullmatch(pattern, node) and isinstance(parameters, dict):
                found = parameters.get(name, found)
        return found

    def cameras(self, node: str) -> list[str]:
        """Return the names in a node's `cameras`; a single empty one stands for none."""
        names = self.get(node, 'cameras')
        return [name for name in names if name and isinstance(name, str)] if isinstance(
            names, list) else []


def _nodes(tree: dict[Any, Any], namespace: str = '') -> Iterator[tuple[str, Any]]:
    """Yield each node's name as a regular expression, by ROS's wildcards, and its parameters."""
    for key, value in tree.items():
        if key == 'ros__parameters':
            tokens = [token for token in namespace.split('/') if token]
            yield ''.join({'**': '(/[^/]+)*', '*': '/[^/]+'}.get(token, f'/{re.escape(token)}')
                          for token in tokens), value
        elif isinstance(value, dict):
            yield from _nodes(value, f'{namespace}/{key}')
