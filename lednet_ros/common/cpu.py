# SPDX-License-Identifier: Apache-2.0
"""How many cores this process may use, and libraries that leave the others alone."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

# How often an idle thread of OpenMP looks for work before it sleeps: for the time between two
# layers of a large image, and not for as long as another process has the core
# (benchmarks/busy.py).
SPIN_COUNT = 30_000


_at_most = sys.maxsize  # cores


def use_at_most(cores: int) -> None:
    """Let this process have no more cores, as others of its kind have the rest."""
    global _at_most
    _at_most = cores


def usable_cores(root: Path = Path('/')) -> int:
    """
    Return the cores that affinity and cgroups' quotas (containers) leave to this process.

    A quota of 1.5 cores counts as 2. `root` is where /proc and /sys are.
    """
    cores = min(_at_most, len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError, IndexError):  # no cgroups, or none that can be read
        cores = min([cores, *(max(1, math.ceil(quota)) for quota in _quotas(root))])
    return cores


def set_up_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Set what OpenMP (torch) reads when it is loaded; what the user has set stays.

    To be called before torch is imported: afterwards only the quota is heeded.
    """
    if not {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'} & set(environment):
        environment['GOMP_SPINCOUNT'] = str(SPIN_COUNT)
    cores = usable_cores()
    if cores < len(os.sched_getaffinity(0)) and 'OMP_NUM_THREADS' not in environment:
        environment['OMP_NUM_THREADS'] = str(cores)
        if 'torch' in sys.modules:
            sys.modules['torch'].set_num_threads(cores)


def limit_opencv() -> None:
    """
    Let OpenCV have no more threads than cores, unless the user has said how many.

    It overlooks most quotas by itself: which ones depends on its version and on what it was built
    with.
    """
    import cv2
    if 'OPENCV_FOR_THREADS_NUM' not in os.environ and cv2.getNumThreads() > usable_cores():
        cv2.setNumThreads(usable_cores())


def _quotas(root: Path) -> Iterator[float]:
    """Yield each quota, in cores, of this process's cgroups and of those they lie in."""
    groups = [line.split(':', 2) for line in _lines(root / 'proc/self/cgroup')]
    for line in _lines(root / 'proc/self/mountinfo'):
        fields, _, source = line.partition(' - ')
        kind, *_, options = source.split()
        mounted, at = fields.split()[3:5]
        for _, controllers, path in groups:
            is_v2 = kind == 'cgroup2' and not controllers
            if not is_v2 and not (kind == 'cgroup' and 'cpu' in controllers.split(',')
                                  and 'cpu' in options.split(',')):
                continue
            inside = path.removeprefix(mounted) if mounted != '/' else path
            top = root / at.lstrip('/')
            place = top / inside.strip('/')
            while True:
                with suppress(OSError, ValueError, ZeroDivisionError):
                    yield from _quota_v2(place) if is_v2 else _quota_v1(place)
                if place == top or top not in place.parents:
                    break
                place = place.parent


def _quota_v2(place: Path) -> Iterator[float]:
    quota, period = (place / 'cpu.max').read_text(encoding='ascii').split()
    if quota != 'max':
        yield int(quota) / int(period)


def _quota_v1(place: Path) -> Iterator[float]:
    quota, period = (int((place / f'cpu.cfs_{name}_us').read_text(encoding='ascii'))
                     for name in ('quota', 'period'))
    if quota > 0:
        yield quota / period


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding='utf-8', errors='replace').splitlines()
