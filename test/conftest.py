# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from orchard import RECIPE, make_orchard
from ros_domain import take_domain

if 'PYTEST_XDIST_WORKER' in os.environ:  # before torch is imported, which reads it
    # The threads of one process would wait for those of the other, layer by layer.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, len(os.sched_getaffinity(0)) // int(
        os.environ['PYTEST_XDIST_WORKER_COUNT']))))

import lednet_ros  # noqa: F401  (before onnxruntime, so that it reports to nobody)

if TYPE_CHECKING:
    from ros_graph import Graph


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --time-limits: how long something takes is judged only where it is given."""
    parser.addoption('--time-limits', action='store_true',
                     help='hold the promised times too, on a machine with nothing else to do')


SLOW = {  # modules that start nodes or trainings, or measure, convert, compile and install
    'test_benchmark.py', 'test_cluster.py', 'test_colcon.py', 'test_demo.py', 'test_doctor.py',
    'test_drives.py', 'test_each_network.py', 'test_engine_build.py', 'test_evaluate.py',
    'test_launch.py', 'test_loading.py', 'test_ros_start.py', 'test_soak.py', 'test_tensorrt.py',
    'test_tensorrt_backend.py', 'test_traffic.py', 'test_train.py', 'test_warm_start.py'}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what has a ROS graph of its own, and some modules, which come first."""
    for item in items:
        if 'graph' in getattr(item, 'fixturenames', ()) or item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in SLOW)


def load_average() -> str:
    """Return how many processes wanted a core in the last 1, 5 and 15 minutes."""
    return 'load average ' + ' '.join(f'{load:.1f}' for load in os.getloadavg())


def pytest_report_header(config: pytest.Config) -> str:
    """Return what the machine had to do beside, before the run."""
    held = 'judged' if config.getoption('--time-limits') else 'not judged'
    return f'{load_average()} on {os.cpu_count()} cores; promised times are {held}'


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the same after the run."""
    terminalreporter.write_line(f'{load_average()} on {os.cpu_count()} cores')


@pytest.fixture
def times_are_held(request: pytest.FixtureRequest) -> bool:
    """Return whether promised times are judged: --time-limits is given."""
    return bool(request.config.getoption('--time-limits'))


@pytest.fixture
def within(times_are_held: bool) -> Callable[[float], AbstractContextManager[None]]:
    """Hold a block to a promised time in s, where --time-limits is given.

    Elsewhere it may take as long as a busy machine makes it: only the test's own deadlines, which
    tell that something hangs, end it.
    """
    @contextmanager
    def within(limit_s: float) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        took_s = time.monotonic() - began_s
        if times_are_held:
            assert took_s <= limit_s, f'took {took_s:.2f} s; {load_average()}'

    return within


@pytest.fixture(scope='session', autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep to a ROS domain of this process's own, and out of the user's cache of engines."""
    place = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        place = place.parent  # of all workers, so that an engine is built once
    domain, holder = take_domain()
    with holder, pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(place / 'cache'))
        patch.setenv('ROS_DOMAIN_ID', str(domain))
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        yield


@pytest.fixture
def orchard(tmp_path: Path) -> Path:
    """A data set in folders: 8 images to train with, 3 for validation."""
    return make_orchard(tmp_path / 'orchard')


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Make a recipe for the orchard, with knobs changed."""
    def make(**knobs: object) -> Path:
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**yaml.safe_load(RECIPE), **knobs}))
        return path
    return make


@pytest.fixture
def graph(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Graph]:
    """A ROS graph of the test's own (see ros_graph.py); skipped where rclpy is absent."""
    rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from ros_graph import Graph

    from lednet_ros.nodes.shared.dds_profile import large_image_environment

    monkeypatch.setenv('PYTHONUNBUFFERED', '1')
    # Fast DDS reads the profile once a process, so it is there from the first test on.
    for name, value in large_image_environment(os.environ).items():
        monkeypatch.setenv(name, value)
    graph = Graph(tmp_path_factory.mktemp('graph'))
    yield graph
    graph.close()
    rclpy.try_shutdown()  # a fixture that failed after rclpy.init would fail others' as well


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what a failed test's processes wrote."""
    outcome = yield
    report = outcome.get_result()
    graph: Any = getattr(item, 'funcargs', {}).get('graph')
    if report.failed and graph is not None:
        for process in graph.processes:
            report.sections.append((str(process.log), process.describe(lines=200)))
