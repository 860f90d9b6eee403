# SPDX-License-Identifier: Apache-2.0
"""Decoded images in, labels out, in a thread of its own: each image has one outcome, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lednet_ros.common.errors import in_words
from lednet_ros.images.encodings import Frame
from lednet_ros.nodes.segment.diagnostics import CameraStats
from lednet_ros.nodes.segment.latest_frame import LatestFrames
from lednet_ros.nodes.shared.latency import TOTAL, Latency

if TYPE_CHECKING:
    from lednet_ros.segmentation import Segmentation, Segmenter


@dataclass(frozen=True)
class QueuedFrame:
    """A decoded image on its way to the network."""

    frame: Frame
    header: Any                 # the message's, which its labels get too
    received_s: float           # monotonic
    decoded_s: float
    transport_ms: float | None  # from the header's stamp; None if that tells no age


class Camera(Protocol):
    """A camera, as far as it concerns its labels."""

    name: str
    stats: CameraStats

    def wanted(self) -> set[str]:
        """Return the outputs that someone listens to."""

    def log_rejection(self, problem: str) -> None:
        """Log, not too often, that a frame gets no labels."""


Publish = Callable[[str, QueuedFrame, 'Segmentation', set[str]], None]
"""Publishes a frame's labels, given the camera's name and the outputs that are listened to."""


class InferenceWorker:
    """
    Runs the network on the newest frame of each camera, as long as it is started.

    A job of `executor`, which should be the one thread that the Segmenter was made in. Any thread
    may `submit`; one thread starts, stops and closes it.
    """

    def __init__(
        self, executor: futures.Executor, segmenter: Segmenter, cameras: Sequence[Camera],
        publish: Publish, latency: Latency, options: Callable[[], Mapping[str, Any]] = dict,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Take over the Segmenter.

        `options` are those of Segmenter.segment now; `is_ending`: nothing can be published.
        """
        self.segmenter = segmenter
        self.problem = ''                      # why its last batch failed; '': it did not
        self.segmented_s: float | None = None  # when labels last went out, monotonic
        self._executor = executor
        self._cameras: Mapping[str, Camera] = {camera.name: camera for camera in cameras}
        self._publish = publish
        self._latency = latency
        self._options = options
        self._is_ending = is_ending
        self._frames: LatestFrames[QueuedFrame] = LatestFrames()
        self._job: futures.Future[None] | None = None

    def start(self) -> None:
        """Begin to take frames."""
        self._frames = LatestFrames()
        self._job = self._executor.submit(self._work, self._frames)

    def submit(self, name: str, queued: QueuedFrame) -> None:
        """Leave a camera's frame; it takes the place of one that still waits."""
        gone = self._frames.put(name, queued)
        if gone is not None:
            self._cameras[name].stats.dropped('deactivated' if gone is queued else 'newer')

    def stop(self, within_s: float) -> bool:
        """
        Take no more frames; return whether the thread is idle within so long.

        If it is, the frame in the making was the last to be published. Else it is dropped when
        the network gives it back.
        """
        for name in self._frames.close():
            self._cameras[name].stats.dropped('deactivated')
        self._frames.abandoned = not self.wait(within_s)
        return not self._frames.abandoned

    def wait(self, timeout_s: float) -> bool:
        """Wait for the thread to be idle; return whether it was in time. First stop it."""
        return self._job is None or not futures.wait([self._job], timeout_s).not_done

    def close(self) -> None:
        """Release the network's memory, in its thread, which has to be idle."""
        self._executor.submit(self.segmenter.close).result()

    def _work(self, frames: LatestFrames[QueuedFrame]) -> None:
        while not frames.closed:
            batch = frames.take()
            if not batch:
                continue
            began_s = time.monotonic()
            try:
                outputs = {name: self._cameras[name].wanted() for name in batch}
                segmentations = self._segment(batch, outputs)
            except Exception as error:
                # A frame that a backend fails on must not end the node: say so and go on.
                self.problem = in_words(error)
                for name in batch:
                    self._reject(name, f'segmenting failed: {self.problem}')
                continue
            self.problem = ''
            labelled_s = time.monotonic()
            for (name, queued), seen in zip(batch.items(), segmentations, strict=True):
                if frames.abandoned:  # the node is inactive, or already active again
                    self._cameras[name].stats.dropped('abandoned')
                elif self._publish_and_count(name, queued, seen, outputs[name]):
                    published_s = time.monotonic()
                    self._latency.add(published_s, stages_ms(
                        queued, seen.timings, began_s, labelled_s, published_s))

    def _segment(
        self, batch: Mapping[str, QueuedFrame], outputs: Mapping[str, set[str]]
    ) -> list[Segmentation]:
        segmentations = self.segmenter.segment(
            [queued.frame.pixels for queued in batch.values()],
            rgb=[queued.frame.rgb for queued in batch.values()],
            confidence=any('confidence' in names for names in outputs.values()),
            **self._options())
        if len(segmentations) != len(batch):
            raise RuntimeError(f'{len(segmentations)} label images for {len(batch)} frames')
        return segmentations

    def _publish_and_count(
        self, name: str, queued: QueuedFrame, seen: Segmentation, outputs: set[str]
    ) -> bool:
        """Publish a frame's labels; return whether that went well."""
        try:
            self._publish(name, queued, seen, outputs)
        except Exception as error:  # of one camera's, which costs the others nothing
            self._reject(name, f'publishing failed: {in_words(error)}')
            return False
        self._cameras[name].stats.segmented()
        self.segmented_s = time.monotonic()
        return True

    def _reject(self, name: str, problem: str) -> None:
        """Count a decoded image that gets no labels, or none that arrive."""
        camera = self._cameras[name]
        if self._is_ending():
            camera.stats.dropped('abandoned')
            return
        camera.stats.rejected(problem)
        camera.log_rejection(problem)


def stages_ms(
    queued: QueuedFrame, timings: Mapping[str, float], began_s: float, labelled_s: float,
    published_s: float,
) -> dict[str, float]:
    """Return how long each stage of a published frame took. Times are monotonic, in s."""
    stages = {
        'decode': (queued.decoded_s - queued.received_s) * 1e3,
        'queue': (began_s - queued.decoded_s) * 1e3,
        **timings,
        'publish': (published_s - labelled_s) * 1e3,
    }
    if queued.transport_ms is not None:
        stages['transport'] = queued.transport_ms
        stages[TOTAL] = queued.transport_ms + (published_s - queued.received_s) * 1e3
    return stages
