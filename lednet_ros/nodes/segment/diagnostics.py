# SPDX-License-Identifier: Apache-2.0
"""
What segment_node knows of itself, and what it says of that on /diagnostics. Without ROS.

A new value is one line: in CAMERA_VALUES, in ENGINE_VALUES, a cause in CAUSES, or a stage in
STAGES of shared/latency.py. Causes are counted where a frame meets them, in camera_io.py and
inference_worker.py. lednet_top, lednet_latency_report and the tests take outcomes and
causes from here.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lednet_ros.common.malloc import resident_mb
from lednet_ros.nodes.shared.latency import TOTAL, Quantiles
from lednet_ros.nodes.shared.status import ERROR, OK, WARN, Status, latency_values

if TYPE_CHECKING:
    from lednet_ros.segmentation import Segmenter
    from lednet_ros.segmentation.engine_build import BuildState

OUTCOMES = ('segmented', 'dropped', 'rejected')
"""What becomes of an image that reaches the callback: one of these, once."""

CAUSES = {  # why an image was dropped, in words for people
    'rate_limit': 'sooner than max_rate_hz allows',
    'newer': 'a newer one came before its turn',
    'deactivated': 'waiting when the node was deactivated',
    'abandoned': 'in the network for too long after the node was deactivated',
}

LOST_AT_SENDER = (
    'with Fast DDS a large image is lost at its sender unless the camera driver too runs with the '
    "large-image profile (docs/troubleshooting.md, 'No frames arrive')")


# What is counted.

@dataclass(frozen=True)
class CameraCounts:
    """A camera's record at one moment. Times are of the monotonic clock, in seconds."""

    received: int = 0
    segmented: int = 0
    dropped_by_cause: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    rejected: int = 0
    odd_stamps: int = 0
    last_rejection: str = ''
    last_odd_stamp: str = ''
    last_rejected: bool = False  # of those segmented or rejected, the last was rejected
    last_received_s: float | None = None
    size: str = ''               # 'WIDTHxHEIGHT' of the last image
    encoding: str = ''

    @property
    def dropped(self) -> int:
        """How many were dropped for any cause."""
        return sum(self.dropped_by_cause.values())


