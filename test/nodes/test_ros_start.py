# SPDX-License-Identifier: Apache-2.0
"""Where ROS cannot start, every command and node says why in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared import ros_start
from lednet_ros.nodes.shared.dds_profile import PROFILE, config_file, large_image_environment

ROOT = Path(__file__).parents[2]
NODES = ('segment_node', 'ground_node', 'semantic_cloud_node', 'image_source_node')
COMMANDS = (*NODES, 'lednet_top', 'lednet_latency_report', 'lednet_demo')
RUN = """
import sys
from lednet_ros.cli import console_scripts as commands
for name in sys.argv[1:]:
    code = getattr(commands, name)(['--source', '.'] if name == 'lednet_demo' else [])
    assert code == 1, (name, code)
"""
VALID = '<dds xmlns="http://www.eprosima.com"><profiles>{}</profiles></dds>'
PARTICIPANT = VALID.format('<participant profile_name="a" is_default_profile="true"><rtps>{}'
                           '</rtps></participant>')


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the variables be those of a test alone."""
    for name in list(os.environ):
        if name.startswith(('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_', 'RCUTILS_')):
            monkeypatch.delenv(name)
    ros_start.check_middleware.cache_clear()


def said_by(names: tuple[str, ...], environment: dict[str, str | None]) -> list[str]:
    """Run commands, which all have to fail, and return their lines."""
    variables = {**os.environ, 'PYTHONPATH': str(ROOT),
                 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', **environment}
    with tempfile.TemporaryDirectory() as directory:  # for lednet_demo's output
        done = subprocess.run(
            [sys.executable, '-c', RUN, *names], text=True, capture_output=True, cwd=directory,
            env={name: value for name, value in variables.items() if value is not None})
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('ROS_DOMAIN_ID', 'robot1', 'from 0 to 232, or unset it'),
    ('RMW_IMPLEMENTATION', 'rmw_nobodys_cpp', 'this middleware cannot be loaded ('),
    ('FASTDDS_DEFAULT_PROFILES_FILE', '/no/such.xml', 'No such file or directory: give'),
    ('RCUTILS_LOGGING_USE_STDOUT', 'yes', 'give 0 or 1, or unset it'),
])
def test_a_variable_that_ros_cannot_start_with_is_one_line_in_every_command(
    name, value, words
) -> None:
    if name.startswith('FASTDDS'):
        [name] = ros_start.profile_variables({})[:1]
    lines = said_by(COMMANDS, {name: value})
    assert len(lines) == len(COMMANDS), lines
    for line, command in zip(lines, COMMANDS, strict=True):
        assert line.startswith(f'{command.removesuffix("_node")}')
        assert f': {name} is {value!r}: ' in line
        assert words in line


@pytest.mark.parametrize('command', ['ground_node', 'lednet_top', 'lednet_demo'])
@pytest.mark.parametrize(('environment', 'words'), [
    ({'ROS_LOG_DIR': '/proc/log'}, "ROS_LOG_DIR is '/proc/log': "),
    ({'ROS_LOG_DIR': '/proc'}, "ROS_LOG_DIR is '/proc': "),
    ({'HOME': '/proc'}, "HOME is '/proc': "), ({'HOME': None}, 'HOME is not set: '),
], ids=str)
def test_a_log_that_cannot_be_written_is_one_line(command, environment, words) -> None:
    [line] = said_by((command,), environment)
    assert f'ROS cannot write its log: {words}' in line
    assert line.endswith(': set ROS_LOG_DIR to a directory that can be written to')


@pytest.mark.parametrize('domain', ['', '0', '7', ' 42', '232'])
def test_a_domain_that_there_is_will_do(monkeypatch, domain) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)
    ros_start.check_environment()


@pytest.mark.parametrize('domain', ['233', '300', '-1', '5x', '1.5', 'robot1', '9' * 40, '٣'])
def test_a_domain_that_there_is_not_is_named(monkeypatch, domain) -> None:
    """Above 232 Fast DDS ends the process; 5x would be 5."""
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)
    with pytest.raises(ConfigError, match=r'ROS_DOMAIN_ID is .*: give a whole number'):
        ros_start.check_environment()


