# SPDX-License-Identifier: Apache-2.0
"""Where camera, sensor and robot were when labels were taken: by TF, or parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from std_msgs.msg import Header

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared.parameters import Rule
from lednet_ros.nodes.shared.tf import NoPose, Transforms, takes_tf
from lednet_ros.projection import Pose

STILL = Pose.from_quaternion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Poses:
    """Where things were. All but the last in the output frame at the labels' stamp."""

    camera: Pose               # when the labels were taken
    sensor: Pose               # of depth or points, when those were taken; else the camera's
    robot: Pose | None = None  # in the grid's frame; None: no grid goes out
    no_grid: str = ''          # why; '': nobody listens to it


def height_rule(camera: str) -> Rule:
    """Return what must hold of a camera's height: without it, and without TF, there is no pose."""
    name = f'{_prefix(camera)}.height'
    return Rule((name, 'pose_source'), partial(_check_height, name))


def _check_height(name: str, height: float, pose_source: str) -> None:
    if not takes_tf(pose_source):
        _check_given(name, height)


def _check_given(name: str, height: float) -> None:
    if not height:
        raise ConfigError(f"the camera's pose is not known: {name} is 0: give it and what else is "
                          'not 0, or let pose_source be tf')


def _prefix(camera: str) -> str:
    """Return what the parameters of a camera's pose begin with."""
    return f'camera.{camera}' if camera else 'camera'


class PoseFinder:
    """
    Finds poses of one camera; without `transforms`, of one whose pose the parameters give.

    `forget` is called where they give another one than before: what was seen until then is not
    where it seemed to be. Frames that may be left out are ''.
    """

    def __init__(
        self, transforms: Transforms | None, parameter: Callable[[str], Any],
        forget: Callable[[], None], output_frame: str, fixed_frame: str = '', camera: str = '',
    ) -> None:
        self._prefix = _prefix(camera)
        self._transforms = transforms
        self._parameter, self._forget = parameter, forget
        self._output, self._fixed, self._grid = (
            output_frame, fixed_frame, parameter('grid.frame'))
        self._given: Pose | None = None  # by parameters
        for name, frame in (('grid.frame', self._grid), ('fixed_frame', fixed_frame)):
            if transforms is None and frame not in ('', output_frame):
                raise ConfigError(f'{name} is {frame!r} but there is no TF to follow the robot '
                                  'in it: install tf2_ros and let pose_source be tf, or leave it '
                                  'empty')

    def find(
        self, label: Header, other: Header | None, wanted: Collection[str], may_wait: bool,
    ) -> Poses | None:
        """
        Return where things were, None where TF may still tell; raise NoPose.

        `other` is the header of depth or points. A robot that is not found costs the grid alone.
        """
        try:
            camera = self._camera(label)
            sensor = camera if other is None else self._sensor(label, other, camera)
            if 'grid' not in wanted:
                return Poses(camera, sensor)
            try:
                return Poses(camera, sensor, self._robot(label))
            except NoPose as error:
                if len(wanted) == 1 or (may_wait and error.may_come):
                    raise
                return Poses(camera, sensor, no_grid=f'no grid goes out: {error}')
        except NoPose as error:
            if may_wait and error.may_come:
                return None
            raise

    def _camera(self, label: Header) -> Pose:
        if self._transforms:
            return self._transforms.pose(
                label.frame_id, self._output, label.stamp,
                'publish it, or set pose_source to parameters')
        name = f'{self._prefix}.height'
        _check_given(name, self._parameter(name))
        pose = Pose.of_camera(**{name: self._parameter(f'{self._prefix}.{name}') for name in (
            'height', 'roll', 'pitch', 'yaw', 'x', 'y')})
        if self._given not in (None, pose):
            self._forget()
        self._given = pose
        return pose

    def _sensor(self, label: Header, other: Header, camera: Pose) -> Pose:
        if self._transforms is None:
            if other.frame_id == label.frame_id:
                return camera
            if other.frame_id != self._output:
                raise NoPose(f'points are in frame {other.frame_id!r} and there is no TF: '
                             f'publish them in {self._output!r}, or install tf2_ros')
            return STILL
        if self._fixed:
            return self._transforms.moved(
                other.frame_id, other.stamp, self._output, label.stamp, self._fixed,
                f'publish where {self._output} is in {self._fixed}, or leave fixed_frame empty')
        return self._transforms.pose(other.frame_id, self._output, other.stamp,
                                     'publish where the sensor is on the robot')

    def _robot(self, label: Header) -> Pose:
        if self._transforms is None or self._grid in ('', self._output):
            return STILL
        return self._transforms.pose(
            self._output, self._grid, label.stamp,
            f'publish where {self._output} is in {self._grid}, at most tf_timeout_s later than '
            'labels come')
