# SPDX-License-Identifier: Apache-2.0
"""The one door: labels, cameras and their poses in; ground points, a grid and a scan out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lednet_ros.common.cpu import limit_opencv
from lednet_ros.common.errors import ConfigError
from lednet_ros.projection.camera import Camera
from lednet_ros.projection.grid import AreaConfig, Grid, nodes_per_cell
from lednet_ros.projection.ground_camera import GroundCamera
from lednet_ros.projection.ground_scan import GroundScan
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import Traversability
from lednet_ros.projection.view import View

_MOST_NODES = 4000  # along a side


@dataclass(frozen=True)
class GroundConfig(AreaConfig):
    """What is made of labels. `min_range` leaves out the robot's own bonnet. Checked when made."""

    grid_weighs: bool = False  # sightings by their confidence, in a grid that remembers

    def __post_init__(self) -> None:
        super().__post_init__()
        nodes = nodes_per_cell(self.grid_resolution)
        if nodes * self.grid_cells > _MOST_NODES:
            most = _MOST_NODES // nodes * self.grid_resolution
            raise ConfigError(f'a grid of {self.grid_size:g} m is too large to look at closely: '
                              f'make it {most:g} m at most')


class Ground:
    """
    Set it up by `set_camera`, hand it frames by `look`, ask for what is wanted.

    Of several cameras each has a name. What an output returns is overwritten by the next frame's.
    Used by one thread.
    """

    def __init__(self, traversability: Traversability, config: GroundConfig | None = None) -> None:
        limit_opencv()
        self.traversability = traversability
        self.config = config or GroundConfig()
        self._cameras: dict[str, GroundCamera] = {}
        self._scan: GroundScan | None = None
        self._grid = self.config.grid()

    def set_camera(self, camera: Camera, pose: Pose, name: str = '') -> View:
        """
        Return what a camera's next frames are seen by; cheap when nothing has changed.

        Raise NoGround where no ground is in view.
        """
        ours = self._cameras.setdefault(name, GroundCamera(self.traversability))
        return ours.set(camera, pose, self.config.min_range, self.config.max_range)

    def look(
        self, labels: np.ndarray, confidence: np.ndarray | None = None,
        min_confidence: float = 0.0, name: str = '',
    ) -> bool:
        """
        Take a frame: uint8 (H, W) of the camera's size, kept until the next one.

        Confidences are 0 to 255; a pixel less certain than `min_confidence`, 0 to 1, is unknown,
        and so is 255. Tells whether any pixel says anything of the ground.
        """
        return self._cameras[name].look(labels, confidence, min_confidence)

    def points(self, out: np.ndarray, name: str = '') -> None:
        """Fill `out`, float32 (H, W, 4), with every pixel's point: see GroundPoints.make."""
        self._cameras[name].points(out)

    def grid(self, stamp_s: float, x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> Grid:
        """Return the grid with this frame in it; the robot's place is in the grid's frame."""
        return self.grid_of({'': (x, y, yaw)}, stamp_s)

    def grid_of(
        self, places: Mapping[str, tuple[float, float, float]], stamp_s: float,
        blind: Collection[str] = (),
    ) -> Grid:
        """
        Return the grid with these cameras' frames in it, the newest last.

        `places` are the robot's x, y and yaw in the grid's frame when each was taken. Of cameras
        in `blind`, from which nothing comes, what they would see and no other sees is unknown.
        """
        cells = self.config.grid_resolution, self.config.grid_cells
        newest = list(places.values())[-1]
        self._grid.add_all(
            [*(self._cameras[name].blind(*cells, newest) for name in blind),
             *(self._cameras[name].sighting(*cells, place, self.config.grid_weighs)
               for name, place in places.items())], stamp_s, len(self._cameras) > 1)
        return self._grid

    def forget(self) -> None:
        """Empty the grid: what was seen until now is not where it was taken to be."""
        self._grid.forget()

    def free_space(self, names: Sequence[str] = ('',)) -> tuple[GroundScan, np.ndarray]:
        """Return the scan's geometry and its ranges, of these cameras: see GroundScan.make."""
        cameras = [self._cameras[name] for name in names]
        views = [camera.view for camera in cameras]
        if self._scan is None or self._scan.views != views:
            self._scan = GroundScan(views, self.config.angle_increment)
        return self._scan, self._scan.make(*(camera.codes for camera in cameras))
