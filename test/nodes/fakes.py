# SPDX-License-Identifier: Apache-2.0
"""Run segment_node with a network that misbehaves: `python fakes.py NAME [ARGUMENT]`.

It is the node's own code with one thing replaced. The names are those of FAKES.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.nodes.segment import segment_node
from lednet_ros.segmentation import Segmentation, Segmenter, SegmenterConfig, engine_build, loader


def command(name: str, argument: object = '') -> list[str]:
    """Return the command that runs the node with one of FAKES."""
    return [sys.executable, __file__, name, str(argument)]


class Counting(Segmenter):
    """Writes what it is asked for."""

    def segment(self, *args: Any, confidence: bool = False, **more: Any) -> list[Segmentation]:
        print('segmented', 'with confidence' if confidence else 'without', flush=True)
        return super().segment(*args, confidence=confidence, **more)

    def colorize(self, labels: np.ndarray) -> np.ndarray:
        print('painted', flush=True)
        return super().colorize(labels)


class Failing(Segmenter):
    """The first one made fails after 3 frames, and as it is closed, as a lost GPU would."""

    made = frames = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Failing.made += 1

    def segment(self, frames: Sequence[np.ndarray], **more: Any) -> list[Segmentation]:
        Failing.frames += bool(frames[0].any())  # not when it is warmed up
        if Failing.made == 1 and Failing.frames > 3:
            raise RuntimeError('the device is lost')
        return super().segment(frames, **more)

    def close(self) -> None:
        super().close()
        if Failing.made == 1:
            raise RuntimeError('the device is lost')


class Loading(Segmenter):
    """Takes its time to be made, as one on a slow disk."""

    def __init__(self, *_: Any) -> None:
        time.sleep(600)


class Hanging(Segmenter):
    """Does not come back from the first camera image, as a GPU that hangs."""

    def segment(self, frames: Sequence[np.ndarray], **more: Any) -> list[Segmentation]:
        if frames[0].any():
            time.sleep(600)
        return super().segment(frames, **more)


def _with(segmenter: type[Segmenter]) -> Callable[[str], None]:
    def replace(argument: str) -> None:
        loader.Segmenter = segmenter

    return replace


def _compiling(program: str) -> None:
    """Have an engine built by a Python program, as there is no GPU here."""
    def needed_build(checkpoint: Checkpoint, config: SegmenterConfig) -> engine_build.ChildBuild:
        return engine_build.ChildBuild(None, config)

    engine_build._command = lambda *_: [sys.executable, '-c', program]
    loader.needed_build = needed_build


def _full_disk(_: str) -> None:
    """Fail each write beyond what is smaller than the model."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


FAKES: dict[str, Callable[[str], None]] = {
    'counting': _with(Counting), 'failing': _with(Failing), 'loading': _with(Loading),
    'hanging': _with(Hanging), 'compiling': _compiling, 'full disk': _full_disk,
}

if __name__ == '__main__':
    FAKES[sys.argv[1]](sys.argv[2])
    sys.exit(segment_node.main(sys.argv[2:]))
