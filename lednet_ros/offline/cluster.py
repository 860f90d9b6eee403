# SPDX-License-Identifier: Apache-2.0
"""
Jobs on the workers of a Ray cluster: parts of long recordings first, then the whole of each.

What a part makes is what an interrupted run would have left; the whole then takes it. So results
are those of one machine, and a worker that ends in the middle costs what it was about to write.
Sources, output and checkpoint have the same paths on every machine.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from lednet_ros.common.cpu import usable_cores
from lednet_ros.common.errors import BackendUnavailable, ConfigError, first_line
from lednet_ros.offline.cluster_worker import Board, Outcome, Setup, run_job
from lednet_ros.offline.jobs import Job, count_frames, cut
from lednet_ros.offline.work import KINDS, Work

LOCAL = 'local'      # an address: a Ray of our own, on this machine
TRIES = 3            # of a job whose worker ends
SHORTEST = 32        # frames: a smaller part is not worth opening its source
PARTS_A_WORKER = 4   # so that all have something to do until the end
SHOW_EVERY_S = 0.5
STORE_BYTES = 80 * 2**20  # of shared memory: only jobs and counts go through it
LONGEST_DIRECTORY = 40    # bytes; the names of Ray's sockets there have a limit

# A Ray of our own is for this machine and this run alone. Ray asks the clouds whether it is in one
# and reports that its reports are off; what is sent to this proxy arrives nowhere.
_NOWHERE = 'http://127.0.0.1:9'
_REPORTS_OFF = {'RAY_USAGE_STATS_ENABLED': '0'}
_ENVIRONMENT = {
    **_REPORTS_OFF, 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',
    'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0',
    **dict.fromkeys(('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'), _NOWHERE),
    **dict.fromkeys(('no_proxy', 'NO_PROXY'), '127.0.0.1,localhost'),
}


@dataclass(frozen=True)
class Cluster:
    """Which Ray: its address, or LOCAL with so many workers (0: one a core)."""

    address: str = LOCAL
    workers: int = 0


@dataclass
class _State:
    """What is still to be done, and what is being done."""

    ahead: deque[Job]
    wholes: dict[Job, Job] = field(default_factory=dict)     # by part: what follows its parts
    parts_left: Counter[Job] = field(default_factory=Counter)  # by whole
    running: dict[Any, Job] = field(default_factory=dict)    # by Ray's reference
    tries: Counter[Job] = field(default_factory=Counter)
    lost: list[Job] = field(default_factory=list)            # whose workers may have left files
    failed: set[Job] = field(default_factory=set)


def do_on_cluster(jobs: Sequence[Job], setup: Setup, work: Work, cluster: Cluster) -> None:
    """
    Do the jobs; counts, complaints and skips become those of `work`.

    Raise ConfigError, or BackendUnavailable where Ray is not installed.
    """
    state = _State(deque())
    try:
        with _connected(cluster) as ray:
            _run(ray, jobs, setup, work, state)
    finally:
        _tidy(state.lost, work)


def _run(
    ray: ModuleType, jobs: Sequence[Job], setup: Setup, work: Work, state: _State
) -> None:
    resources = ray.cluster_resources()
    gpus = 0 if setup.config.device == 'cpu' else int(resources.get('GPU', 0))
    slots = gpus or int(resources.get('CPU', 0)) or 1
    total = _plan(jobs, slots, work, state)
    run = ray.remote(run_job).options(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=0)
    board = ray.remote(Board).options(num_cpus=0).remote()
    work.tell(f'{len(state.ahead)} jobs for {slots} workers, {total} frames')
    task = work.progress.add_task('frames', total=total)
    try:
        while state.ahead or state.running:
            while state.ahead and len(state.running) < 2 * slots:
                job = state.ahead.popleft()
                # A whole goes once more through the frames of its parts.
                reference = run.remote(job, setup, None if job in state.parts_left else board)
                state.running[reference] = job
            ready, _ = ray.wait(list(state.running), timeout=SHOW_EVERY_S)
            for reference in ready:
                _take(ray, reference, state, work)
            work.progress.update(task, completed=min(total, _frames_done(ray, board)))
    finally:
        for reference in state.running:
            ray.cancel(reference, force=True)
        state.lost += state.running.values()
    work.progress.update(task, completed=total)


def _plan(jobs: Sequence[Job], slots: int, work: Work, state: _State) -> int:
    """Cut what is long; return how many frames there are, about."""
    counts = [count_frames(job, work) for job in jobs]
    most = max(SHORTEST, sum(counts) // (slots * PARTS_A_WORKER))
    for job, count in zip(jobs, counts, strict=True):
        pieces = cut(job, count, most - most % work.batch or work.batch)
        state.ahead += pieces or [job]
        if pieces and job.kind != 'pictures':
            state.wholes |= dict.fromkeys(pieces, job)
            state.parts_left[job] = len(pieces)
    return sum(counts)


def _take(ray: ModuleType, reference: Any, state: _State, work: Work) -> None:
    """Take what a job came to. Raise ConfigError where no job can come to anything."""
    job = state.running.pop(reference)
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError) or 'failed to import' in str(error):
            raise ConfigError('a worker cannot import lednet_ros or what it needs: install this '
                              f'version on every machine ({_last_line(error)})') from error
        raise  # a bug of ours
    except ray.exceptions.RayError as error:  # the worker, or its machine
        state.lost.append(job)
        state.tries[job] += 1
        cause = f'{job}: its worker ended ({first_line(error)})'
        if state.tries[job] < TRIES:
            work.tell(f'{cause}: it is run again')
            state.ahead.appendleft(job)
        else:
            work.complain(f'{cause}, {TRIES} times: left out: {work.output.again} tries again',
                          'parts whose workers ended')
            state.failed.add(state.wholes.get(job, job))
            _go_on(job, state)
        return
    if outcome.fatal:
        raise ConfigError(outcome.fatal)
    if job not in state.wholes:  # what parts find is found, and said, by the whole
        work.segmented += outcome.segmented
        work.kept += outcome.kept
        for complaint in outcome.complaints:
            work.complain(*complaint)
        for skip in outcome.skips:
            work.skip(*skip)
    for line in outcome.told:
        work.tell_once(line)
    _go_on(job, state)


def _go_on(job: Job, state: _State) -> None:
    """Put the whole in front once its last part is through, unless one of them failed."""
    if (whole := state.wholes.get(job)) is not None:
        state.parts_left[whole] -= 1
        if not state.parts_left[whole] and whole not in state.failed:
            state.ahead.appendleft(whole)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [''])[-1][:200]


def _frames_done(ray: ModuleType, board: Any) -> int:
    try:
        return int(ray.get(board.total.remote(), timeout=SHOW_EVERY_S))
    except ray.exceptions.RayError:  # it shows progress, and nothing hangs on it
        return 0


def _tidy(lost: Sequence[Job], work: Work) -> None:
    """Remove what workers that were ended have left half written."""
    for job in lost:
        for item in job.items:
            for kind in KINDS:
                place = work.output.directory / kind / item.name
                for directory in (place, place.parent):
                    for partial in directory.glob('.partial-*'):
                        if partial.is_file():
                            partial.unlink(missing_ok=True)


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError)
        raise BackendUnavailable(
            '--cluster: Ray ' + ('is not installed' if is_absent else
                                 f'cannot be loaded ({first_line(error)})')
            + ": pip install 'ray>=2.9', or do without --cluster") from error
    logging.getLogger('ray').setLevel(logging.ERROR)
    return ray


@contextmanager
def _connected(cluster: Cluster) -> Iterator[ModuleType]:
    """Yield Ray, connected to a cluster, or to one of our own that ends with this."""
    sigterm = signal.getsignal(signal.SIGTERM)
    quiet = {'log_to_driver': False, 'configure_logging': False, 'logging_level': logging.ERROR}
    is_local = cluster.address == LOCAL
    with ExitStack() as stack:
        stack.enter_context(_environment(_ENVIRONMENT if is_local else _REPORTS_OFF))
        ray = _import_ray()  # what it reads counts from then on
        directory = _directory(stack) if is_local else ''
        stack.callback(ray.shutdown)
        if is_local:
            ray.init(address=LOCAL, num_cpus=cluster.workers or usable_cores(),
                     include_dashboard=False, object_store_memory=STORE_BYTES,
                     _node_ip_address='127.0.0.1', _temp_dir=directory, **quiet)
        else:
            try:
                ray.init(address=cluster.address, **quiet)
            except Exception as error:  # of many kinds, by the form of the address
                raise ConfigError(
                    f'--cluster: {cluster.address}: cannot be reached: {first_line(error)}: give '
                    'the address of a running Ray, or none for one on this machine') from error
        signal.signal(signal.SIGTERM, sigterm)  # Ray has set its own
        yield ray


def _directory(stack: ExitStack) -> str:
    """Make a directory for Ray's sockets and logs that is removed in the end."""
    directory = tempfile.mkdtemp(prefix='lednet_ros-')
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    if len(os.fsencode(directory)) > LONGEST_DIRECTORY:
        directory = tempfile.mkdtemp(prefix='lednet_ros-', dir='/tmp')
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set what Ray reads, and put back what was there."""
    before = {name: os.environ.get(name) for name in (*settings, 'RAY_AUTH_TOKEN')}
    os.environ.update(settings)
    if settings is _ENVIRONMENT and not {'RAY_AUTH_TOKEN', 'RAY_AUTH_MODE'} & set(os.environ):
        # Else Ray keeps one in the home directory.
        os.environ['RAY_AUTH_TOKEN'] = secrets.token_hex(32)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
