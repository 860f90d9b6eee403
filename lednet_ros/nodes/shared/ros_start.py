# SPDX-License-Identifier: Apache-2.0
"""
ROS's start, for every command and node: where it cannot start, one line says why.

Loads nothing of ROS before it is asked for: with a middleware that is not there, rclpy ends the
process as it is imported.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree

from lednet_ros.common.errors import ConfigError, first_line
from lednet_ros.nodes.shared.dds_profile import (
    PROFILE,
    config_file,
    profile_variables,
    uses_fast_dds,
)

if TYPE_CHECKING:
    from rclpy.executors import Executor
    from rclpy.node import Node

T = TypeVar('T')

MAX_DOMAIN = 232  # the ports of those above it would be over 65535: Fast DDS ends the process
SWITCHES = ('RCUTILS_LOGGING_USE_STDOUT', 'RCUTILS_LOGGING_BUFFERED_STREAM',
            'RCUTILS_COLORIZED_OUTPUT')
# Nobody else is in this domain, nor is anyone looked for.
APART = {'ROS_DOMAIN_ID': str(MAX_DOMAIN), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF'}


def init(args: Sequence[str] | None, context: Any = None) -> None:
    """
    Start rclpy, with Python's signal handlers. Raise ConfigError over what hinders it.

    `args` are a process's own where they are None.
    """
    check_middleware()
    check_environment()
    given = sys.argv if args is None else args
    # Jazzy's tells it too, in nine lines.
    if not _log_variables() and '--disable-external-lib-logs' not in given:
        raise ConfigError(_no_log('HOME is not set'))
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    try:
        rclpy.init(args=args, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # of a type that depends on the distribution
        raise ConfigError(_why(error, given)) from error


def make_node(make: Callable[[], T]) -> T:
    """Make a node. Raise ConfigError where middleware or parameters of rclpy's do not let it."""
    from rclpy.exceptions import InvalidParameterTypeException
    try:
        with warnings.catch_warnings():  # of what was not made, and so cannot be given back
            warnings.filterwarnings('ignore', 'Failed to fini', RuntimeWarning)
            return make()
    except InvalidParameterTypeException as error:  # of those that rclpy itself declares
        text = str(error.args[0])
        raise ConfigError(f'{text.rpartition(": ")[0] or text}: correct it') from error
    except RuntimeError as error:  # rclpy's own is one
        if not str(error).startswith('error creating node'):
            raise
        raise ConfigError(f'ROS cannot start: {_text(error)}: {_look_at()}') from error


@functools.cache
def check_middleware() -> None:
    """
    Raise ConfigError where RMW_IMPLEMENTATION names what is not installed.

    To be called before rclpy is imported.
    """
    name = os.environ.get('RMW_IMPLEMENTATION', '')
    if not name or _is_registered(name):
        return
    tried = _try('import rclpy', {})
    if tried.returncode and 'No module named' not in tried.stderr:
        said = _plain(tried.stderr)
        raise ConfigError(f'RMW_IMPLEMENTATION is {name!r}: this middleware cannot be loaded '
                          f'({said[0] if said else f"code {tried.returncode}"}): install it, '
                          'or unset the variable')


def check_environment() -> None:
    """Raise ConfigError over variables with which ROS would not start, or not as they ask."""
    environment = os.environ
    domain = environment.get('ROS_DOMAIN_ID', '')
    if domain and not (re.fullmatch(r'\s*[0-9]+', domain) and int(domain) <= MAX_DOMAIN):
        raise ConfigError(f'ROS_DOMAIN_ID is {domain!r}: give a whole number from 0 to '
                          f'{MAX_DOMAIN}, or unset it')
    for name in SWITCHES:
        if environment.get(name, '') not in ('', '0', '1'):
            raise ConfigError(f'{name} is {environment[name]!r}: give 0 or 1, or unset it')
    if uses_fast_dds(environment):
        for name in profile_variables(environment):
            if environment.get(name):
                _check_profile(name, environment[name])


def _check_profile(name: str, path: str) -> None:
    """Raise ConfigError over a profile that Fast DDS would pass over, and go on without."""
    try:
        ElementTree.parse(path)
        if os.path.samefile(path, config_file(PROFILE)):
            return
        problem = _fast_dds_problem()
    except (OSError, ElementTree.ParseError) as error:
        problem = getattr(error, 'strerror', None) or f'is no XML: {first_line(error)}'
    if problem:
        raise ConfigError(f'{name} is {path!r}: {problem}: give a Fast DDS profile, or unset '
                          'the variable')


