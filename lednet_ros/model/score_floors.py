# SPDX-License-Identifier: Apache-2.0
"""How low the largest score of ordinary pixels goes, by class: far below is likely no class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lednet_ros.common.errors import ConfigError

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # at which floors are kept

_NEVER = -1e4       # below every score, and a number in fp16
_FEWEST_PIXELS = 200


@dataclass(frozen=True)
class ScoreFloors:
    """By class, the scores that shares of the pixels seen as it lie below. Checked when made."""

    shares: tuple[float, ...]                       # rising, 0 to 1
    by_class: tuple[tuple[float, ...] | None, ...]  # a score for each share; None: not known

    def __post_init__(self) -> None:
        rows = [row for row in self.by_class if row is not None]
        if not self.shares or sorted(self.shares) != list(self.shares) or not (
                0 < self.shares[0] <= self.shares[-1] < 1) or any(
                len(row) != len(self.shares) or not np.isfinite(row).all() for row in rows):
            raise ConfigError('score_floors are damaged: fit them again, by lednet_evaluate '
                              '--calibrate')

    def at(self, share: float) -> tuple[float, ...]:
        """Return the score by class that this share lies below, between the kept ones linearly."""
        return tuple(_NEVER if row is None else float(np.interp(share, self.shares, row))
                     for row in self.by_class)

    @classmethod
    def of(cls, best: np.ndarray, seen: np.ndarray, classes: int) -> ScoreFloors:
        """Measure ordinary pixels: their largest score, floating (N,), and its class (N,)."""
        rows: list[tuple[float, ...] | None] = []
        for class_ in range(classes):
            own = best[seen == class_]
            rows.append(tuple(round(float(v), 4) for v in np.quantile(own, SHARES))
                        if len(own) >= _FEWEST_PIXELS else None)
        return cls(SHARES, tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, of plain JSON types."""
        return {'shares': list(self.shares),
                'by_class': [None if row is None else list(row) for row in self.by_class]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: int) -> ScoreFloors:
        """Check and take what a record holds. Raise ConfigError, KeyError, TypeError."""
        rows: Sequence[Any] = data['by_class']
        if len(rows) != classes:
            raise ConfigError(f'score_floors are of {len(rows)} classes, not {classes}')
        return cls(tuple(data['shares']),
                   tuple(None if row is None else tuple(row) for row in rows))
