# SPDX-License-Identifier: Apache-2.0
"""How old an image is by its header, and what is odd about its stamp."""

from __future__ import annotations

from typing import NamedTuple

AHEAD_S = 0.05    # less: simulated time goes in steps (rosbag2's in 25 ms), clocks differ a little
MAX_AGE_S = 60.0  # older: stamped by another clock, as in a bag played without simulated time


class StampAge(NamedTuple):
    """An age by the node's clock."""

    ms: float | None  # None: the stamp tells none
    problem: str      # '': none


def age_of(stamp_ns: int, now_ns: int) -> StampAge:
    """Judge a stamp by the node's clock, which may be simulated."""
    if stamp_ns == 0:
        return StampAge(None, "is zero: look at the driver's header")
    if now_ns == 0:
        return StampAge(None, 'tells no age: use_sim_time is set and no /clock has come: start '
                              'what publishes it')
    ms = (now_ns - stamp_ns) / 1e6
    if -AHEAD_S * 1e3 < ms < 0:
        return StampAge(0.0, '')
    if ms < 0:
        return StampAge(None, f'is {_words(-ms)} in the future: synchronise the clocks')
    if ms > MAX_AGE_S * 1e3:
        return StampAge(None, f'is {_words(ms)} old: synchronise the clocks, or play the bag with '
                              '--clock and set use_sim_time')
    return StampAge(ms, '')


def going_back(stamp_ns: int, before_ns: int) -> str:
    """Say so when a stamp is before the camera's last one; '' when it is not."""
    if not 0 < stamp_ns < before_ns:
        return ''
    return (f'is {_words((before_ns - stamp_ns) / 1e6)} before the last: time jumped back, or two '
            'publish on the topic')


class StampMemory:
    """Judges each stamp of a camera by the node's clock and by the one before."""

    def __init__(self) -> None:
        self._last_ns = 0

    def judge(self, stamp_ns: int, now_ns: int) -> StampAge:
        """Return an image's age and what is odd about its stamp, which is the last from now on."""
        age = age_of(stamp_ns, now_ns)
        problem = age.problem or going_back(stamp_ns, self._last_ns)
        if age.ms is not None:  # else a single one from the future would spoil the next
            self._last_ns = stamp_ns
        return StampAge(age.ms, problem)

    def forget(self) -> None:
        """Compare with no stamp of before, as when time jumped back."""
        self._last_ns = 0


def _words(ms: float) -> str:
    for unit, length in (('days', 86_400e3), ('h', 3_600e3), ('s', 1e3)):
        if ms >= length:
            return f'{ms / length:.1f} {unit}'
    return f'{ms:.0f} ms'