@pytest.mark.parametrize(('text', 'words'), [
    ('rubbish', 'is no XML: '), ('', 'is no XML: '), ('<dds><profiles>', 'is no XML: '),
    (None, 'No such file'), ('a directory', 'Is a directory'),
    ('<foo/>', 'Not found root tag'),
    (PARTICIPANT.format('<rubbish/>'), "Invalid element found into 'rtpsParticipant"),
], ids=['words', 'empty', 'cut', 'none', 'directory', 'other XML', 'unknown element'])
def test_a_profile_that_fast_dds_would_pass_over_is_named(
    monkeypatch, tmp_path, text, words
) -> None:
    [name] = ros_start.profile_variables({})[:1]
    path = tmp_path if text == 'a directory' else tmp_path / 'profile.xml'
    if text not in (None, 'a directory'):
        path.write_text(text)
    monkeypatch.setenv(name, str(path))
    with pytest.raises(ConfigError) as caught:
        ros_start.check_environment()
    assert str(caught.value).startswith(f"{name} is '{path}': {words}")
    assert str(caught.value).endswith(': give a Fast DDS profile, or unset the variable')
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp')  # which does not read it
    ros_start.check_environment()


def test_a_profile_of_the_users_will_do_and_ours_costs_no_trial(monkeypatch, tmp_path) -> None:
    [name] = ros_start.profile_variables({})[:1]
    (tmp_path / 'profile.xml').write_text(PARTICIPANT.format('<name>mine</name>'))
    monkeypatch.setenv(name, str(tmp_path / 'profile.xml'))
    ros_start.check_environment()
    monkeypatch.delenv(name)
    monkeypatch.setattr(ros_start, '_try', None)
    for variable, path in large_image_environment({}).items():
        assert path == str(config_file(PROFILE))
        monkeypatch.setenv(variable, path)
    ros_start.check_environment()


def test_the_middleware_that_is_there_will_do(monkeypatch) -> None:
    ros_start.check_middleware()
    ros_start.check_middleware.cache_clear()
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    ros_start.check_middleware()


@pytest.mark.parametrize(('text', 'args', 'environment', 'words'), [
    ("failed to initialize rcl: Couldn't parse params file, at /project/src/rcl/arguments.c:415",
     ['--ros-args', '-p', 'x'], {},
     "failed to initialize rcl: Couldn't parse params file: correct what follows --ros-args"),
    ('failed to initialize rcl: no room', ['--once'], {'RMW_NOISE': '1', 'ROS_DISTRO': 'kilted'},
     'ROS cannot start: failed to initialize rcl: no room: look at RMW_NOISE'),
    ('failed to initialize rcl: no room', [], {}, "no room: look at the machine's network"),
    ("failed to initialize rcl: SECURITY ERROR: directory '/x/enclaves' does not exist., at "
     '/project/src/rcl/security.c:202', ['--ros-args'], {},
     'does not exist.: correct ROS_SECURITY_KEYSTORE and the enclave'),
    ('failed to initialize rcl: error not set', [], {'ROS_SECURITY_ENABLE': 'true'},
     'correct ROS_SECURITY_KEYSTORE and the enclave'),
])
def test_arguments_are_blamed_only_where_they_are_the_cause(
    monkeypatch, text, args, environment, words
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert words in ros_start._why(RuntimeError(text), args)


def test_a_participant_that_cannot_be_made_is_one_line(monkeypatch) -> None:
    monkeypatch.setenv('ROS_STATIC_PEERS', 'rub:bish')

    def fail() -> None:
        raise RuntimeError('error creating node: Unable to resolve peer rub:bish\n, at '
                           '/project/src/participant.cpp:256, at /project/src/rcl/node.c:249')

    with pytest.raises(ConfigError) as caught:
        ros_start.make_node(fail)
    assert str(caught.value) == ('ROS cannot start: error creating node: Unable to resolve peer '
                                 'rub:bish: look at ROS_STATIC_PEERS')


def test_what_is_raised_over_one_message_or_topic_ends_no_listening() -> None:
    """Else lednet_top and the demo would stand still, and say nothing."""
    from rclpy.executors import ExternalShutdownException
    raised = [UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'no text'), RuntimeError('destroyed'),
              ExternalShutdownException()]

    def fail() -> None:
        raise raised.pop(0)

    ros_start.spin(SimpleNamespace(  # type: ignore[arg-type]
        spin=fail, context=SimpleNamespace(ok=lambda: True)))
    assert raised == []


def test_a_fault_of_a_node_s_own_is_none_of_ros() -> None:
    def fail() -> None:
        raise RuntimeError('a bug')

    with pytest.raises(RuntimeError, match='a bug'):
        ros_start.make_node(fail)
