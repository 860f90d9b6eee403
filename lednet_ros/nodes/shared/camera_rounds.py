# SPDX-License-Identifier: Apache-2.0
"""Frames of several cameras that wait for partners, for TF and for each other, and go out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from rclpy.node import Node
from rclpy.timer import Timer
from std_msgs.msg import Header

from lednet_ros.common.errors import ConfigError, LednetRosError
from lednet_ros.nodes.shared.camera_info import BadCameraInfo
from lednet_ros.nodes.shared.camera_input import CameraInput, absent, live
from lednet_ros.nodes.shared.image_messages import BadImage
from lednet_ros.nodes.shared.latency import TOTAL, Latency
from lednet_ros.nodes.shared.stamps import age_of
from lednet_ros.nodes.shared.status import RoundsState
from lednet_ros.nodes.shared.tf import NoPose

C = TypeVar('C', bound=CameraInput)
Parts = dict[str, Any]  # messages that belong together, by input
Wanted = Callable[[], Sequence[str]]  # outputs that someone listens to

WATCH_S = 0.2    # between two looks at who listens
POLL_S = 0.02    # while a label image waits for its transforms, or for other cameras
GATHER_S = 0.03  # that one camera's frame waits for those of the others

EXPECTED = (LednetRosError, BadImage, BadCameraInfo)  # their texts say all


class CameraRounds(Generic[C]):
    """
    A round is one new frame of each live camera, or of those that came in time.

    The node says what a frame is. `prepare(camera, parts, wanted, may_wait)` returns a call that
    looks at the parts and returns the frame, which has a `stamp_ns`; or None while TF may still
    come. `publish(wanted, live, new)` makes outputs of the live cameras' frames, some of which
    are new. What either raises becomes the camera's problem. All in the executor's thread.
    """

    def __init__(
        self, node: Node, cameras: list[C], parameter: Callable[[str], Any],
        prepare: Callable[[C, Parts, Sequence[str], bool], Callable[[], Any] | None],
        publish: Callable[[Sequence[str], Sequence[C], Sequence[C]], None],
    ) -> None:
        self._node = node
        self._cameras = cameras  # the node's own list, which may still be empty
        self._parameter = parameter
        self._prepare, self._make_outputs = prepare, publish
        self._since_s: float | None = None  # with frames that have not gone out yet
        self._listening_since_s: float | None = None
        self._projected_s: float | None = None
        self._counts = {'received': 0, 'projected': 0, 'rejected': 0, 'dropped_unheard': 0,
                        'dropped_no_tf': 0}
        self.mismatch = ''  # of the labels' meaning
        self.latency = Latency()

    # What comes in.

    def listen(
        self, inputs: Collection[str], take: Callable[[Any, str, Any], None],
    ) -> bool:
        """Subscribe to these inputs alone; return whether that begins a new time of listening."""
        begins = bool(inputs) and self._listening_since_s is None
        if begins:
            self._listening_since_s = time.monotonic()
            self.forget()
            for camera in self._cameras:
                camera.begin()
            self._projected_s = None
        if not inputs:
            self._listening_since_s = None
        for camera in self._cameras:
            camera.listen(inputs, take)
        return begins

    def put(self, camera: C, input_: str, parts: Parts | None) -> bool:
        """Count a message; return whether it made a set complete, which may now wait for TF."""
        self._counts['received'] += input_ == 'label'
        if parts is None:
            return False
        camera.waiting.put(parts, self._parameter('tf_timeout_s'))
        return True

    def forget(self) -> None:
        """Drop what waits for partners, transforms or other cameras."""
        self._counts['dropped_no_tf'] += sum(camera.forget() for camera in self._cameras)
        self._since_s = None

    # What goes out.

    def work(self, wanted: Wanted, poll: Timer) -> None:
        """Project what has its partners and transforms; let `poll` run while something waits."""
        for camera in self._cameras:
            camera.waiting.work(partial(self._handle, wanted, camera))
        if self._since_s is not None and time.monotonic() - self._since_s >= GATHER_S:
            self._end(wanted)
        if self._since_s is not None or any(camera.waiting for camera in self._cameras):
            poll.reset()
        else:
            poll.cancel()

    def _handle(self, wanted: Wanted, camera: C, parts: Parts, may_wait: bool) -> bool:
        """Project a label image whose partners have come and count it; False where it waits."""
        outcome = self._outcome(wanted, camera, parts, may_wait)
        if outcome:
            self._counts[outcome] += 1
        return bool(outcome)

    def _outcome(self, find_wanted: Wanted, camera: C, parts: Parts, may_wait: bool) -> str:
        """Project a label image; return which of the counts it is, '' where it waits for TF."""
        wanted = find_wanted()
        if not wanted:
            return 'dropped_unheard'
        try:
            look = self._prepare(camera, parts, wanted, may_wait)
            if look is None:
                return ''
            if camera.is_new:
                self._end(find_wanted)  # which waits for others; this camera's next one is here
            self._look(camera, parts['label'].header, look)
            if all(one.is_new for one in self._live()):
                self._publish(wanted)
        except Exception as error:
            if not self._node.context.ok():  # publishing while the node ends
                return 'dropped_unheard'
            self._complain(camera, error)
            return 'dropped_no_tf' if isinstance(error, NoPose) else 'rejected'
        return 'projected'

    def _look(self, camera: C, header: Header, look: Callable[[], Any]) -> None:
        """Let a camera's newest frame be seen; raise, and leave none, for what does not hold."""
        before, camera.seen, camera.is_new = camera.seen, None, False
        if self.mismatch:
            raise ConfigError(self.mismatch)
        if before is not None and stamp_ns_of(header) < before.stamp_ns:  # as a bag begins again
            for other in self._cameras:
                other.seen, other.is_new = None, False
        camera.seen = look()
        camera.is_new, camera.problem = True, ''
        if self._since_s is None:
            self._since_s = time.monotonic()

    def _end(self, find_wanted: Wanted) -> None:
        """Publish what there is of the cameras' newest frames."""
        wanted, waiting = find_wanted(), next((c for c in self._cameras if c.is_new), None)
        if waiting is None or not wanted:
            self._since_s = None
            return
        try:
            self._publish(wanted)
        except Exception as error:
            if self._node.context.ok():
                self._complain(waiting, error)

    def _publish(self, wanted: Sequence[str]) -> None:
        """Publish what is listened to, of all cameras that are live."""
        self._since_s = None
        cameras = self._live()
        new = [camera for camera in cameras if camera.is_new]
        for camera in self._cameras:
            camera.is_new = False
        self._make_outputs(wanted, cameras, new)
        self._projected_s = time.monotonic()

    def _live(self) -> list[C]:
        return live(self._cameras, self._parameter('stale_after_s'))

    def _complain(self, camera: C, error: Exception) -> None:
        """Report what is wrong with a frame, which must not end the node."""
        camera.problem = camera.words + words_of(error)
        self._node.get_logger().warning(
            f'nothing {"of it " if camera.name else ""}goes out: {camera.problem}',
            throttle_duration_sec=5.0)

    # What a report says.

    def absent(self) -> str:
        """Name a camera that takes no part in what goes out; '' where all do."""
        listens_for_long = (
            self._listening_since_s is not None and time.monotonic() - self._listening_since_s
            > self._parameter('diagnostics.stale_after_s'))
        return absent(self._cameras, self._parameter('stale_after_s'), listens_for_long)

    def age_ms(self, stamp_ns: int) -> float | None:
        """Return how old a stamp is by the node's clock; None where it tells no age."""
        return age_of(stamp_ns, self._node.get_clock().now().nanoseconds).ms

    def note_latency(self, stamp_ns: int, transport_ms: float | None, projection_s: float) -> None:
        """Take down how long a frame that has just gone out took, and how old it is now."""
        stages = {'projection': projection_s * 1e3}
        total_ms = self.age_ms(stamp_ns)
        if transport_ms is not None and total_ms is not None:
            stages.update({'transport': transport_ms, TOTAL: total_ms})
        self.latency.add(time.monotonic(), stages)

    def outcomes(self) -> dict[str, int]:
        """Return what became of the label images; a few may wait for their partners."""
        dropped = {'dropped_unheard': self._counts['dropped_unheard'],
                   'dropped_unmatched': sum(camera.unmatched for camera in self._cameras),
                   'dropped_no_tf': self._counts['dropped_no_tf']}
        return {**{name: self._counts[name] for name in ('received', 'projected', 'rejected')},
                'dropped': sum(dropped.values()), **dropped}

    def state(self, inputs: Collection[str]) -> RoundsState:
        """Return what a report says of all this, and of these inputs."""
        now_s = time.monotonic()
        return RoundsState(
            inputs=tuple(view for camera in self._cameras for view in camera.input_views(inputs)),
            listening_s=now_s - (self._listening_since_s or now_s),
            projected_ago_s=None if self._projected_s is None else now_s - self._projected_s,
            problem=next((c.problem for c in self._cameras if c.problem), ''),
            counts=self.outcomes(),
            stale_after_s=self._parameter('diagnostics.stale_after_s'),
            cameras=len(self._cameras),
            waiting=sum(len(camera.waiting) for camera in self._cameras))


def words_of(error: Exception) -> str:
    """Return what an error says, with its type where that is not one of ours."""
    return str(error) if isinstance(error, EXPECTED) else f'{type(error).__name__}: {error}'


def stamp_ns_of(header: Header) -> int:
    """Return a header's stamp."""
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)
