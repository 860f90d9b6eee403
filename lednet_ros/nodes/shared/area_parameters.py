# SPDX-License-Identifier: Apache-2.0
"""What the ground and the cloud node look at around the robot, as their parameters say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lednet_ros.projection import Belief


def area_of(parameter: Callable[[str], Any]) -> dict[str, Any]:
    """Return the fields of AreaConfig."""
    return {
        'min_range': parameter('min_range'), 'max_range': parameter('max_range'),
        'grid_resolution': parameter('grid.resolution'), 'grid_size': parameter('grid.size'),
        # In the robot's own frame what was seen moves as the robot does, nobody knows where.
        'grid_decay_s': parameter('grid.decay_s') if parameter('grid.frame') else 0.0,
        'grid_belief': Belief(**{name: parameter(f'grid.{name}') for name in (
            'hit', 'miss', 'occupied_above', 'free_below')}),
        'angle_increment': parameter('free_space.angle_increment')}
