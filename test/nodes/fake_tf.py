# SPDX-License-Identifier: Apache-2.0
"""Run ground_node with a stand-in for tf2_ros, which has no wheel: `python fake_tf.py HOW COUNT`.

The transform from base_link to odom is known from the COUNT-th time on that anything is asked for.
Until then it is missing, or, where HOW is 'late', said to come soon. 'no torch' stands for a
computer without torch, and no TF.
"""

from __future__ import annotations

import sys
import types
from collections import namedtuple
from typing import Any

Vector = namedtuple('Vector', 'x y z')
Quaternion = namedtuple('Quaternion', 'x y z w')
Transform = namedtuple('Transform', 'translation rotation')
Stamped = namedtuple('Stamped', 'transform')

EYE = Stamped(Transform(Vector(0.5, 0.0, 1.0), Quaternion(-0.5, 0.5, -0.5, 0.5)))
ROBOT = Stamped(Transform(Vector(30.0, -7.0, 0.0), Quaternion(0.0, 0.0, 2**-0.5, 2**-0.5)))


def command(how: str, count: int = 0) -> list[str]:
    """Return the command that runs the node so."""
    return [sys.executable, __file__, how, str(count)]


class TransformException(Exception):
    """What a buffer raises."""


class ExtrapolationException(TransformException):
    """The stamp is newer than all there is."""


class InvalidArgumentException(TransformException):
    """A frame has no name."""


class Buffer:
    """Knows two transforms, and no other."""

    is_late = False
    count = 0
    asked = 0

    def lookup_transform(self, target: str, source: str, time: Any) -> Stamped:
        Buffer.asked += 1
        if (target, source) == ('base_link', 'eye'):
            return EYE
        if (target, source) == ('odom', 'base_link'):
            if Buffer.asked > Buffer.count:
                return ROBOT
            if Buffer.is_late:
                raise ExtrapolationException('Lookup would require extrapolation into the future.')
        raise TransformException(f'"{target}" passed to lookupTransform does not exist.')

    def get_latest_common_time(self, target: str, source: str) -> Any:
        raise TransformException('not yet')

    def clear(self) -> None:
        Buffer.asked = 0
        print('cleared', flush=True)


class TransformListener:
    """Hears of nothing."""

    def __init__(self, buffer: Buffer, node: Any) -> None:
        pass


if __name__ == '__main__':
    if sys.argv[1] == 'no torch':
        sys.modules['torch'] = None  # type: ignore[assignment]
    else:
        Buffer.is_late, Buffer.count = sys.argv[1] == 'late', int(sys.argv[2])
        sys.modules['tf2_ros'] = types.ModuleType('tf2_ros')
        vars(sys.modules['tf2_ros']).update({c.__name__: c for c in (
            Buffer, TransformException, TransformListener, InvalidArgumentException)})
    from lednet_ros.nodes.ground import ground_node
    sys.exit(ground_node.main(sys.argv[3:]))
