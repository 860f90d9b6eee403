# SPDX-License-Identifier: Apache-2.0
"""A node's process: from rclpy.init to the exit code, whatever signal comes when."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.task import Future

from lednet_ros.common.command import say
from lednet_ros.common.errors import LednetRosError, first_line
from lednet_ros.common.malloc import keep_freed_buffers
from lednet_ros.nodes.shared.ros_start import init, make_node

WAKE_S = 0.5  # the longest that a signal stays unseen, should nothing wake the executor
SIGNALS = (signal.SIGINT, signal.SIGTERM)
USAGE = """usage: {0}_node --ros-args [-p NAME:=VALUE ...] [--params-file FILE] [-r FROM:=TO ...]

-p             a parameter; while the node runs, ros2 param describe /{0} NAME explains it
--params-file  a YAML file of parameters
-r             another name for a topic, as image:=/camera/image_raw, or the node, as __node:=eye
"""


class Runnable(Protocol):
    """A rclpy node that `run` starts and ends."""

    done: Future  # set when it ends by itself, or with the exception that ended it

    def start(self) -> None:
        """Begin to work; may take long."""

    def stop(self) -> bool:
        """End what it does in threads of its own; return whether they are gone."""

    def get_logger(self) -> Any:
        """Return the node's own logger, the same one each time."""

    def destroy_node(self) -> None:
        """Leave the graph."""


def run(name: str, make: Callable[[threading.Event], Runnable], args: Sequence[str] | None) -> int:
    """
    Run a node until it is done or SIGINT or SIGTERM come; the process's exit code.

    `make` gets an event that is set by the first signal. An error that the user can mend is one
    line on stderr and exit code 1.
    """
    if (answered := _usage(name, args)) is not None:
        return answered
    keep_freed_buffers()
    stop = threading.Event()
    node, code = None, 0
    for number in SIGNALS:
        # Not rclpy's handlers, which shut the context down: whatever is under way could publish
        # and log no more. So ROS is there until the node has stopped, and no signal, repeated as
        # launch does or not, can raise KeyboardInterrupt, be it here or while cleaning up.
        signal.signal(number, lambda *_: stop.set())
    try:
        init(args)
        node = make_node(lambda: make(stop))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.done.add_done_callback(lambda _: executor.wake())
        with _woken_by_signals(executor):
            node.start()
            while not (stop.is_set() or node.done.done()):
                _spin_once(executor, node, stop)
        if node.done.done():
            node.done.result()
    except ExternalShutdownException:
        pass
    except LednetRosError as error:
        say(name, error)
        code = 1
    except Exception:
        # After a shutdown, whatever touches the context fails, each call in its own way.
        if rclpy.ok() and not stop.is_set():
            raise
    finally:
        has_stopped = _end(node)
    if not has_stopped:
        # Python cannot end while a thread is inside a driver or the network without risking a
        # crash.
        sys.stdout.flush()
        os._exit(code)
    # Python's last search for garbage walks through all of torch: 0.4 s of a core, on a busy
    # machine longer than the 5 s that launch waits.
    atexit.register(gc.freeze)
    return code


def _usage(name: str, args: Sequence[str] | None) -> int | None:
    """Answer --help, and words that are no arguments; the exit code, None if a node is to run."""
    words = other_words(sys.argv[1:] if args is None else args)
    if '-h' in words or '--help' in words:
        print(USAGE.format(name), end='')
        return 0
    if words:
        option = '-r' if ':=' in words[0] else '-p'
        say(name, f'{words[0]}: is no argument of this node: topics and parameters come after '
                  f'--ros-args, as in --ros-args {option} NAME:=VALUE (--help)')
        return 1
    return None


def _end(node: Runnable | None) -> bool:
    """End a node, if it could be made, and ROS; whether all of its threads are gone."""
    has_stopped = node is None or node.stop()
    rclpy.try_shutdown()
    # Else its shared memory may outlive it, and the middleware's threads be at work while
    # C++ takes down what they use: at times that is SIGSEGV.
    if node is None:
        gc.collect()  # one that could not be made is in a circle of references
    else:
        with suppress(Exception):
            node.destroy_node()
    for number in SIGNALS:
        # Python, as it ends, puts the deadly defaults back, but leaves an ignored signal
        # ignored.
        signal.signal(number, signal.SIG_IGN)
    return has_stopped


def other_words(args: Sequence[str]) -> list[str]:
    """Return what stands outside of `--ros-args ... --`, which ROS would pass over in silence."""
    words, are_for_ros = [], False
    for word in args:
        if word == ('--' if are_for_ros else '--ros-args'):
            are_for_ros = not are_for_ros
        elif not are_for_ros:
            words.append(word)
    return words


@contextmanager
def _woken_by_signals(executor: SingleThreadedExecutor) -> Iterator[None]:
    """Let a signal end the executor's waiting: Python runs its handler only afterwards."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wake() -> None:
        while os.read(reader, 1):
            with suppress(Exception):  # it may be shut down
                executor.wake()
        os.close(reader)

    threading.Thread(target=wake, name='signals', daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)


def _spin_once(executor: SingleThreadedExecutor, node: Runnable, stop: threading.Event) -> None:
    """
    Let one callback run; what others send does not end the node.

    rclpy's own callbacks raise over a transition that is not possible (up to Jazzy), a parameter
    of no known type, a time below 0.
    """
    try:
        executor.spin_once(timeout_sec=WAKE_S)
    except (ExternalShutdownException, LednetRosError):
        raise
    except Exception as error:
        if stop.is_set() or not rclpy.ok():
            raise
        # The node keeps its logger: one made anew at each call would throttle nothing.
        node.get_logger().error(
            f'a callback failed: {type(error).__name__}: {first_line(error)}: going on',
            throttle_duration_sec=5.0)