def _fast_dds_problem() -> str:
    """
    Return what Fast DDS says of its profile, in a process of its own; '' if nothing.

    It judges as a participant is made, and tells the console only.
    """
    tried = _try('import rclpy; rclpy.init(args=[]); rclpy.create_node("trial")', APART)
    errors = [line for line in _plain(tried.stderr + tried.stdout) if 'XMLPARSER Error' in line]
    return errors[0].partition('Error]')[2].partition(' -> Function')[0].strip() if errors else ''


def _try(program: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', program], env={**os.environ, **environment},
                          stdin=subprocess.DEVNULL, capture_output=True, encoding='utf-8',
                          errors='replace')


def _plain(text: str) -> list[str]:
    """Return the lines that say something, without colours and ROS's time and name."""
    text = re.sub(r'\x1b\[[0-9;]*m|, at /\S+:\d+', '', text)
    text = re.sub(r'^\[\w+\] \[[\d.]+\] \[\w+\]: ', '', text, flags=re.MULTILINE)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _is_registered(rmw: str) -> bool:
    """Whether ament knows it, or, of wheels, Python."""
    try:
        from ament_index_python import get_resources
        return rmw in get_resources('rmw_typesupport')
    except (ImportError, LookupError, OSError):  # no ament, or no AMENT_PREFIX_PATH
        return rmw.isidentifier() and importlib.util.find_spec(rmw) is not None


def _why(error: Exception, args: Sequence[str]) -> str:
    """Return one line for a failed rclpy.init."""
    text = _text(error)
    if re.search(r'log(ging)? director|Failed opening file .*\.log', text):
        return _no_log(*(f'{name} is {os.environ[name]!r}' for name in _log_variables()[:1]), text)
    is_secure = os.environ.get('ROS_SECURITY_ENABLE', '').lower() == 'true'
    if 'SECURITY' in text or (is_secure and text.endswith('error not set')):
        return (f'ROS cannot start with security: {text}: correct ROS_SECURITY_KEYSTORE and the '
                'enclave, or unset ROS_SECURITY_ENABLE')
    if '--ros-args' in args:
        return f'{text}: correct what follows --ros-args'
    return f'ROS cannot start: {text}: {_look_at()}'


def _log_variables() -> list[str]:
    """Return what is set of the variables that say where the log is, the one that counts first."""
    return [name for name in ('ROS_LOG_DIR', 'ROS_HOME', 'HOME') if os.environ.get(name)]


def _no_log(*why: str) -> str:
    return (f'ROS cannot write its log: {": ".join(why)}: set ROS_LOG_DIR to a directory that can '
            'be written to')


def _text(error: Exception) -> str:
    """Return what an error of ROS says, without the places in its source."""
    return re.sub(r'(, at )?/\S+\.[ch]p*:\d+\b', '', str(error)).strip().partition('\n')[0][:200]


def _look_at() -> str:
    """Return the remedy where a setting is at fault and ROS does not say which."""
    about = ('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_', 'CYCLONEDDS_', 'ZENOH_')
    usual = ('ROS_DISTRO', 'ROS_VERSION', 'ROS_PYTHON_VERSION')
    names = sorted(name for name in os.environ if name.startswith(about) and name not in usual)
    return f'look at {", ".join(names)}' if names else "look at the machine's network"


def spin(executor: Executor) -> None:
    """
    Call callbacks until ROS is shut down.

    Neither a message that cannot be read nor a topic that another thread closes just then ends it:
    rclpy raises over both, and whoever waits for messages would wait in vain.
    """
    from rclpy.executors import ExternalShutdownException
    while executor.context.ok():
        try:
            return executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:
            logging.getLogger(__name__).warning(
                'a callback failed: %s: %s: going on', type(error).__name__, first_line(error))


def spin_in_thread(node: Node, stack: ExitStack) -> None:
    """Have a node's callbacks called in a thread of their own until the stack ends, and ROS."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor,), name='listen', daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(rclpy.try_shutdown)  # before the join: the last in is the first out
