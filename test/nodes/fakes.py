# SPDX-License-Identifier: Apache-2.0
"""Run segment_node with a part of its world replaced: `python fakes.py NAME ARGUMENT`.

It is the node's own code, with a network that misbehaves or a disk that is full, for one. The
names are those of FAKES.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.nodes.segment import segment_node
from lednet_ros.segmentation import Segmentation, Segmenter, SegmenterConfig, engine_build, loader


def command(name: str, argument: object = '') -> list[str]:
    """Return the command that runs the node with one of FAKES."""
    return [sys.executable, __file__, name, str(argument)]


class Counting(Segmenter):
    """Writes what it is asked for."""

    def segment(self, frames: Sequence[np.ndarray], *args: Any, **more: Any) -> list[Segmentation]:
        print('segmented', 'with confidence' if more.get('confidence') else 'without', flush=True)
        return super().segment(frames, *args, **more)

    def colorize(self, labels: np.ndarray) -> np.ndarray:
        print('painted', flush=True)
        return super().colorize(labels)


class Failing(Segmenter):
    """The first one made fails after 3 frames, and as it is closed, as a lost GPU would."""

    made = frames = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Failing.made += 1

    def segment(self, frames: Sequence[np.ndarray], *args: Any, **more: Any) -> list[Segmentation]:
        Failing.frames += bool(frames[0].any())  # not when it is warmed up
        if Failing.made == 1 and Failing.frames > 3:
            raise RuntimeError('the device is lost')
        return super().segment(frames, *args, **more)

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

    def segment(self, frames: Sequence[np.ndarray], *args: Any, **more: Any) -> list[Segmentation]:
        if frames[0].any():
            time.sleep(600)
        return super().segment(frames, *args, **more)


def replace(module: Any, name: str, stand_in: Any) -> None:
    """Replace a module's attribute for good."""
    patch.object(module, name, stand_in).start()


def use(segmenter: type[Segmenter]) -> Callable[[str], None]:
    """Return what has the node make such Segmenters."""
    return lambda argument: replace(loader, 'Segmenter', segmenter)


def compile_by(program: str) -> None:
    """Have an engine built by a Python program, as there is no GPU here."""
    def needed_build(checkpoint: Checkpoint, config: SegmenterConfig) -> engine_build.ChildBuild:
        return engine_build.ChildBuild(None, config)

    replace(engine_build, '_command', lambda *_: [sys.executable, '-c', program])
    replace(loader, 'needed_build', needed_build)


def fill_disk(_: str) -> None:
    """Let each write fail that is larger than what is smaller than the model."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def spell_labels(_: str) -> None:
    """Publish a String of names for LabelInfo: vision_msgs has no wheel."""
    from std_msgs.msg import String

    def make_label_info(labels: LabelSet, *_: Any) -> String:
        return String(data=','.join(labels.names))

    replace(segment_node, 'LabelInfo', String)
    replace(segment_node, 'make_label_info', make_label_info)


FAKES: dict[str, Callable[[str], None]] = {
    'counting': use(Counting), 'failing': use(Failing), 'loading': use(Loading),
    'hanging': use(Hanging), 'compiling': compile_by, 'full disk': fill_disk,
    'spelt labels': spell_labels,
}

if __name__ == '__main__':
    FAKES[sys.argv[1]](sys.argv[2])
    del sys.argv[1:3]  # which are not the node's
    sys.exit(segment_node.main())