class CameraStats:
    """Counts for one camera; any thread ticks, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = CameraCounts()

    def received(self, now_s: float) -> None:
        """Count an image that reached the callback: it has one of the three outcomes below."""
        self._note('received', last_received_s=now_s)

    def segmented(self) -> None:
        """Count one whose labels were published, or would have been had anyone listened."""
        self._note('segmented', last_rejected=False)

    def dropped(self, cause: str) -> None:
        """Count one that was given up, for one of CAUSES, though nothing was wrong with it."""
        with self._lock:
            by_cause = self._counts.dropped_by_cause
            self._counts = replace(
                self._counts, dropped_by_cause={**by_cause, cause: by_cause[cause] + 1})

    def rejected(self, reason: str) -> None:
        """Count one that could not be used."""
        self._note('rejected', last_rejection=reason, last_rejected=True)

    def looks(self, size: str, encoding: str) -> None:
        """Note what the last image claims to be."""
        self._note(size=size, encoding=encoding)

    def odd_stamp(self, problem: str) -> None:
        """Count one whose stamp tells no age, or goes back."""
        self._note('odd_stamps', last_odd_stamp=problem)

    @property
    def counts(self) -> CameraCounts:
        """The record now."""
        return self._counts

    def _note(self, *counters: str, **facts: object) -> None:
        with self._lock:
            more = {name: getattr(self._counts, name) + 1 for name in counters}
            self._counts = replace(self._counts, **more, **facts)  # type: ignore[arg-type]


# Cameras.

@dataclass(frozen=True)
class CameraView:
    """A camera as the timer finds it."""

    topic: str
    counts: CameraCounts
    before: CameraCounts     # at the last report
    elapsed_s: float         # since then
    idle_because: str        # why the node does not listen to it; '': it does
    info_problem: str        # why no CameraInfo goes out although asked for; '': none
    endpoint_problem: str    # who on its topics cannot be matched, and why; '': none
    publishers: int
    image_age_s: float | None  # since the last image; None: there was none
    silent_s: float          # the same, or since listening to a publisher began if that is less

    def rate_hz(self, counter: str) -> float:
        """Return how often it counted in a second since the last report."""
        steps: int = getattr(self.counts, counter) - getattr(self.before, counter)
        return steps / self.elapsed_s


def _dropped(cause: str, view: CameraView) -> int:
    return view.counts.dropped_by_cause[cause]


CAMERA_VALUES: dict[str, Callable[[CameraView], object]] = {  # after 'state'; None is left out
    'topic': lambda view: view.topic,
    'publishers': lambda view: view.publishers,
    'received': lambda view: view.counts.received,
    'segmented': lambda view: view.counts.segmented,
    'dropped': lambda view: view.counts.dropped,
    **{f'dropped_{cause}': partial(_dropped, cause) for cause in CAUSES},
    'rejected': lambda view: view.counts.rejected,
    'last_rejection': lambda view: view.counts.last_rejection,
    'odd_stamps': lambda view: view.counts.odd_stamps,
    'last_odd_stamp': lambda view: view.counts.last_odd_stamp,
    'received_hz': lambda view: view.rate_hz('received'),
    'segmented_hz': lambda view: view.rate_hz('segmented'),
    'size': lambda view: view.counts.size,
    'encoding': lambda view: view.counts.encoding,
    'image_age_ms': lambda view: None if view.image_age_s is None else view.image_age_s * 1e3,
}


def camera_status(view: CameraView, stale_after_s: float) -> Status:
    """Judge a camera: its state is the first value, and the message names the cause."""
    state, level, message = _camera_state(view, stale_after_s)
    values = {name: value(view) for name, value in CAMERA_VALUES.items()}
    return Status(level, message, {'state': state, **_known(values)})


def _camera_state(view: CameraView, stale_after_s: float) -> tuple[str, bytes, str]:
    counts = view.counts
    if view.idle_because:
        if view.endpoint_problem:
            return 'idle', WARN, view.endpoint_problem
        return 'idle', OK, f'idle: {view.idle_because}'
    if view.image_age_s is not None and view.image_age_s < stale_after_s:
        # Others may be dropped meanwhile, unseen.
        if counts.last_rejected and counts.segmented == view.before.segmented:
            return 'rejected', ERROR, f'all images are rejected: {counts.last_rejection}'
        if counts.rejected > view.before.rejected:
            return 'active', WARN, f'some images are rejected: {counts.last_rejection}'
        if view.info_problem:
            return 'active', WARN, f'no camera_info goes out: {view.info_problem}'
        if view.endpoint_problem:
            return 'active', WARN, view.endpoint_problem
        if counts.odd_stamps > view.before.odd_stamps:
            return 'active', WARN, f'stamps tell no age: the last {counts.last_odd_stamp}'
        return 'active', OK, 'segmenting'
    if view.endpoint_problem:
        return 'stale' if counts.received else 'waiting', WARN, view.endpoint_problem
    if not view.publishers:
        state = 'stale' if counts.received else 'waiting'
        return state, WARN, f'nobody publishes {view.topic}: start the camera or remap the topic'
    if view.silent_s < stale_after_s:
        return 'waiting', OK, f'waiting for an image on {view.topic}'
    silence = f'{view.topic} has a publisher but no image came for {view.silent_s:.0f} s'
    if counts.received:
        return 'stale', WARN, f'{silence}: look at the camera'
    return 'stale', WARN, f'{silence}: {LOST_AT_SENDER}'


# The engine.

ENGINE_VALUES: dict[str, Callable[[Segmenter], object]] = {  # after 'state'; None is left out
    'backend': lambda network: network.backend_info.kind,
    'device': lambda network: network.backend_info.device,
    'precision': lambda network: network.backend_info.precision,
    'why': lambda network: network.backend_info.reason,
    'input': lambda network: f'{network.input_size[1]}x{network.input_size[0]}',
    'checkpoint': lambda network: network.checkpoint.name,
    'checkpoint_sha256': lambda network: network.checkpoint.sha256[:16],
    'labels': lambda network: network.labels.name,
    'classes': lambda network: len(network.labels),
    'cached': lambda network: None if network.build_s is None else not network.build_s,
    'build_s': lambda network: network.build_s,
    'self_check': lambda network: network.self_check,
    'self_check_agreement': lambda network: (
        f'{network.self_check.agreement:.5f}' if network.self_check is not None else None),
    'memory_mb': lambda network: resident_mb() or '',
}


def engine_status(segmenter: Segmenter, problem: str) -> Status:
    """Report a network that is there; `problem`: what its last batch failed with."""
    values = {name: value(segmenter) for name, value in ENGINE_VALUES.items()}
    return Status(
        ERROR if problem else OK, problem or segmenter.backend,
        {'state': 'failing' if problem else 'ready', **_known(values),
         **segmenter.device_health()}, f'{platform.node()} {segmenter.backend_info.device}')


def loading_status(build: BuildState | None) -> Status:
    """Report a network that is loaded and run for the first time, or whose engine is built."""
    if build is None:
        return Status(WARN, 'configuring', {'state': 'configuring'})
    return Status(WARN, f'compiling: {build.stage}',
                  {'state': 'compiling', 'elapsed_s': build.elapsed_s})


def unconfigured_status(problem: str) -> Status:
    """Report that there is no network, for a problem or as nobody has asked for one."""
    return Status(ERROR if problem else OK, problem or 'not configured', {})


# The latency, and all together.

class Camera(Protocol):
    """A camera, as far as reports look at it."""

    name: str
    topic: str
    stats: CameraStats
    info_problem: str

    @property
    def is_listening(self) -> bool:
        """Whether images can arrive."""

    @property
    def is_listening_to_info(self) -> bool:
        """Whether CameraInfos can arrive."""

    def endpoint_problem(self) -> str:
        """Name who on its topics cannot be matched; '': nobody."""


@dataclass(frozen=True)
class NodeState:
    """The node at the moment of a report."""

    now_s: float  # monotonic
    engine: Status
    cameras: Iterable[Camera]
    active_since_s: float | None  # None: it is not
    segmented_s: float | None     # when labels were last published; None: never
    label_timeout_s: float        # how long none may be while images come
    latency: Mapping[str, Quantiles]
    max_latency_ms: float
    stale_after_s: float


@dataclass
class _CameraMemory:
    """What reports remember of a camera, as long as it is the same one."""

    stats: CameraStats
    counts: CameraCounts = field(default_factory=CameraCounts)  # at the last one
    listening_since_s: float | None = None  # with a publisher there
    logged: tuple[str, bool, str] | None = None  # the trouble


class Reports:
    """Makes the statuses `engine`, `latency` and `camera <name>`; logs new trouble once."""

    def __init__(
        self, count_publishers: Callable[[str], int], warn: Callable[[str], object]
    ) -> None:
        self._count_publishers = count_publishers
        self._warn = warn
        self._memories: dict[str, _CameraMemory] = {}
        self._last_s: float | None = None
        self._coming_since_s: float | None = None  # images, of any camera; None: they do not

    def statuses(self, now: NodeState) -> dict[str, Status]:
        """Judge all there is; rates are those since the last time."""
        elapsed_s = max(now.now_s - self._last_s, 1e-3) if self._last_s else 1.0
        self._last_s = now.now_s
        memories, self._memories = self._memories, {}
        views: dict[str, CameraView] = {}
        cameras = {}
        for camera in now.cameras:
            memory = memories.get(camera.name)
            if memory is None or memory.stats is not camera.stats:  # configured anew
                memory = _CameraMemory(camera.stats)
            self._memories[camera.name] = memory
            views[camera.name] = view = self._view(camera, memory, now, elapsed_s)
            memory.counts = view.counts
            status = camera_status(view, now.stale_after_s)
            cameras[f'camera {camera.name}'] = status
            self._log_trouble(memory, view, status)
        images_come = any(
            not view.idle_because and view.image_age_s is not None
            and view.image_age_s < now.stale_after_s for view in views.values())
        self._coming_since_s = (self._coming_since_s or now.now_s) if images_come else None
        segmented_hz = sum(view.rate_hz('segmented') for view in views.values())
        latency = latency_status(now, segmented_hz, self._coming_since_s)
        return {task: replace(status, hardware_id=now.engine.hardware_id) for task, status in {
            'engine': now.engine, 'latency': latency, **cameras}.items()}

    def _view(
        self, camera: Camera, memory: _CameraMemory, now: NodeState, elapsed_s: float
    ) -> CameraView:
        publishers = self._count_publishers(camera.topic)
        idle_because = ''
        if not camera.is_listening:
            idle_because = ('the node is not active' if now.active_since_s is None
                            else 'nobody listens to its outputs')
        if idle_because or not publishers:
            memory.listening_since_s = None
        elif memory.listening_since_s is None:
            memory.listening_since_s = now.now_s
        counts = camera.stats.counts
        ages_s = [now.now_s - t for t in (counts.last_received_s, memory.listening_since_s)
                  if t is not None]
        return CameraView(
            camera.topic, counts, memory.counts, elapsed_s, idle_because,
            camera.info_problem if camera.is_listening_to_info else '',
            camera.endpoint_problem(), publishers,
            image_age_s=None if counts.last_received_s is None else ages_s[0],
            silent_s=min(ages_s, default=0.0))

    def _log_trouble(self, memory: _CameraMemory, view: CameraView, status: Status) -> None:
        # Not by the message, which counts the seconds.
        state = str(status.values['state'])
        trouble = (state, view.publishers > 0, view.endpoint_problem)
        if trouble != memory.logged and (state == 'stale' or view.endpoint_problem):
            self._warn(status.message)
        memory.logged = trouble


def latency_status(now: NodeState, segmented_hz: float, coming_since_s: float | None) -> Status:
    """Judge how old labels are, and whether there are any though images come."""
    total = now.latency.get(TOTAL)
    values = {'segmented_hz': segmented_hz, 'max_latency_ms': now.max_latency_ms,
              **latency_values(now.latency)}
    if coming_since_s is not None:
        missing_s = now.now_s - max(
            t for t in (coming_since_s, now.segmented_s, now.active_since_s) if t is not None)
        if missing_s > now.label_timeout_s:
            return Status(ERROR, f'images come but no labels for {missing_s:.0f} s: see the '
                          'engine and the cameras', values)
    if not total:
        return Status(OK, 'no latency within the last seconds', values)
    message = f'p95 {total.p95:.0f} ms from stamp to label'
    if 0 < now.max_latency_ms < total.p95:
        return Status(WARN, f'{message}, over the limit of {now.max_latency_ms:g} ms', values)
    return Status(OK, message, values)


def _known(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
